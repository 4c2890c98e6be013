"""Notices that this process may open no more files or sockets: what needs one fails then, most of it in silence.

The kernel refuses connections before anybody here hears of them, so somebody has to look.
"""

from __future__ import annotations

import errno
import logging
import os
from types import ModuleType

from linkly.clock import Clock

resource: ModuleType | None
try:  # now: once descriptors have run out it could not be loaded
    import resource
except ImportError:  # Windows
    resource = None

log = logging.getLogger("linkly.engine")

LOOK_S = 1.0
"""Between two looks; each is an open and a close of /dev/null."""


async def watch_descriptors(clock: Clock) -> None:
    """Say when file descriptors run out, and when there are some again, until this is cancelled."""
    out = False
    while True:
        reason = exhausted()
        if reason is not None and not out:
            log.error(
                "out of file descriptors: %s; connections are refused and files cannot be opened until some are "
                "closed. Raise the limit (`ulimit -n`, `LimitNOFILE=` of systemd) if so many are meant to be open",
                reason,
            )
        elif reason is None and out:
            log.warning("file descriptors are free again")
        out = reason is not None
        await clock.sleep(LOOK_S)


def exhausted() -> str | None:
    """Say whose descriptors are all in use; `None`: there are free ones."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno == errno.EMFILE:
            return f"this process has all {_limit()} open that it may have"
        if error.errno == errno.ENFILE:
            return "this machine has all open that it may have"
    return None


def _limit() -> str:
    return "files" if resource is None else str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
