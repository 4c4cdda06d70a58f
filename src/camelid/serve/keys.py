"""The file of keys: a name and the SHA-256 of a key a line; the keys themselves are nowhere."""

import secrets
from pathlib import Path

from camelid.base.atomic import write_text_atomically
from camelid.base.errors import WrongCall
from camelid.serve.guard import digest_of


def read_keys(path: Path) -> dict[str, str]:
    """The digests by their names; raises `WrongCall` with the line that is wrong."""
    if not path.is_file():
        raise WrongCall(
            f"{path}: there is no such file; make a key with camelid serve --new-key NAME --keys FILE"
        )
    keys: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, digest = line.strip().rpartition(" ")
        if not name or len(digest) != 64 or not set(digest) <= set("0123456789abcdef") or name in keys:
            raise WrongCall(
                f"{path}:{number}: expected a new name and the SHA-256 of its key, got {line!r:.80}"
            )
        keys[name] = digest
    if not keys:
        raise WrongCall(f"{path}: no key in the file, so nobody could ask")
    return keys


def add_key(path: Path, name: str) -> str:
    """Makes a key, keeps its digest in the file, and returns it: nobody can read it there again."""
    keys = read_keys(path) if path.is_file() else {}
    if name in keys or not name.strip():
        raise WrongCall(f"{path}: there is a key named {name!r}, or the name is empty; choose another")
    key = f"camelid-{secrets.token_urlsafe(32)}"
    lines = [f"{each} {digest}\n" for each, digest in (keys | {name: digest_of(key)}).items()]
    write_text_atomically(path, "".join(lines))
    return key
