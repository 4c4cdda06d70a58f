"""Processes that do not outlive the one that started them."""

import os
import threading
import time

SECONDS = 0.25
"""Time between two looks at the parent: one system call each."""


def end_with_parent(parent: int) -> None:
    """Ends this process soon after its parent, process `parent`, has ended in any way, `kill -9` included.

    For processes that only work for their parent; called once, at their start. It ends without any cleaning
    up, so such a process may not write files.
    """
    # The parent's id is given, since it may have ended before this call. Linux's PR_SET_PDEATHSIG would end
    # the child with the thread that started it, which may be one of many.
    threading.Thread(target=_watch, args=(parent,), name="end_with_parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS)
    os._exit(1)
