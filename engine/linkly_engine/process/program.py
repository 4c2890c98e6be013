"""One script of a worker as a process: a session of its own, its output read, its end awaited or brought about.

Time here is the machine's: processes do not live by a clock that tests move.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio import subprocess
from pathlib import Path
from typing import cast

from linkly_engine.process import sessions
from linkly_engine.process.guard import Guard
from linkly_engine.process.output import Feed

KILL_AFTER_S = 5.0
GONE_S = 2.0
LAST_OUTPUT_S = 1.0
STEP_S = 0.02

BURST_BYTES = 256 * 1024
PAUSE_S = 0.05
"""A program that writes more than `BURST_BYTES` in `PAUSE_S` is read more slowly: lines cost the loop's time."""


class Program:
    """A running script.

    Attributes:
        pid: Of its shell; also the number of its session and its process group.
        exited: Set when the shell has ended.
        recent: The last lines it wrote, for the reason of its end.
    """

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: _Protocol, guard: Guard) -> None:
        self.pid = transport.get_pid()
        self.exited = protocol.exited
        self._transport = transport
        self._protocol = protocol
        self._guard = guard
        guard.add(self.pid)

    @classmethod
    async def start(
        cls, command: str, *, folder: Path, environment: dict[str, str], feed: Feed, guard: Guard
    ) -> Program:
        """Run a shell command.

        Raises:
            OSError: It cannot be started.
        """
        await guard.ready()
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Protocol(feed),
            "/bin/sh",
            "-c",
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        return cls(transport, protocol, guard)

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal, `None` while it runs."""
        return self._transport.get_returncode()

    def recent(self) -> list[str]:
        """Return the last lines it wrote."""
        return self._protocol.feed.recent()

    async def end(self, kill_after_s: float = KILL_AFTER_S) -> None:
        """End everything in its session, the hard way after `kill_after_s`; nothing of it is left.

        Also for a script that has ended by itself: what it has left behind ends too, and the last of its output is
        read.
        """
        if not self._left():
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

    def _left(self) -> bool:
        return not self.exited.is_set() or bool(sessions.members(self.pid))

    async def _gone(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self.exited.wait()
                while True:
                    if not sessions.members(self.pid):
                        return True
                    await asyncio.sleep(STEP_S)
        except TimeoutError:
            return False

    async def _finish(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_OUTPUT_S):
                await self._protocol.closed.wait()
        self._protocol.finish()
        self._transport.close()
        self._guard.remove(self.pid)


class _Protocol(asyncio.SubprocessProtocol):
    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None
        self._open = 2
        self._read = 0
        self._window: asyncio.TimerHandle | None = None
        self._paused: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        self.feed.feed("stderr" if fd == 2 else "stdout", cast("bytes", data))
        self._read += len(data)
        if self._window is None:
            self._window = asyncio.get_running_loop().call_later(PAUSE_S, self._next_window)
        if self._read > BURST_BYTES and fd not in self._paused:
            self._paused.add(fd)
            self._pipe(fd).pause_reading()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._paused.discard(fd)
        self._open -= 1
        if self._open == 0:
            self.closed.set()

    def process_exited(self) -> None:
        self.exited.set()

    def finish(self) -> None:
        """Nothing more will be read."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
        self.feed.finish()

    def _next_window(self) -> None:
        self._window = None
        self._read = 0
        paused, self._paused = self._paused, set()
        for fd in paused:
            self._pipe(fd).resume_reading()

    def _pipe(self, fd: int) -> asyncio.ReadTransport:
        transport = cast("asyncio.SubprocessTransport", self._transport)
        return cast("asyncio.ReadTransport", transport.get_pipe_transport(fd))
