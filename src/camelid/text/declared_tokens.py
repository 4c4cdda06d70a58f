"""Tokens, stops and chat templates that a folder declares beside its vocabulary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from camelid.base.errors import CamelidError, reason_of, shortened
from camelid.base.json import read_table
from camelid.text.vocabulary import add_named

NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
"""The roles of tokens in transformers."""
REQUIRED = ("bos", "eos", "pad", "unk")
"""The roles whose tokens vocabularies without a tokenizer.json must have."""


def add_declared(
    backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any], plain: bool = True
) -> None:
    """Adds the tokens that a folder declares outside its vocabulary, each at its id, with its flags.

    As in transformers these are the tokens of `added_tokens_decoder`, else of `added_tokens.json`, and the
    further special tokens. A token that the vocabulary has keeps its id and gets the flags. plain: tokens are
    found in the text as it is, although they declare to be found in the normalised text.
    """
    declared: dict[int, AddedToken] = {}
    special = _special(config)
    try:
        if decoder := config.get("added_tokens_decoder"):
            for index, entry in decoder.items():
                flags = {key: bool(entry.get(key)) for key in ("lstrip", "rstrip", "single_word", "special")}
                flags["normalized"] = not plain and bool(entry.get("normalized", not flags["special"]))
                declared[int(index)] = AddedToken(entry["content"], **flags)
        else:
            for token, index in read_table(folder / "added_tokens.json", optional=True).items():
                flags = {"special": token in special, "normalized": not plain and token not in special}
                declared[index] = AddedToken(token, **flags)
        entries = sorted(declared.items())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CamelidError(f"{folder}: the added tokens are damaged: {error!r}") from error
    known = {token.content: repr(token) for token in backend.get_added_tokens_decoder().values()}
    new = {added.content for _, added in entries if backend.token_to_id(added.content) is None}
    # One call: every call iterates over all tokens added before.
    backend.add_tokens([added for _, added in entries if known.get(added.content) != repr(added)])
    for index, added in entries:
        if added.content in new and (actual := backend.token_to_id(added.content)) != index:
            raise CamelidError(
                f"{folder}: the added token {added.content!r} is declared as id {index} but would "
                f"get {actual}; "
                "the vocabulary and tokenizer_config.json belong to different models"
            )
    required = {token_text(config.get(f"{name}_token")) for name in REQUIRED if plain}
    present = {token.content for token in backend.get_added_tokens_decoder().values()}
    wanted = [token for token, named in special.items() if named or token not in present]
    add_named(backend, [token for token in wanted if token not in required])


def _special(config: Mapping[str, Any]) -> dict[str, bool]:
    """The special tokens, under each name that transformers has had for them, and whether they have a name.

    Those with a name are special with any other flags; lists only add what the vocabulary lacks.
    """
    named = [token_text(config.get(f"{name}_token")) for name in NAMED]
    listed: list[str | None] = []
    for key in ("additional_special_tokens", "extra_special_tokens"):
        values = config.get(key)
        if isinstance(values, Mapping):
            named += map(token_text, values.values())
        elif isinstance(values, list):
            listed += map(token_text, values)
    named += [text for key, text in config.items() if key.endswith("_token") and isinstance(text, str)]
    names = {token: True for token in named if token is not None}
    return names | {token: token in names for token in listed if token is not None}


def token_text(token: Any) -> str | None:
    """A token as `tokenizer_config.json` writes it: a string, or a table with `content`."""
    content = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(content, str | None):
        raise CamelidError(f"tokenizer_config.json names the token {shortened(token)}; it must be a string")
    return content


def declared_stops(folder: Path, generation: Mapping[str, Any]) -> list[int]:
    """The ids that end a generation, from a generation_config.json."""
    named = generation.get("eos_token_id")
    stops: list[Any] = named if isinstance(named, list) else [] if named is None else [named]
    if any(type(stop) is not int for stop in stops):
        raise CamelidError(
            f"{folder}: eos_token_id of generation_config.json is {shortened(named)}; ids are numbers"
        )
    return stops


def declared_template(folder: Path, named: Any) -> str | None:
    """The template of chat_template.jinja, else the one in tokenizer_config.json, which may hold several."""
    if (jinja := folder / "chat_template.jinja").is_file():
        try:
            return jinja.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CamelidError(f"{jinja} cannot be read: {reason_of(error)}") from error
    if isinstance(named, list) and all(isinstance(entry, Mapping) for entry in named):
        named = {str(entry.get("name")): entry.get("template") for entry in named}.get("default")
    if not isinstance(named, str | None):
        raise CamelidError(
            f"{folder}: chat_template of tokenizer_config.json is not a text: {shortened(named)}"
        )
    return named
