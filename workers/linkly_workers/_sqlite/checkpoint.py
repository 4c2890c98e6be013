"""Folds the write-ahead log back into the file, beside the writer.

A checkpoint inside the writer's turn makes everybody wait for it (p99 3 -> 13 ms). One that runs beside a busy writer
never reaches the log's end, so the log would grow for as long as there is load. Therefore two steps: a second
connection does nearly all of it, then the writer's own connection the few database pages that came meanwhile, after
which the next write starts at the log's beginning again.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from linkly_workers._sqlite.connection import Durability, connect

LOG_PAGES = 1000
"""Database pages (of 4 KiB) that the log may hold before it is folded in: 4 MiB. Until it was that long once, every
commit makes the file longer, which is a second write to the disk (330 us against 145 us for overwriting)."""

LOG_BYTES = 4 * LOG_PAGES * 4096
"""A log that one large write has made longer is cut to this length when the next write starts at its beginning."""

MOST_ROWS = 100_000
LOOK_EVERY = 64
"""Rows that change between two looks at the log's size."""

CHECKPOINT: Final = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpointer:
    """Decides when, and does the first step; `finish` begins the second and returns its end, `None` if unwanted."""

    def __init__(self, path: str, durability: Durability, finish: Callable[[], asyncio.Future[Any] | None]) -> None:
        self._log_path = f"{path}-wal"
        self._connection = connect(path, durability=durability, busy_timeout_ms=0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"checkpoints of {path}")
        self._finish = finish
        self._task: asyncio.Future[Any] | None = None
        self._since = 0
        self._look_at = LOOK_EVERY
        self._limit = LOG_PAGES
        self._log_bytes = 0

    def committed(self, rows: int) -> None:
        """Note a commit that has changed so many rows; starts a checkpoint when enough has come together."""
        self._since += rows
        if self._task is None and (self._since >= self._limit or self._has_grown()):
            self._task = asyncio.get_running_loop().run_in_executor(self._thread, self._fold, self._since)
            self._task.add_done_callback(self._folded)

    async def close(self) -> None:
        """Wait for the one that runs and close the connection."""
        if self._task is not None:
            await asyncio.wait([self._task])
        self._thread.shutdown()
        self._connection.close()

    def _has_grown(self) -> bool:
        # A row may be huge; the file tells (it keeps its length when it is begun anew, so only growth means anything).
        if self._since < self._look_at:
            return False
        self._look_at = self._since + LOOK_EVERY
        try:
            size = os.stat(self._log_path).st_size
        except OSError:
            return False
        self._log_bytes = min(self._log_bytes, size)  # it may have been cut
        return size > self._log_bytes + LOG_PAGES * 4096

    def _fold(self, rows: int) -> None:
        try:
            _, pages, _ = self._connection.own(CHECKPOINT).fetchone()
            self._log_bytes = os.stat(self._log_path).st_size
        except (sqlite3.Error, OSError):
            return  # the next one will do
        if pages > 0:
            # How many database pages a row changes is learned: inserts share them, random updates do not.
            self._limit = max(64, min(MOST_ROWS, rows * LOG_PAGES // pages))

    def _folded(self, _: asyncio.Future[None]) -> None:
        # The next one has to wait for this one's second step: two at once refuse each other, and the log would go on.
        self._task = self._finish()
        if self._task is not None:
            self._task.add_done_callback(self._finished)

    def _finished(self, done: asyncio.Future[Any]) -> None:
        self._task = None
        self._since = 0  # the log starts at its beginning; counted from anywhere else, the limit would be learned wrong
        self._look_at = LOOK_EVERY
        if not done.cancelled():
            done.exception()  # looked at: the next one will do
