"""The errors that the command line turns into an exit code.

    CamelidError    a job cannot go on: exit code 1
    └── WrongCall   the call itself is wrong (arguments, recipe): exit code 2

A message says what was wrong, where (file, line, key, tensor), what is allowed and the way out.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class CamelidError(Exception):
    """A job cannot go on; the message is written for the person who started it."""


class WrongCall(CamelidError):  # noqa: N818 -- it reads as what happened
    """The call itself is wrong: an argument or a recipe value that can never work."""


def shortened(value: object, most: int = 80) -> str:
    """A foreign value as it is shown in a message: its beginning, where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Puts `source`, a file or folder, before the message of a `CamelidError` from inside."""
    try:
        yield
    except CamelidError as error:
        raise type(error)(f"{source}: {error}") from error
