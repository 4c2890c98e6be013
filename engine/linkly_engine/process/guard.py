"""The guard: one small process that ends the workers' processes when the engine was killed and cannot.

It reads from a pipe whose writing end only the engine holds. However the engine ends, the pipe closes; the guard then
ends every session that it knows, and itself. It is started with the first child.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from pathlib import Path

from linkly_engine.process import sessions
from linkly_engine.process.spawn import Process

log = logging.getLogger("linkly.process")

END_S = sessions.GUARD_GRACE_S + 2.0


class Guard:
    """Ends sessions after the engine's death; `async with` it for as long as children may run.

    Attributes:
        sessions: Numbers of the sessions that have begun and not ended.
    """

    def __init__(self) -> None:
        self.sessions: set[int] = set()
        self._process: Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._pipe: int | None = None
        self._closing = False

    async def __aenter__(self) -> Guard:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closing = True
        self._close_pipe()
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await self._process.exited.wait()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    @property
    def pid(self) -> int | None:
        """The guard's process, `None` while there is none."""
        return None if self._process is None else self._process.pid

    def ready(self) -> None:
        """Start the guard's process unless it runs; called before a child is started, so that `add` reaches it.

        Raises:
            OSError: No process can be started.
        """
        if self._process is None:
            self._start()
            self._watching = asyncio.get_running_loop().create_task(self._replace(), name="guard")

    def _start(self) -> None:
        reading, writing = os.pipe()
        try:
            self._process = Process(
                [sys.executable, "-I", "-S", str(Path(sessions.__file__))],
                stdin=reading,
                output=subprocess.DEVNULL,
                folder=Path("/"),
            )
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        self._pipe = writing
        for session in self.sessions:
            self._tell("+", session)

    def add(self, session: int) -> None:
        """A session has begun."""
        self.sessions.add(session)
        self._tell("+", session)

    def remove(self, session: int) -> None:
        """A session has ended with all its processes."""
        self.sessions.discard(session)
        self._tell("-", session)

    async def _replace(self) -> None:
        """Start another process when the guard's ends too early."""
        while self._process is not None:
            await self._process.exited.wait()
            if self._closing:
                return
            log.warning("the process that guards child workers has ended; another one is started")
            self._close_pipe()
            try:
                self._start()
            except OSError as error:
                log.error("child workers are not guarded any more: %s", error)
                self._process = None

    def _tell(self, sign: str, session: int) -> None:
        if self._pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended: its successor is told
                os.write(self._pipe, f"{sign}{session}\n".encode())

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
