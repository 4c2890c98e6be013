"""The workers that live in the engine's process: started, stopped, handed over from one generation to the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress

import msgspec

from linkly.clock import time_limit
from linkly.errors import ConfigError, LinklyError
from linkly.worker import Worker, running
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.records import WorkerRecord
from linkly_engine.local.bus import LocalBus
from linkly_engine.local.handover import Handover

log = logging.getLogger("linkly.engine")

DRAIN_S = 10.0
"""How long calls in flight have when their worker is stopped."""


class _Hosted(msgspec.Struct, eq=False):
    """A worker that was started, and what ends it."""

    worker: Worker
    bus: LocalBus
    stack: AsyncExitStack
    internal: bool


class Host:
    """Starts and stops workers in this process."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._hosted: list[_Hosted] = []

    def bus(self, name: str, *, internal: bool = True) -> LocalBus:
        """Return a bus for code that lives beside the engine, registered as worker `name`."""
        record = WorkerRecord(
            name=name,
            namespace="default",
            in_process=True,
            announced=True,
            internal=internal,
            runtime="engine",
            isolation="in-process",
            connected_at_ms=int(self._exchange.clock.time() * 1000),
        )
        self._exchange.tables.add_worker(record)
        return LocalBus(self._exchange, record)

    async def start(
        self, worker: Worker, *, internal: bool = False, takes_over: Handover | None = None
    ) -> WorkerRecord:
        """Start a worker; its triggers are bound when the providers have acknowledged, its `ready` is the caller's.

        Args:
            internal: It is a part of the engine: not among `running`.
            takes_over: What an earlier generation left.

        Raises:
            ConfigError: It could not start; nothing of it is left.
        """
        tables, bus = self._exchange.tables, self.bus(worker.name, internal=internal)
        tables.claim_name(bus.record, bus.record.home, worker.name, shared=True)
        if takes_over is not None:
            bus.before_first_registration = takes_over.hand_over
        async with AsyncExitStack() as stack:
            stack.callback(tables.forget, bus.record)
            with _told(worker):
                if takes_over is not None:
                    takes_over.bequeath(worker)
                await stack.enter_async_context(running(worker, bus, alone=False))
            self._hosted.append(_Hosted(worker, bus, stack.pop_all(), internal))
        return bus.record

    async def ready(self, worker: Worker) -> None:
        """Call a worker's `ready`.

        Raises:
            ConfigError: It cannot run.
        """
        with _told(worker):
            await worker.ready()

    async def stop(self, worker: Worker, *, waiting: bool = False) -> Handover:
        """Stop a worker: calls in flight finish (for at most `DRAIN_S`), new ones are kept from it, then it ends.

        Args:
            waiting: A next generation comes at once: new calls wait for it. The caller has to `release` what is
                returned when it is up, or when it will not come.

        Returns:
            What stands in for it, for `start(takes_over=...)`.
        """
        hosted = next(each for each in self._hosted if each.worker is worker)
        handover = Handover(self._exchange, hosted.bus.record, waiting=waiting)
        with suppress(TimeoutError):
            async with time_limit(self._exchange.clock, DRAIN_S), asyncio.TaskGroup() as beside:
                beside.create_task(_drain(worker))  # a call may wait for what only this ends, as in `drain`
                await hosted.bus.idle()
                await _drain(worker)
        if hosted.bus.in_flight:
            log.warning("worker `%s` ends with %d calls unfinished", worker.name, hosted.bus.in_flight)
        try:
            if waiting:
                handover.keep(worker)
            await self._end(hosted)
        except Exception:
            log.exception("worker `%s` failed while it ended", worker.name)
        if not waiting:
            handover.release()
        return handover

    async def drain(self) -> None:
        """Wait until every running worker has finished what it owes."""
        await asyncio.gather(*(_drain(worker) for worker in self.running))

    async def end(self) -> None:
        """End all workers, each when its turn has come (`turn_to_end`)."""
        async with AsyncExitStack() as ends:  # which goes backwards
            for hosted in sorted(self._hosted, key=lambda each: self.turn_to_end(each.worker), reverse=True):
                ends.push_async_callback(self._end, hosted)

    async def acknowledged(self) -> None:
        """Wait until every provider in this process has dealt with every binding it was told of."""
        for each in self._exchange.tables.triggers.providers:
            await each.provider.acknowledged()

    @property
    def running(self) -> list[Worker]:
        """The workers, the engine's own left out, in the order in which they start; they end in reverse."""
        return [hosted.worker for hosted in self._hosted if not hosted.internal]

    def arrange(self, order: Iterable[Worker]) -> None:
        """Say in which order the running workers stand; those not named stay in front of the others."""
        places = {id(worker): place for place, worker in enumerate(order)}
        self._hosted.sort(key=lambda hosted: places.get(id(hosted.worker), -1))

    def record_of(self, worker: Worker) -> WorkerRecord | None:
        """Return the lifetime of a worker; `None` if it does not run."""
        return next((hosted.bus.record for hosted in self._hosted if hosted.worker is worker), None)

    def turn_to_end(self, worker: Worker) -> tuple[bool, int]:
        """Return by what running workers are sorted that end together, last started first.

        Those that serve no function come before the others: they only call, as a gateway does, and can finish while
        everything that they call still runs.
        """
        place, hosted = next((place, each) for place, each in enumerate(self._hosted) if each.worker is worker)
        return self._exchange.tables.functions.count(hosted.bus.record) > 0, -place

    async def _end(self, hosted: _Hosted) -> None:
        self._hosted.remove(hosted)
        await hosted.stack.aclose()


@contextmanager
def _told(worker: Worker) -> Iterator[None]:
    """Make an error of what a worker raises while it starts; what may be a fault of its code is logged whole."""
    try:
        yield
    except LinklyError:
        raise
    except Exception as error:
        if not isinstance(error, OSError):
            log.error("worker `%s` cannot start", worker.name, exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"worker `{worker.name}` failed while it started: {reason}") from error


async def _drain(worker: Worker) -> None:
    """Let a worker finish what it owes; that it fails must keep nobody else from ending in order."""
    try:
        await worker.drain()
    except Exception:
        log.exception("worker `%s` failed while it drained", worker.name)
