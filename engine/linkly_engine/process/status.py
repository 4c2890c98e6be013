"""How a child worker is, for listings."""

from __future__ import annotations

import asyncio
from typing import Any, Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["installing", "starting", "running", "waiting", "failed", "stopped"]


class ChildStatus(msgspec.Struct, kw_only=True):
    """How a child worker is.

    Attributes:
        state: `waiting`: it has ended and is started again in a moment; `failed`: it is not, until something changes.
        pid: Of its start script, while it runs.
        restarts: How often it was started after the first time, for whatever reason.
        started_at_ms: When the generation that serves was started, since the epoch.
        reason: What went wrong last, one sentence; `None` while all is well. A worker may be `running` and have one:
            its next generation could not start, so that the earlier one stays in service.
    """

    state: State = "stopped"
    pid: int | None = None
    restarts: int = 0
    started_at_ms: int | None = None
    reason: str | None = None


class StatusKeeper:
    """Keeps a status and wakes those who wait for a state."""

    def __init__(self) -> None:
        self.status = ChildStatus()
        self._changed = asyncio.Event()

    def change(self, **fields: Any) -> None:
        """Set fields of the status."""
        for name, value in fields.items():
            setattr(self.status, name, value)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def reaches(self, *states: State) -> ChildStatus:
        """Wait until the state is one of these."""
        while self.status.state not in states:
            await self._changed.wait()
        return self.status
