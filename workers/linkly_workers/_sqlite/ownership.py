"""One engine to a database file: a second one would change what the first one keeps in mind, the link cache for one.

An exclusive `flock` on a file beside the database says so, for as long as the process lives: one that is killed lets go
by itself. It is not on the database itself, where it could get between SQLite and its own locks, so other programs (the
`sqlite3` shell) come and go as they like. The file names the engine, because generations of one engine overlap: the
next one of a database program starts while the last one still serves. It shares the file, and takes the lock over
when it is free.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from linkly.clock import Clock, TimerHandle

log = logging.getLogger("linkly.sqlite")

PATIENCE_S, STEP_S = 1.0, 0.05
"""So long somebody who ends at this moment, or begins, is waited for."""

TAKE_OVER_S = 1.0
"""So often whoever shares a file tries to take the lock over."""


class OwnedElsewhere(Exception):
    """Another engine has the file."""


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Lock a file that is there for its lock alone, which generations of one engine do not share.

    Raises:
        OwnedElsewhere: Another engine has it.
        sqlite3.Error: It cannot be locked.
    """
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise OwnedElsewhere("another engine is using it; give each engine a folder of its own") from error
        yield


class Ownership:
    """The lock of one file; `take` it and `release` it. All generations of one worker have the same `engine_id`."""

    def __init__(self, path: str, engine_id: str, clock: Clock) -> None:
        resolved = Path(path).resolve()
        self._path = f"{resolved}.lock"
        self._engine_id = engine_id.encode()
        self._clock = clock
        self._descriptor: int | None = None
        self._timer: TimerHandle | None = None

    async def take(self) -> None:
        """Take the lock, or share the file with an earlier generation.

        Raises:
            OwnedElsewhere: Another engine has it.
            OSError: The folder cannot be made.
        """
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            waited_s = 0.0
            while not self._locked():
                if self._holder() == self._engine_id:
                    self._timer = self._clock.call_later(TAKE_OVER_S, self._take_over)
                    return
                if waited_s >= PATIENCE_S:
                    self.release()
                    raise OwnedElsewhere
                await self._clock.sleep(STEP_S)
                waited_s += STEP_S
        except OSError as error:
            self.release()
            log.warning(
                "%s cannot be locked, so nothing keeps a second engine from its database: %s", self._path, error
            )

    def release(self) -> None:
        """Let the next engine in; harmless the second time. The lock file stays: removing it would let two in."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _locked(self) -> bool:
        assert self._descriptor is not None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, self._engine_id, 0)
        return True

    def _holder(self) -> bytes:
        assert self._descriptor is not None
        return os.pread(self._descriptor, 256, 0)

    def _take_over(self) -> None:
        self._timer = None
        try:
            if not self._locked():
                self._timer = self._clock.call_later(TAKE_OVER_S, self._take_over)
        except OSError as error:
            log.warning("%s cannot be taken over: %s", self._path, error)
