"""Absent routes: those of a program that starts or starts again, where 404 would be wrong because they come back.

A request that no route takes asks two questions, which `worker::*` answers:

* Did a program of the project have this route, and is it expected back? It is until the program is stopped or removed.
  A program that is back may register its routes one by one: for `START_S` those that it had are still expected. A route
  that it takes back itself, on a connection that lives, is gone at once.
* Has every program of the project registered since the start? For `START_S` the routes of the others are not known.

Routes of workers that are no programs of the project are gone with their worker: the project does not start it again.
"""

from __future__ import annotations

import contextlib
from typing import TypeVar

import msgspec

from linkly import Bus
from linkly.errors import LinklyError, TriggerRegistrationFailed
from linkly.trigger import Binding
from linkly_workers.http.routes import Match, Route, RouteTable

T = TypeVar("T")

START_S = 30.0
"""How long programs may take to register before a path without a route is a 404."""

ENDED = ("stopped", "failed")

ROUTES_LIMIT = 10_000
"""How many routes of programs are remembered."""


class _Owner(msgspec.Struct):
    name: str | None


class _Row(msgspec.Struct):
    name: str
    kind: str
    status: str
    functions: int


class _Rows(msgspec.Struct):
    workers: list[_Row]


class _Names(msgspec.Struct):
    names: dict[str, str]


class _Left(msgspec.Struct):
    """How a route went: its program, its connection, and until when a program that is back may still register it."""

    program: str
    connection: str
    until: float


class Absent:
    """Routes that are away and expected back."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._until = bus.clock.monotonic() + START_S
        self._complete = False
        self._routes = RouteTable()
        self._programs: dict[str, str | None] = {}
        self._owned: dict[str, set[str]] = {}  # connection -> its bindings, which every next gateway is told again
        self._registered: set[str] = set()

    @property
    def connections(self) -> int:
        """How many connections' routes are remembered as served now."""
        return len(self._owned.keys() | self._programs.keys())

    def goes_on(self, bus: Bus) -> None:
        """Ask through the bus of a next gateway from now on."""
        self._bus = bus

    async def came(self, binding: Binding) -> None:
        """Note which program, if any, a route that is now served belongs to."""
        owner = binding.owner
        self._owned.setdefault(owner, set()).add(binding.id)
        if owner not in self._programs:
            self._programs[owner] = None
            found = await self._ask("worker::owner", {"worker_id": owner}, _Owner)
            if found is not None and found.name is not None:
                self._registered.add(found.name)
                if owner in self._programs:
                    self._programs[owner] = found.name

    def went(self, route: Route | None, binding: Binding) -> None:
        """Note that a binding is gone, and with it its route; `None` if another binding had taken the route over."""
        owner = binding.owner
        program = self._programs.get(owner)
        owned = self._owned.get(owner, set[str]())
        owned.discard(binding.id)
        if not owned:
            self._owned.pop(owner, None)
            self._programs.pop(owner, None)
        if route is None or program is None or len(self._routes) >= ROUTES_LIMIT:
            return
        left = _Left(program, owner, self._bus.clock.monotonic() + START_S)
        # Refused: the same path with other names for its parameters, which is known already.
        with contextlib.suppress(TriggerRegistrationFailed):
            self._routes.add(route.method, route.pattern, msgspec.structs.replace(binding, config=left))

    async def expected(self, method: str, path: str) -> str | None:
        """Return why a request that no route takes may be served in a moment; `None` if it will not be."""
        found = self._routes.find(method, path)
        left: _Left | None = found.route.binding.config if isinstance(found, Match) else None
        now = self._bus.clock.monotonic()
        starting = not self._complete and now < self._until
        if left is None and not starting:
            return None
        rows = await self._ask("worker::list", None, _Rows)
        if rows is None:
            return None
        row = None if left is None else next((row for row in rows.workers if row.name == left.program), None)
        # A program that has failed is started by the next change.
        if left is not None and row is not None and row.status != "stopped":
            if not row.functions:
                left.until = now + START_S
                state = "not connected" if row.status == "running" else row.status
                return f"{method} {path} is served by worker `{row.name}`, which is away now ({state})"
            if now < left.until and not await self._lives(left.connection):
                return f"{method} {path} is served by worker `{row.name}`, which is back but has not said so yet"
        if not starting:
            return None
        awaited = [
            row.name
            for row in rows.workers
            if row.kind == "path" and not row.functions and row.name not in self._registered and row.status not in ENDED
        ]
        self._complete = not awaited
        if awaited:
            return f"nobody serves {method} {path} yet; still starting: {', '.join(f'`{name}`' for name in awaited)}"
        return None

    async def _lives(self, connection: str) -> bool:
        found = await self._ask("worker::names", None, _Names)
        return found is not None and connection in found.names

    async def _ask(self, function_id: str, payload: object, kind: type[T]) -> T | None:
        try:
            return await self._bus.trigger(function_id, payload, result_type=kind)
        except LinklyError:
            return None  # there is no project that starts programs
