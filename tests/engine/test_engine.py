"""The engine's own promises: quick to start, and nothing left behind by calls that went wrong."""

import asyncio
import inspect
import time
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from linkly import Function, LinklyError, Worker, function
from linkly.errors import ConfigError
from linkly.testing import ManualClock, running_engine, settle, wired
from linkly.worker import running
from linkly_engine.engine import Engine

START_AND_STOP_S = 0.05


class Sleeper(Worker):
    """Functions that end in every way there is."""

    name = "sleeper"

    @function("sleeper::sleep")
    async def sleep(self) -> None:
        """Never answer."""
        await asyncio.Event().wait()

    @function("sleeper::relay")
    async def relay(self) -> None:
        """Call the one that never answers."""
        await self.bus.trigger("sleeper::sleep")

    @function("sleeper::fail")
    async def fail(self) -> None:
        """Fail."""
        raise ValueError("no")


class Broken(Worker):
    """Fails while it starts, by its own code or by what the machine lacks."""

    name = "broken"

    def __init__(self, when, error):
        super().__init__()
        self.when, self.error = when, error

    @asynccontextmanager
    async def lifespan(self):
        if self.when == "lifespan":
            raise self.error
        yield

    async def ready(self):
        if self.when == "ready":
            raise self.error


class Recorder(Worker):
    """Notes when it starts and ends."""

    name = "recorder"

    def __init__(self, name: str, notes: list[str], error: Exception | None = None) -> None:
        super().__init__()
        self.name = name
        self.notes = notes
        self.error = error

    @asynccontextmanager
    async def lifespan(self):
        """Note it, or fail."""
        if self.error is not None:
            raise self.error
        self.notes.append(f"{self.name} starts")
        yield
        self.notes.append(f"{self.name} ends")


def cut(engine, name):
    next(peer for peer in engine.peers.values() if peer.record.name == name).cut("gone")


async def test_a_test_engine_starts_and_stops_in_50_ms():
    took = []
    while len(took) < 20 and min(took, default=1.0) >= START_AND_STOP_S:
        started = time.perf_counter()
        async with running_engine(Sleeper()) as bus:
            await bus.trigger("engine::functions::list")
        took.append(time.perf_counter() - started)
    assert min(took) < START_AND_STOP_S  # one of them: others' work on this machine only ever adds


async def test_a_worker_that_runs_by_itself_is_ready_once_it_is_registered():
    class Filled(Worker):
        name = "filled"

        @function("filled::value")
        async def value(self) -> str:
            return "own"

        async def ready(self):
            self.cached = await self.bus.trigger("filled::value")

    async with Engine() as engine, wired(engine, name="filled") as bus:
        worker = Filled()
        async with running(worker, bus):
            assert worker.cached == "own"


def busy_tasks():
    """Return the tasks that do something; those of `linkly.runner` that wait for work await a bare future."""
    return {each for each in asyncio.all_tasks() if not waits_for_work(each.get_coro())}


def waits_for_work(coroutine):
    return coroutine.__qualname__ == "_Line._work" and not inspect.iscoroutine(coroutine.cr_await)


@pytest.mark.parametrize("wire", ["in process", "native", "json"])
async def test_calls_that_end_badly_leave_no_task_no_entry_and_no_timer(wire):
    before = busy_tasks()
    clock = ManualClock()
    async with Engine(clock=clock) as engine:
        await engine.start([Sleeper()] if wire == "in process" else [])
        native = wire == "native"
        async with (
            wired(engine, name="worker", native=native) as remote,
            wired(engine, name="caller", native=native) as caller,
            AsyncExitStack() as serving,
        ):
            if wire != "in process":
                await serving.enter_async_context(running(Sleeper(), remote))
            await settle()
            bus = engine.bus("test") if wire == "in process" else caller
            idle = busy_tasks()
            calls = [
                asyncio.create_task(bus.trigger(f"sleeper::{kind}", timeout_s=1.0 + number % 7))
                for number in range(20)
                for kind in ("sleep", "relay", "fail", "none")
            ]
            await settle()
            for call in calls[::8]:
                call.cancel()
            await clock.advance(100)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {getattr(each, "code", "cancelled") for each in outcomes} == {
                "TIMEOUT",
                "invocation_failed",
                "function_not_found",
                "cancelled",
            }
            await settle()
            if wire != "json":  # iii's protocol cannot tell an executor that nobody waits any more
                assert busy_tasks() == idle
            assert len(engine.deadlines) == 0
            numbers = await bus.trigger("engine::statistics")
            # By iii's protocol a call ends when it is answered or its executor goes, and by nothing else (C30).
            if wire == "json":
                cut(engine, "worker")
                await settle()
                numbers = await bus.trigger("engine::statistics")
            for each in numbers["connections"]:
                waiting_for_this_answer = int(each["name"] == "caller" and wire != "in process")
                assert (each["calls_waiting_for_it"], each["calls_it_waits_for"]) == (0, waiting_for_this_answer)
        await settle()
        assert engine.background_calls == 0
    await settle()
    assert busy_tasks() == before


