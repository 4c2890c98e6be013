"""One generation of a worker: its program from the start to the end, and its connections."""

from __future__ import annotations

import logging

from linkly.clock import time_limit
from linkly_engine.core.exchange import Exchange
from linkly_engine.process.arrival import Arrival, in_session
from linkly_engine.process.program import Program
from linkly_engine.remote.peer import Peer
from linkly_engine.remote.peers import Peers

log = logging.getLogger("linkly.process")

DRAIN_S = 10.0
STEP_S = 0.01


class Generation:
    """A program in a session of its own, and the connections of the processes in it.

    Attributes:
        program: The process.
        arrival: Its connections, until they are admitted.
        started_at_ms: Since the epoch.
    """

    def __init__(self, exchange: Exchange, peers: Peers, name: str, program: Program) -> None:
        self._exchange = exchange
        self._peers = peers
        self._name = name
        self.program = program
        self.arrival = Arrival(exchange, peers, name=name, session=program.pid)
        self._started_s = exchange.clock.monotonic()
        self.started_at_ms = int(exchange.clock.time() * 1000)
        self._let_in: list[Peer] = []

    @property
    def uptime_s(self) -> float:
        """How long ago it was started."""
        return self._exchange.clock.monotonic() - self._started_s

    @property
    def peers(self) -> list[Peer]:
        """Its connections that are open."""
        return [
            peer
            for peer in self._peers.values()
            if peer in self._let_in or in_session(peer, peer.record.pid, self.program.pid)
        ]

    @property
    def functions(self) -> set[str]:
        """Ids of the functions it serves."""
        functions = self._exchange.tables.functions
        return {function.id for peer in self.peers for function in functions.of(peer.record)}

    def enter(self, before: Generation | None) -> str | None:
        """Take over from the generation before, in one turn of the loop; return why a connection was refused."""
        if before is not None:
            before.retire()
        self._let_in = self.arrival.peers
        return self.arrival.let_in()

    def retire(self) -> None:
        """Give its names and ids free for the next generation and take its triggers back; its calls go on."""
        for peer in self.peers:
            self._exchange.tables.retire(peer.record)

    async def drain(self, within_s: float = DRAIN_S) -> None:
        """Wait until the calls that it serves are answered."""
        peers, clock = self.peers, self._exchange.clock
        try:
            async with time_limit(clock, within_s):
                # Polled: 90 us of CPU each time, once a generation; an event would cost every call 0.03 us.
                while any(peer.connection.calls for peer in peers if not peer.connection.closed):
                    await clock.sleep(STEP_S)
        except TimeoutError:
            left = sum(len(peer.connection.calls) for peer in peers)
            log.warning("worker `%s`: %d calls have not finished in %g s and end now", self._name, left, within_s)

    async def leave(self, within_s: float) -> None:
        """Serve no new calls, let the others finish, and end; no generation takes over."""
        try:
            self.arrival.close()
            for peer in self.peers:
                self._exchange.tables.withdraw(peer.record)
            await self.drain(within_s)
        finally:
            await self.end()

    async def end(self) -> None:
        """End its processes, all of them."""
        self.arrival.close()
        await self.program.end()
