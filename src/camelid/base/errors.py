"""The errors that the command line turns into exit codes.

    CamelidError    a job cannot continue: exit code 1
    └── WrongCall   the call itself is wrong (arguments, recipe): exit code 2

A message says what was wrong, where (file, line, key, tensor), what is allowed and how to fix it.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager


class CamelidError(Exception):
    """A job cannot continue; the message is for the person who started it."""


class WrongCall(CamelidError):  # noqa: N818 -- it reads as what happened
    """The call itself is wrong: an argument or recipe value that can never work."""


def shortened(value: object, most: int = 80) -> str:
    """A value for an error message, truncated if long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def nearest(name: str, names: Collection[str], *, otherwise: str, cutoff: float = 0.6) -> str:
    """What may have been meant by a name: up to three like it, else all, after the word `otherwise`.

    cutoff: how alike they are at least, from 0 to 1.
    """
    import difflib  # only where something is wrong

    near = difflib.get_close_matches(name, names, n=3, cutoff=cutoff)
    return f"nearest: {', '.join(near)}" if near else f"{otherwise} {', '.join(names)}"


def refuse_not_utf8(path: object) -> None:
    """Raises `WrongCall` if a path is not UTF-8: the libraries that read and write weights need that.

    Python holds the other bytes of such a path as lone surrogates.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise WrongCall(
            f"{str(path)!r}: the path is not UTF-8, so no weights can be read or written there; "
            "rename the folder, or give another one"
        ) from None


def reason_of(error: BaseException) -> str:
    """Why something failed, for a message: the system's words, else the error's first line or its class."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
    return words.splitlines()[0] if words else type(error).__name__


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Prefixes the message of any `CamelidError` raised inside with `source`, a file or folder."""
    try:
        yield
    except CamelidError as error:
        raise type(error)(f"{source}: {error}") from error
