"""The connections of a program that is being started: held until it has said all it serves, then let in together.

Clients connect at different moments: some register everything and then say who they are, some say who they are and
register afterwards, one thing after another. So a generation counts as complete when it has been quiet for a moment;
letting it in, together with the retirement of the generation before, is one turn of the loop: no call finds a
function missing, no trigger fires twice.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from linkly.errors import WorkerConflict
from linkly.wire.messages import RegisterFunction
from linkly_engine.process import sessions

if TYPE_CHECKING:
    from linkly_engine.core.metadata import WorkerMetadata
    from linkly_engine.engine import Engine
    from linkly_engine.remote.peer import Peer

log = logging.getLogger("linkly.process")

STEP_S = 0.05
QUIET_S = 0.1
"""Quiet this long, with everything registered that the generation before serves: complete."""

FEWER_S = 1.0
"""The same when something is missing: more may come."""

EMPTY_S = 2.0
"""The same when it has registered nothing: it may only call."""

LONGEST_S = 10.0
"""However much still comes."""


class Arrival:
    """Takes the connections of one generation, until they are let in.

    Args:
        engine: Where they register.
        name: Of the worker: what its records are shown under, and how a program is known whose process cannot be told
            (in a container of its own).
        session: Of the program's processes.
    """

    def __init__(self, engine: Engine, *, name: str, session: int) -> None:
        self._engine = engine
        self.name = name
        self._session = session
        self._held: list[tuple[Peer, Callable[[], None]]] = []
        self._came = asyncio.Event()
        engine.arrivals.append(self)

    def takes(self, peer: Peer, metadata: WorkerMetadata) -> bool:
        """Tell whether a connection is one of this program's."""
        if in_session(peer, metadata.pid, self._session):
            return True
        return metadata.name == self.name and not _runs_here(metadata.pid)

    def add(self, peer: Peer, admit: Callable[[], None]) -> None:
        """Hold a connection."""
        self._engine.tables.started_by(peer.record, self.name)
        self._held.append((peer, admit))
        self._came.set()

    async def came(self) -> None:
        """Wait until there is a connection."""
        await self._came.wait()

    async def complete(self, needed: set[str]) -> None:
        """Wait until the program has said all it serves.

        Args:
            needed: Functions that the generation before serves.
        """
        clock = self._engine.clock
        while True:
            await self._came.wait()
            seen, quiet_since, came = -1, 0.0, clock.monotonic()
            while self.peers:
                said = [message for peer in self.peers for message in peer.waiting_registrations]
                now = clock.monotonic()
                if len(said) != seen:
                    seen, quiet_since = len(said), now
                served = {message.id for message in said if isinstance(message, RegisterFunction)}
                enough_s = EMPTY_S if not said else QUIET_S if needed <= served else FEWER_S
                if now - quiet_since >= enough_s or now - came >= LONGEST_S:
                    return
                await clock.sleep(STEP_S)
            self._held.clear()  # they have gone: those that come next may stay
            self._came.clear()

    @property
    def pids(self) -> list[int]:
        """Processes of the program."""
        return sessions.members(self._session)

    @property
    def peers(self) -> list[Peer]:
        """The held connections that are open."""
        return [peer for peer, _ in self._held if not peer.connection.closed]

    def let_in(self) -> str | None:
        """Let the held connections in, now; return why one was not.

        Call it in the turn in which the generation before retires.
        """
        self.close()
        problem: str | None = None
        for peer, admit in self._held:
            if peer.connection.closed:
                continue
            try:
                admit()
            except WorkerConflict as error:
                problem = error.message
                peer.reject_name(error)
            else:
                self._engine.tables.announce(peer.record)
        self._held.clear()
        return problem

    def close(self) -> None:
        """Take no more connections: they go their ordinary way."""
        if self in self._engine.arrivals:
            self._engine.arrivals.remove(self)


def in_session(peer: Peer, pid: int | None, session: int) -> bool:
    """Tell whether a connection comes from a process of a session on this machine."""
    if pid is None or pid <= 0 or not _is_local(peer.record.ip_address):
        return False
    try:
        return os.getsid(pid) == session or os.getpgid(pid) == session
    except (ProcessLookupError, PermissionError, OverflowError):
        return False


def _is_local(address: str | None) -> bool:
    try:
        return address is None or ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _runs_here(pid: int | None) -> bool:
    if pid is None or pid <= 0:
        return False
    try:
        os.getsid(pid)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
