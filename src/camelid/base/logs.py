"""Logging of commands at work: Python's logging, with one logger per module below `camelid`.

Results go to standard output; everything else is logged, and the command line shows it on standard error. As
a library, Camelid shows only warnings, unless you call `show_log()` or configure logging yourself.
"""

import logging
import os
import stat
import sys
from contextlib import suppress


class _StandardError(logging.Handler):
    """Writes to the current `sys.stderr`, looked up at each message."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


class _PrefixedWarnings(logging.Formatter):
    """The message; warnings and errors begin with the program's name."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"camelid: {text}" if record.levelno >= logging.WARNING else text


def show_log(level: int = logging.INFO) -> None:
    """Shows the library's log messages of at least this level on standard error; a second call changes the
    level.

    For programs without their own logging configuration, which would show every line twice.
    """
    logger = logging.getLogger("camelid")
    logger.setLevel(level)
    if not any(isinstance(handler, _StandardError) for handler in logger.handlers):
        handler = _StandardError()
        handler.setFormatter(_PrefixedWarnings())
        logger.addHandler(handler)


def show_warnings_only() -> None:
    """Hides messages below warnings, in all but the main process of a group."""
    logging.getLogger("camelid").setLevel(logging.WARNING)


def leave_terminal() -> None:
    """Discards further output if it goes to a terminal, for when that has closed and every write would
    fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        with suppress(OSError):  # closed already
            # A closed terminal no longer answers `isatty`, but it still is a character device.
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)
