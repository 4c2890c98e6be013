"""One script of a worker as a process: a session of its own, its output read, its end awaited or brought about.

It measures real time: processes do not follow a clock that tests move.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import IO

from linkly_engine.process import sessions
from linkly_engine.process.guard import Guard
from linkly_engine.process.output import STREAMS, Feed
from linkly_engine.process.spawn import Process

KILL_AFTER_S = 5.0
GONE_S = 2.0
LAST_OUTPUT_S = 1.0
STEP_S = 0.02

READ_BYTES = 64 * 1024
BURST_BYTES = 256 * 1024
PAUSE_S = 0.05
"""A program that writes more than `BURST_BYTES` in `PAUSE_S` is read at that rate: lines cost time of the loop."""


GATE = 'read -r go && exec /bin/sh -c "$0" </dev/null'
"""Starts a script once the guard knows its session, so that an engine killed in between leaves no process behind."""


class Program:
    """A running script.

    Attributes:
        pid: Of its shell; also the number of its session and its process group.
        exited: Set when the shell has ended.
    """

    def __init__(self, process: Process, feed: Feed, guard: Guard) -> None:
        self.pid = process.pid
        self.exited = process.exited
        self._process = process
        self._feed = feed
        self._guard = guard
        guard.add(self.pid)
        outputs = (process.popen.stdout, process.popen.stderr)
        self._pipes = [
            _Pipe(feed, stream, file) for stream, file in zip(STREAMS, outputs, strict=True) if file is not None
        ]
        self._open_gate()

    @classmethod
    def start(cls, command: str, *, folder: Path, environment: dict[str, str], feed: Feed, guard: Guard) -> Program:
        """Run a shell command.

        Raises:
            OSError: It cannot be started.
        """
        guard.ready()
        process = Process(
            ["/bin/sh", "-c", GATE, command],
            stdin=subprocess.PIPE,
            output=subprocess.PIPE,
            folder=folder,
            environment=environment,
        )
        return cls(process, feed, guard)

    def _open_gate(self) -> None:
        gate = self._process.popen.stdin
        if gate is not None:
            with contextlib.suppress(BrokenPipeError), gate:
                gate.write(b"go\n")

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; `None` while it runs."""
        return self._process.popen.returncode

    def recent(self) -> list[str]:
        """Return the last lines it wrote."""
        return self._feed.recent()

    async def end(self, kill_after_s: float = KILL_AFTER_S) -> None:
        """End every process of its session with SIGTERM, and with SIGKILL after `kill_after_s`.

        A script that has ended by itself may have left processes behind: they end too, and the rest of its output is
        read.
        """
        if self.exited.is_set() and not sessions.members(self.pid):
            await self._finish()
            return
        sessions.send(self.pid, signal.SIGTERM)
        try:
            if not await self._gone(kill_after_s):
                sessions.send(self.pid, signal.SIGKILL)
                await self._gone(GONE_S)
        except asyncio.CancelledError:
            sessions.send(self.pid, signal.SIGKILL)
            raise
        finally:
            await self._finish()

    async def _gone(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self.exited.wait()
                while True:
                    if not sessions.members(self.pid):
                        return True
                    await asyncio.sleep(STEP_S)  # the kernel tells a grandchild's end to its parent only
        except TimeoutError:
            return False

    async def _finish(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_OUTPUT_S):
                for pipe in self._pipes:
                    await pipe.closed.wait()
        for pipe in self._pipes:
            pipe.close()
        self._feed.finish()
        self._guard.remove(self.pid)


class _Pipe:
    """One output of a process."""

    def __init__(self, feed: Feed, stream: str, file: IO[bytes]) -> None:
        self.closed = asyncio.Event()
        self._feed = feed
        self._stream = stream
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._read = 0
        self._window: asyncio.TimerHandle | None = None
        os.set_blocking(file.fileno(), False)
        self._loop.add_reader(file.fileno(), self._readable)

    def close(self) -> None:
        """Stop reading; may be called twice."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
        if not self._file.closed:
            self._loop.remove_reader(self._file.fileno())
            self._file.close()
        self.closed.set()

    def _readable(self) -> None:
        try:
            data = os.read(self._file.fileno(), READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._feed.feed(self._stream, data)
        self._read += len(data)
        if self._window is None:
            self._window = self._loop.call_later(PAUSE_S, self._next_window)
        if self._read > BURST_BYTES:
            self._loop.remove_reader(self._file.fileno())

    def _next_window(self) -> None:
        self._window = None
        if self._read > BURST_BYTES:
            self._loop.add_reader(self._file.fileno(), self._readable)
        self._read = 0
