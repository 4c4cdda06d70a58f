"""What commands say while they work: Python's logging, one logger a module below `camelid`.

Results go to standard output; everything else is logged, and from a command line shown on standard error. As a library
Camelid is as quiet as others: warnings only, unless `show_log()` or a logging configuration of your own asks for more.
"""

import logging
import sys


class _StandardError(logging.Handler):
    """Writes to what standard error is at the moment of writing."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


class _Words(logging.Formatter):
    """The message; one that warns begins with the program's name."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"camelid: {text}" if record.levelno >= logging.WARNING else text


def show_log(level: int = logging.INFO) -> None:
    """Shows what the library logs, from this level on, on standard error; calling it again changes the level only.

    For programs that configure no logging of their own, which would show every line a second time.
    """
    logger = logging.getLogger("camelid")
    logger.setLevel(level)
    if not any(isinstance(handler, _StandardError) for handler in logger.handlers):
        handler = _StandardError()
        handler.setFormatter(_Words())
        logger.addHandler(handler)


def show_warnings_only() -> None:
    """Of several processes that do the same, all but one are quiet."""
    logging.getLogger("camelid").setLevel(logging.WARNING)
