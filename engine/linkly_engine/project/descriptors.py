"""Notices that this process can open no more files or sockets.

The kernel refuses connections without an event, so this module opens a file now and then.
"""

from __future__ import annotations

import errno
import logging
import os
from types import ModuleType

from linkly.clock import Clock

resource: ModuleType | None
try:  # at import: once descriptors have run out, no module can be loaded
    import resource
except ImportError:  # Windows
    resource = None

log = logging.getLogger("linkly.engine")

LOOK_S = 1.0
"""Between two looks; each is an open and a close of /dev/null."""


async def watch_descriptors(clock: Clock) -> None:
    """Log when file descriptors run out, and when some are free again, until this is cancelled."""
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
    """Return whose descriptors are all in use, as a sentence; `None`: some are free."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno == errno.EMFILE:
            limit = "files" if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"this process has all {limit} open that it may have"
        if error.errno == errno.ENFILE:
            return "this machine has all open that it may have"
    return None
