"""One generation of a worker: its program from the start to the end, and what it has connected."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from linkly_engine.process.arrival import Arrival, in_session
from linkly_engine.process.hopeless import is_hopeless
from linkly_engine.process.program import Program

if TYPE_CHECKING:
    from linkly_engine.engine import Engine
    from linkly_engine.remote.peer import Peer

log = logging.getLogger("linkly.process")

DRAIN_S = 10.0
STEP_S = 0.01
SHOWN_LINES = 5

_ERROR_LINE = re.compile(r"(?:Uncaught )?(?:[A-Za-z_][\w.]*)?(?:Error|Exception|Interrupt)(?: \[\w+\])?(?:: .+|$)")
_INSTALLER_LINE = re.compile(
    r"ERROR: (?P<pip>.+)|npm (?:error|ERR!) (?!code |errno |syscall |A complete log)(?P<npm>.*\w\W+\w.*)"
)
INSTALLER_LINES = 2


class NotReady(Exception):
    """A generation did not come to serve; the argument is why. `lasting`: only a change can help."""

    def __init__(self, reason: str, *, lasting: bool = False, uptime_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting
        self.uptime_s = uptime_s


class Superseded(Exception):
    """Something has changed while a generation was being started: begin anew."""


class Generation:
    """A program in its session, and the connections that come from there.

    Attributes:
        program: The process.
        arrival: Its connections, until they are let in.
        started_s: On the engine's monotonic clock.
        started_at_ms: Since the epoch.
    """

    def __init__(self, engine: Engine, name: str, program: Program) -> None:
        self._engine = engine
        self._name = name
        self.program = program
        self.arrival = Arrival(engine, name=name, session=program.pid)
        self.started_s = engine.clock.monotonic()
        self.started_at_ms = int(engine.clock.time() * 1000)
        self._let_in: list[Peer] = []

    @property
    def uptime_s(self) -> float:
        """How long ago it was started."""
        return self._engine.clock.monotonic() - self.started_s

    @property
    def peers(self) -> list[Peer]:
        """Its connections that are open."""
        return [
            peer
            for peer in self._engine.peers.values()
            if peer in self._let_in or in_session(peer, peer.record.pid, self.program.pid)
        ]

    @property
    def functions(self) -> set[str]:
        """Ids of the functions it serves."""
        records = [peer.record for peer in self.peers]
        return {function.id for function in self._engine.registry if function.owner in records}

    def enter(self, before: Generation | None) -> str | None:
        """Begin to serve, in place of the generation before, in one turn; return what stands in the way."""
        if before is not None:
            before.retire()
        self._let_in = self.arrival.peers
        return self.arrival.let_in()

    def retire(self) -> None:
        """From now on others may take its names and ids; its triggers are gone."""
        for peer in self.peers:
            self._engine.retire(peer.record)

    def withdraw(self) -> None:
        """Serve no new calls: its names, ids and triggers are gone."""
        self.arrival.close()
        for peer in self.peers:
            self._engine.withdraw(peer.record)

    async def drain(self, within_s: float = DRAIN_S) -> None:
        """Wait until the calls that it serves are answered."""
        peers = self.peers
        try:
            async with asyncio.timeout(within_s):
                # Asked now and then: an event would cost something on the way of every call.
                while any(peer.connection.session.calls for peer in peers if not peer.connection.closed):  # noqa: ASYNC110
                    await asyncio.sleep(STEP_S)
        except TimeoutError:
            left = sum(len(peer.connection.session.calls) for peer in peers)
            log.warning("worker `%s`: %d calls have not finished in %g s and end now", self._name, left, within_s)

    async def leave(self, within_s: float) -> None:
        """Serve no new calls, finish the others and end; nothing takes over."""
        try:
            self.withdraw()
            await self.drain(within_s)
        finally:
            await self.end()

    async def end(self) -> None:
        """End its processes, all of them."""
        self.arrival.close()
        await self.program.end()

    @property
    def hopeless(self) -> bool:
        """Whether it has ended, and would do so again: nothing but a change can help."""
        return is_hopeless(self.program.returncode, self.program.recent())

    def why_it_ended(self) -> str:
        """Return one sentence: exit code or signal, what to do, and the last lines it wrote."""
        return explain(self.program)


def explain(program: Program) -> str:
    """Say how a program ended, and the last it said."""
    code = program.returncode
    if code is None:
        text = "runs"
    elif code < 0:
        text = f"was ended by {_signal(-code)}"
    elif code == 0:
        text = "ended with exit code 0, but a worker's start command has to keep running"
    elif code == 126:
        text = "ended with exit code 126: a command cannot be executed; is it a program, and may it be run?"
    elif code == 127:
        text = "ended with exit code 127: a command was not found; is it installed, and on PATH?"
    else:
        text = f"ended with exit code {code}" + (f" ({_signal(code - 128)})" if code > 128 else "")
    lines = program.recent()
    error = error_line(lines)
    if error is not None:
        return f"{text}: {error}"
    lines = lines[-SHOWN_LINES:]
    return f"{text}; its last lines: {' | '.join(lines)}" if lines else f"{text}, without a word"


def error_line(lines: list[str]) -> str | None:
    """Return the line that names the error a program ended with; `None`: none does.

    Python writes it last, below its traceback; Node first, above its stack. pip and npm mark theirs, among warnings and
    repetitions; the first two are returned as one.
    """
    named = [line for line in lines if _ERROR_LINE.match(line)]
    if any(line.startswith("Traceback (") for line in lines):
        return named[-1] if named and named[-1] in lines[-SHOWN_LINES:] else None
    if named and any(line.startswith(("at ", "Node.js v")) for line in lines):
        return named[0]
    marked = [found["pip"] or found["npm"].strip() for found in map(_INSTALLER_LINE.fullmatch, lines) if found]
    return " | ".join(marked[:INSTALLER_LINES]) or None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


async def first_of(*waiting: Awaitable[object]) -> set[int]:
    """Wait until one has returned; return which have; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return {number for number, task in enumerate(tasks) if task.done() and not task.cancelled()}
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
