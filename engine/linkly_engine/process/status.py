"""The states of a child worker, and what may follow each."""

from __future__ import annotations

import asyncio
from enum import StrEnum

import msgspec


class State(StrEnum):
    """Where a child worker is in its life."""

    STOPPED = "stopped"
    """Nobody looks after it."""
    STARTING = "starting"
    """Its program is started, and none serves yet."""
    INSTALLING = "installing"
    """A `setup` or `install` script runs, and no program serves."""
    RUNNING = "running"
    """A program serves; the next generation may be on its way."""
    WAITING = "waiting"
    """The program has ended and is started again in a moment."""
    FAILED = "failed"
    """It is started again when a file changes or somebody asks for it."""


_TRIED = {State.INSTALLING, State.STARTING, State.FAILED, State.STOPPED}
FOLLOWS: dict[State, set[State]] = {
    State.STOPPED: {State.STARTING},
    State.STARTING: {*_TRIED, State.RUNNING, State.WAITING},
    State.INSTALLING: _TRIED,
    # The same state with another reason; the next two where one generation has to end before the next begins.
    State.RUNNING: {*_TRIED, State.RUNNING, State.WAITING},
    State.WAITING: _TRIED,
    State.FAILED: _TRIED,
}
"""State -> what may follow it."""

LASTING = {State.RUNNING, State.FAILED, State.STOPPED}
"""What an attempt ends in; `WAITING` is followed by another attempt."""


class ChildStatus(msgspec.Struct, kw_only=True):
    """How a child worker is, for listings.

    Attributes:
        state: Where it is in its life.
        pid: Of its start script, while it runs.
        restarts: How often it was started after the first time, for whatever reason.
        started_at_ms: When the generation that serves was started, since the epoch.
        reason: What went wrong last, one sentence; `None` while all is well. A worker may be `running` and have one:
            its next generation could not start, so that the earlier one stays in service.
    """

    state: State = State.STOPPED
    pid: int | None = None
    restarts: int = 0
    started_at_ms: int | None = None
    reason: str | None = None


class StatusKeeper:
    """Moves a status from state to state and wakes those who wait for one.

    Attributes:
        status: How the worker is.
        open: An attempt was asked for and has not ended yet; may be set.
    """

    def __init__(self) -> None:
        self.status = ChildStatus()
        self.open = False
        self._changed = asyncio.Event()

    def enter(
        self, state: State, *, reason: str | None = None, pid: int | None = None, started_at_ms: int | None = None
    ) -> None:
        """Enter a state.

        Args:
            state: One that may follow the present one.
            reason: What went wrong last.
            pid: Of the program that serves, or is being started.
            started_at_ms: When that one began to serve.

        Raises:
            RuntimeError: The state may not follow the present one.
        """
        status = self.status
        if state not in FOLLOWS[status.state]:
            raise RuntimeError(f"a child worker that is {status.state} does not become {state}")
        status.state, status.reason, status.pid, status.started_at_ms = state, reason, pid, started_at_ms
        self._wake()

    def end(self) -> None:
        """The attempt that was asked for has ended in the present state."""
        self.open = False
        self._wake()

    async def reaches(self, *states: State | str) -> ChildStatus:
        """Wait until the state is one of these."""
        while self.status.state not in states:
            await self._changed.wait()
        return self.status

    async def tried(self) -> None:
        """Wait until the attempt that was asked for has ended, whatever came of it."""
        while self.open:
            await self._changed.wait()

    async def outcome(self) -> None:
        """Wait until an attempt has ended in a lasting state, and no other is asked for."""
        while self.open or self.status.state not in LASTING:
            await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
