"""When `trigger` raises CallTimeout, and whether the handler has ended by then."""

import asyncio

import pytest

from linkly import Worker, current, function
from linkly.errors import CallTimeout
from linkly.function import Function
from linkly.testing import ManualClock, settle, wired
from linkly.worker import running
from linkly_engine.engine import Engine


class Slow(Worker):
    """Has handlers that do not end at once when they are cancelled."""

    name = "slow"

    def __init__(self):
        super().__init__()
        self.seen = []
        self.may_end = asyncio.Event()

    @function("slow::job")
    async def job(self) -> None:
        """Take time to clean up."""
        self.seen.append("begins" if current().metadata is None else "begins a job")
        try:
            await asyncio.Event().wait()
        finally:
            self.seen.append("cancelled")
            await self.may_end.wait()
            self.seen.append("ended")

    @function("slow::stubborn")
    async def stubborn(self) -> str:
        """Answer though it was cancelled."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await self.may_end.wait()
        return "late"


class Running:
    """An engine, the worker in it or connected to it, and a call of the engine's own bus."""

    def __init__(self, engine, clock, worker):
        self.engine, self.clock, self.worker = engine, clock, worker
        self.bus = engine.bus("queue")

    async def call(self, function_id="slow::job", **options):
        call = asyncio.ensure_future(self.bus.trigger(function_id, None, timeout_s=5, **options))
        await settle()
        return call


@pytest.fixture
async def started(request):
    clock, worker = ManualClock(), Slow()
    async with Engine(clock=clock) as engine:
        if request.param == "in process":
            await engine.start([worker])
            yield Running(engine, clock, worker)
            worker.may_end.set()
            return
        async with (
            wired(engine, name="slow", native=request.param == "native") as bus,
            running(worker, bus),
        ):
            await settle()
            yield Running(engine, clock, worker)
            worker.may_end.set()


def at(*places):
    return pytest.mark.parametrize("started", places, indirect=True)


@at("in process", "native")
@pytest.mark.parametrize("metadata", [None, {"job": {"id": "1"}}])
async def test_a_call_with_a_grace_time_raises_when_the_handler_has_ended(started, metadata):
    call = await started.call(grace_s=10, metadata=metadata)
    await started.clock.advance(5)
    assert started.worker.seen == ["begins a job" if metadata else "begins", "cancelled"]
    assert not call.done()
    started.worker.may_end.set()
    with pytest.raises(CallTimeout):
        await call
    assert started.worker.seen[-1] == "ended"


@at("native")
async def test_the_grace_time_is_a_bound(started):
    call = await started.call(grace_s=10)
    await started.clock.advance(5)
    await started.clock.advance(9)
    assert not call.done()
    await started.clock.advance(1)
    with pytest.raises(CallTimeout):
        await call
    assert started.worker.seen == ["begins", "cancelled"]


@at("native", "json")
async def test_without_a_grace_time_a_remote_handler_may_still_run(started):
    call = await started.call()
    await started.clock.advance(5)
    with pytest.raises(CallTimeout):
        await call
    assert "ended" not in started.worker.seen


@at("json")
async def test_a_worker_that_cannot_be_told_is_not_waited_for(started):
    call = await started.call(grace_s=10)
    await started.clock.advance(5)
    with pytest.raises(CallTimeout):
        await call
    assert started.worker.seen == ["begins"]


@at("native")
async def test_a_late_answer_is_an_end_and_no_result(started):
    call = await started.call("slow::stubborn", grace_s=10)
    await started.clock.advance(5)
    started.worker.may_end.set()
    with pytest.raises(CallTimeout):
        await call


@at("native")
async def test_the_end_of_the_connection_is_the_end_of_the_handler(started):
    call = await started.call(grace_s=10)
    await started.clock.advance(5)
    next(iter(started.engine.peers.values())).cut("on purpose")
    with pytest.raises(CallTimeout):
        await call


@at("in process", "native")
async def test_a_caller_that_is_cancelled_waits_as_well_and_a_second_time_no_more(started):
    call = await started.call(grace_s=10)
    call.cancel()
    await settle()
    assert started.worker.seen == ["begins", "cancelled"]
    assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@at("native")
async def test_nothing_is_kept_of_a_call_whose_handler_has_ended(started):
    call = await started.call(grace_s=10)
    await started.clock.advance(5)
    started.worker.may_end.set()
    with pytest.raises(CallTimeout):
        await call
    assert all(not peer.connection.calls for peer in started.engine.peers.values())


@at("in process", "native")
async def test_a_handler_that_is_no_coroutine_cannot_be_waited_for(started):
    entered, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def blocks():
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(leave.wait(), loop).result()

    registration = started.worker.bus.register_function(Function("slow::blocks", blocks))
    await settle()
    call = await started.call("slow::blocks", grace_s=10)
    await asyncio.wait_for(entered.wait(), 30)
    await started.clock.advance(5)
    with pytest.raises(CallTimeout):
        await call
    leave.set()
    registration.unregister()
