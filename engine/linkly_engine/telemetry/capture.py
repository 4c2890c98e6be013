"""Keeps what this process logs through stdlib logging, so that `engine::logs::list` answers it too.

Installed by whoever owns the process (`linkly_engine.cli.serve`), not by the engine: an engine inside somebody else's
program or test leaves that program's logging alone. Lines logged before there is an engine wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque

from linkly_engine.telemetry.hub import Telemetry
from linkly_engine.telemetry.lines import is_kept, line_of, record_of
from linkly_engine.telemetry.record import LogRecord

WAITING_LIMIT = 1000


class Capture(logging.Handler):
    """A handler that keeps every record but those that the store has already."""

    def __init__(self) -> None:
        super().__init__()
        self._telemetry: Telemetry | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._waiting: deque[LogRecord] = deque(maxlen=WAITING_LIMIT)

    def bind(self, telemetry: Telemetry) -> None:
        """Hand over what waited, and everything from now on. Called on the engine's loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._telemetry = telemetry
        while self._waiting:
            telemetry.add(self._waiting.popleft())

    def unbind(self) -> None:
        """Keep nothing any more: the engine has ended."""
        self._telemetry, self._loop = None, None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record; called from any thread."""
        if is_kept(record):
            return
        line_of(record)  # in this thread: its traceback and its trace are known
        kept = record_of(record)
        telemetry, loop = self._telemetry, self._loop
        if telemetry is None or loop is None:
            self._waiting.append(kept)
        elif threading.get_ident() == self._thread:
            telemetry.add(kept)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(telemetry.add, kept)
