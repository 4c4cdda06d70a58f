"""Finds a model's folder: a local one, or `org/name` on the hub."""

import re
from pathlib import Path

from camelid.base.errors import CamelidError, WrongCall, reason_of, refuse_not_utf8

PATTERNS = ["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt"]
"""The files of a checkpoint folder; pickles and other frameworks' weights are not downloaded."""
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def resolve(path_or_name: str | Path) -> Path:
    """The local folder of a model: an existing folder, else `org/name` is downloaded to the hub's cache.

    HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE have their usual meaning. Raises `CamelidError` with
    what was looked for, where, and what would help.
    """
    path, name = Path(path_or_name), str(path_or_name)
    refuse_not_utf8(name)
    if not name:
        raise WrongCall("the model is empty; give a checkpoint folder or a model on the hub as org/name")
    if path.is_dir():
        return path
    if path.is_file():
        raise CamelidError(f"{name} is a file, but a model is a folder{_what_to_do_with(path)}")
    if not HUB_NAME.fullmatch(name):
        raise CamelidError(
            f"there is no folder {name}; give a checkpoint folder or a model on the hub as org/name"
        )
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise CamelidError(
            f'there is no folder {name}; if it is a model on the hub: pip install "camelid[hub]"'
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS))
    except (OSError, ValueError, errors.HTTPError) as error:
        raise CamelidError(f"there is no folder {name}, and {_explain(error)}") from error


def _what_to_do_with(path: Path) -> str:
    if path.suffix.lower() == ".gguf":
        return f"; convert it: camelid import {path} OUT"
    return "; give the folder that holds its config.json"


def _explain(error: Exception) -> str:
    """Why the download failed, and the way out."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    hub = constants.ENDPOINT
    # Some versions wrap the hub's answer in a LocalEntryNotFoundError.
    responses = (getattr(each, "response", None) for each in (error, error.__cause__))
    status = next((response.status_code for response in responses if response is not None), None)
    match error:
        case GatedRepoError():
            return f"{hub} requires that you accept its terms: do so on the model's page, then set HF_TOKEN"
        case RepositoryNotFoundError():
            return f"{hub} has no such model, or it is private: check the name, or set HF_TOKEN"
        case _ if status == 401:
            return f"{hub} does not accept the token: set a valid HF_TOKEN"
        case LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            return f"HF_HUB_OFFLINE is set and {constants.HF_HOME} does not hold the model"
        case LocalEntryNotFoundError() if status is not None:
            return f"{hub} answered {status}: try again later"
        case LocalEntryNotFoundError():
            return f"{hub} cannot be reached: check the network or HF_ENDPOINT"
        case _:
            return f"{hub} failed: {reason_of(error)}"
