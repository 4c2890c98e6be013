"""The connections of a program that was started: held until it has registered everything, then admitted together.

Some clients register everything and then send their name, others send their name and register afterwards. So a
generation counts as complete when it has sent nothing for a moment. Its admission and the retirement of the generation
before happen in one turn of the loop: no call finds a function missing, no trigger fires twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from linkly.errors import WorkerConflict
from linkly.origin import is_loopback
from linkly.wire.messages import RegisterFunction
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.metadata import WorkerMetadata
from linkly_engine.process import sessions
from linkly_engine.remote.peer import Peer
from linkly_engine.remote.peers import Peers

log = logging.getLogger("linkly.process")

STEP_S = 0.05
QUIET_S = 0.1
"""A generation that has registered every function of the one before is complete after this silence."""

FEWER_S = 1.0
"""The same where functions are missing: more may come."""

EMPTY_S = 2.0
"""The same where nothing was registered: it may only call."""

LONGEST_S = 10.0
"""It is complete after this time, whatever it still sends."""


class Arrival:
    """Holds the connections of one generation until they are admitted.

    Args:
        exchange: Where they register.
        peers: Gets this object among its `arrivals`.
        name: Of the worker. Its records are shown under it, and a program whose process is not visible (in a container)
            is recognized by it.
        session: Of the program's processes.

    Attributes:
        came: Set while there is a connection.
    """

    def __init__(self, exchange: Exchange, peers: Peers, *, name: str, session: int) -> None:
        self._exchange = exchange
        self._peers = peers
        self.name = name
        self._session = session
        self._held: list[tuple[Peer, Callable[[], None]]] = []
        self.came = asyncio.Event()
        peers.arrivals.append(self)

    def takes(self, peer: Peer, metadata: WorkerMetadata) -> bool:
        """Return whether a connection belongs to this program."""
        if in_session(peer, metadata.pid, self._session):
            return True
        return metadata.name == self.name and not _runs_here(metadata.pid)

    def add(self, peer: Peer, admit: Callable[[], None]) -> None:
        """Hold a connection."""
        self._exchange.tables.started_by(peer.record, self.name)
        self._held.append((peer, admit))
        self.came.set()

    async def complete(self, needed: set[str]) -> None:
        """Wait until the program has registered everything.

        Args:
            needed: Functions that the generation before serves.
        """
        clock = self._exchange.clock
        while True:
            await self.came.wait()
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
            self._held.clear()  # all were closed: wait for the next connection
            self.came.clear()

    @property
    def pids(self) -> list[int]:
        """Processes of the program."""
        return sessions.members(self._session)

    @property
    def peers(self) -> list[Peer]:
        """The held connections that are open."""
        return [peer for peer, _ in self._held if not peer.connection.closed]

    def let_in(self) -> str | None:
        """Admit the held connections; return why one was refused, `None` if none was.

        To be called in the turn of the loop in which the generation before retires.
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
                self._exchange.tables.announce(peer.record)
        self._held.clear()
        return problem

    def close(self) -> None:
        """Hold no further connections: they are admitted as those of any worker."""
        if self in self._peers.arrivals:
            self._peers.arrivals.remove(self)


def in_session(peer: Peer, pid: int | None, session: int) -> bool:
    """Return whether a connection comes from a process of a session on this machine."""
    address = peer.record.ip_address
    if pid is None or pid <= 0 or not (address is None or is_loopback(address.partition("%")[0])):
        return False
    try:
        return os.getsid(pid) == session or os.getpgid(pid) == session
    except (ProcessLookupError, PermissionError, OverflowError):
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
