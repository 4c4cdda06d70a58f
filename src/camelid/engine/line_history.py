"""What was typed in `camelid chat`, kept for the next time."""

import contextlib
import logging
import sys
from collections.abc import Iterator

from camelid.base.errors import CamelidError
from camelid.base.home import make_home

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def line_history() -> Iterator[None]:
    """Arrow keys bring back what was typed, also in earlier chats; kept in CAMELID_HOME/chat_history."""
    try:
        import readline
    except ModuleNotFoundError:  # Python on Windows has none; typing works all the same
        yield
        return
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    readline.set_history_length(1000)
    try:
        path = make_home() / "chat_history"
        if path.is_file():
            readline.read_history_file(path)
    except (OSError, CamelidError) as error:
        logger.info(f"{error}; what is typed here is not kept")
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the disk is full; this must not hide why the chat ends
            readline.write_history_file(path)
