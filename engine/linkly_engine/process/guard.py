"""The guard: one small process that ends the workers' processes when the engine is killed and cannot.

It holds the reading end of a pipe whose writing end only the engine has. However the engine ends, the pipe closes,
and the guard ends every session it was told of and then itself. It is started with the first child.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from asyncio import subprocess
from pathlib import Path

from linkly_engine.process import sessions

log = logging.getLogger("linkly.process")

END_S = sessions.GUARD_GRACE_S + 2.0


class Guard:
    """Ends sessions after the engine's death; `async with` it for as long as children may run."""

    def __init__(self) -> None:
        self._sessions: set[int] = set()
        self._transport: asyncio.SubprocessTransport | None = None
        self._ended = asyncio.Event()
        self._pipe: int | None = None
        self._closing = False
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Guard:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closing = True
        self._close_pipe()
        if self._transport is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await self._ended.wait()
            self._transport.close()
            self._transport = None

    @property
    def pid(self) -> int | None:
        """The guard's process, `None` while there is none."""
        return None if self._transport is None else self._transport.get_pid()

    async def ready(self) -> None:
        """Have the process running: called before a child is started, so that `add` has somebody to tell.

        Raises:
            OSError: No process can be started.
        """
        async with self._starting:
            if self._transport is not None:
                return
            reading, writing = os.pipe()
            try:
                self._ended = asyncio.Event()
                self._transport, _ = await asyncio.get_running_loop().subprocess_exec(
                    lambda: _Watcher(self),
                    sys.executable,
                    "-I",
                    "-S",
                    str(Path(sessions.__file__)),
                    stdin=reading,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,
                )
            except BaseException:
                os.close(writing)
                raise
            finally:
                os.close(reading)
            self._pipe = writing
            for session in self._sessions:
                self._tell("+", session)

    def add(self, session: int) -> None:
        """A session has begun."""
        self._sessions.add(session)
        self._tell("+", session)

    def remove(self, session: int) -> None:
        """A session has ended, nothing of it is left."""
        self._sessions.discard(session)
        self._tell("-", session)

    def _tell(self, sign: str, session: int) -> None:
        if self._pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # it has died: the next one is told
                os.write(self._pipe, f"{sign}{session}\n".encode())

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def process_ended(self) -> None:
        """The guard's process has ended: before its time, another one takes its place."""
        self._ended.set()
        if self._closing:
            return
        log.warning("the process that guards child workers has ended; another one is started")
        self._close_pipe()
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        self._restarting = asyncio.get_running_loop().create_task(self.ready(), name="guard")


class _Watcher(asyncio.SubprocessProtocol):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def process_exited(self) -> None:
        self._guard.process_ended()
