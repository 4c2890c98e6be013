"""The states of a child worker, and what may follow each."""

from __future__ import annotations

import asyncio
from enum import StrEnum


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


class ChildStatus:
    """How a child worker is; whoever waits for a state is woken when it is entered.

    Attributes:
        state: Where it is in its life.
        pid: Of its start script, while it runs.
        restarts: How often it was started after the first time, for whatever reason.
        started_at_ms: When the generation that serves was started, since the epoch.
        reason: What went wrong last, one sentence; `None` while all is well. A worker may be `running` and have one:
            its next generation could not start, so that the earlier one stays in service.
        open: An attempt was asked for and has not ended yet; may be set.
    """

    def __init__(self) -> None:
        self.state = State.STOPPED
        self.pid: int | None = None
        self.restarts = 0
        self.started_at_ms: int | None = None
        self.reason: str | None = None
        self.open = False
        self._changed = asyncio.Event()

    def enter(
        self, state: State, *, reason: str | None = None, pid: int | None = None, started_at_ms: int | None = None
    ) -> None:
        """Enter a state; what is not given is `None` in it.

        Raises:
            RuntimeError: The state may not follow the present one.
        """
        if state not in FOLLOWS[self.state]:
            raise RuntimeError(f"a child worker that is {self.state} does not become {state}")
        self.state, self.reason, self.pid, self.started_at_ms = state, reason, pid, started_at_ms
        self._wake()

    def end(self) -> None:
        """The attempt that was asked for has ended in the present state."""
        self.open = False
        self._wake()

    async def reaches(self, *states: State | str) -> ChildStatus:
        """Wait until the state is one of these, of which some do not last."""
        while self.state not in states:
            await self._changed.wait()
        return self

    async def tried(self) -> None:
        """Wait until the attempt that was asked for has ended, whatever came of it."""
        while self.open:
            await self._changed.wait()

    async def outcome(self) -> None:
        """Wait until it runs (connected and registered), has failed for good or is stopped, and no attempt is open."""
        while self.open or self.state not in LASTING:
            await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