async def test_an_executor_that_goes_away_ends_its_calls_at_once():
    async with (
        Engine(clock=ManualClock()) as engine,
        wired(engine, name="caller") as caller,
        wired(engine, name="worker") as worker,
    ):
        worker.register_function(Function("slow::call", asyncio.Event().wait))
        await settle()
        local = asyncio.create_task(engine.bus("test").trigger("slow::call"))
        remote = asyncio.create_task(caller.trigger("slow::call"))
        await settle()
        cut(engine, "worker")
        for call in (local, remote):
            with pytest.raises(LinklyError) as failure:
                await call
            assert failure.value.code == "invocation_stopped"


async def test_workers_start_in_order_and_end_in_reverse():
    notes: list[str] = []
    async with running_engine(Recorder("a", notes), Recorder("b", notes)):
        assert notes == ["a starts", "b starts"]
    assert notes[2:] == ["b ends", "a ends"]


async def test_a_worker_that_cannot_start_ends_the_others():
    notes: list[str] = []
    with pytest.raises(ConfigError, match=r"`b`.*no disk"):
        async with running_engine(Recorder("a", notes), Recorder("b", notes, OSError("no disk"))):
            pass
    assert notes == ["a starts", "a ends"]


@pytest.mark.parametrize("wire", ["native", "json"])
async def test_calls_in_flight_are_bounded_on_both_sides(wire, monkeypatch):
    monkeypatch.setattr("linkly.wire.connection.CALLS_LIMIT", 10)
    async with Engine() as engine:
        await engine.start([Sleeper()])
        native = wire == "native"
        async with (
            wired(engine, name="worker", native=native) as worker,
            wired(engine, name="caller", native=native) as caller,
        ):
            worker.register_function(Function("remote::sleep", asyncio.Event().wait))
            await settle()
            for bus, function_id in ((engine.bus("test"), "remote::sleep"), (caller, "sleeper::sleep")):
                calls = [asyncio.create_task(bus.trigger(function_id)) for _ in range(12)]
                done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                await settle()
                assert sum(call.done() for call in calls) == 2
                assert {call.exception().code for call in done} == {"overloaded"}
                for call in waiting:
                    call.cancel()
                await settle()
            cut(engine, "worker")
            cut(engine, "caller")


@pytest.mark.parametrize("when", ["lifespan", "ready"])
async def test_a_worker_that_fails_while_it_starts_is_named(when, caplog):
    async with Engine() as engine:
        with pytest.raises(ConfigError, match="worker `broken` failed while it started: ValueError: a fault"):
            await engine.start([Broken(when, ValueError("a fault"))])
    (line,) = [each for each in caplog.records if each.exc_info]
    assert line.getMessage() == "worker `broken` cannot start"


async def test_what_the_machine_lacks_is_told_without_a_traceback(caplog):
    async with Engine() as engine:
        with pytest.raises(ConfigError, match="PermissionError: a file"):
            await engine.start([Broken("lifespan", PermissionError("a file"))])
    assert [each for each in caplog.records if each.exc_info] == []


async def test_an_error_that_a_worker_words_itself_stays_as_it_is():
    async with Engine() as engine:
        with pytest.raises(ConfigError, match=r"^config_error: port: is taken$"):
            await engine.start([Broken("ready", ConfigError("port: is taken"))])
