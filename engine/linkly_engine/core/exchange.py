"""Where the calls of all workers meet: what every bus and every connection works on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from linkly.bus import Invocation
from linkly.clock import Clock
from linkly.deadline import Deadlines
from linkly.errors import LinklyError
from linkly_engine.core.channels import ChannelStore
from linkly_engine.core.records import WorkerRecord
from linkly_engine.core.router import Router
from linkly_engine.core.tables import Tables


class Spawn(Protocol):
    """Runs something that the engine owns."""

    def __call__(self, coroutine: Coroutine[Any, Any, Any], *, name: str = "") -> asyncio.Task[Any]:
        """Start a task; it is cancelled at the latest when the engine stops."""
        ...


class Exchange(msgspec.Struct, frozen=True, eq=False):
    """One engine, as a bus sees it.

    Attributes:
        spawn: Runs calls that nobody waits for.
        failed: Told when a worker's handler has failed.
    """

    tables: Tables
    router: Router
    channels: ChannelStore
    clock: Clock
    deadlines: Deadlines
    spawn: Spawn
    failed: Callable[[WorkerRecord, Invocation, LinklyError], None]
