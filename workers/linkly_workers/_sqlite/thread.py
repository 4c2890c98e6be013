"""The writing thread: jobs one after another, and the loop is told of each one's end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class WritingThread:
    """One thread beside the running loop."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def put(self, run: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Call `run` on the thread, then `done` with its result on the loop's thread."""
        self._jobs.put((run, done))

    async def stop(self) -> None:
        """Wait for what has been put, and end."""
        self._jobs.put(None)
        await self._ended.wait()  # not `join` in another thread: at a memory limit there is none to be had
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            run, done = job
            self._loop.call_soon_threadsafe(done, run())
        self._loop.call_soon_threadsafe(self._ended.set)
