"""A program takes a worker name that another one has: it is told at once, and gets in when the name is free."""

import asyncio
import logging
from contextlib import asynccontextmanager

import pytest

from linkly import Client, Function, trigger
from linkly.errors import WorkerConflict
from linkly.iii import InitOptions, InvocationError, register_worker
from linkly.testing import ManualClock, settle, wired
from linkly_engine.core.changes import WorkerHere
from support.serving import engine_and_bus, serving


@asynccontextmanager
async def taken(*, native=True):
    """Run an engine whose `shop` is another program; yield its clock, itself, its bus, and what ends that program."""
    clock = ManualClock()
    async with engine_and_bus(clock=clock) as (engine, bus):
        context = wired(engine, name="shop", native=native)
        await context.__aenter__()
        await settle()
        engine.tables.workers.holder("default", "shop").pid = -1
        ended = asyncio.Event()

        async def end():
            if not ended.is_set():
                ended.set()
                await context.__aexit__(None, None, None)
                await settle()

        yield clock, engine, bus, end
        await end()


@pytest.mark.parametrize("native", [True, False], ids=["native", "json"])
async def test_every_call_of_the_newcomer_says_that_its_name_is_taken(native):
    async with taken(native=native) as (_, engine, _, _end), wired(engine, name="shop", native=native) as newcomer:
        owner = engine.tables.workers.holder("default", "shop")
        await settle()
        for _ in range(2):
            with pytest.raises(WorkerConflict, match="`shop` is taken"):
                await newcomer.trigger("engine::functions::list")
        with pytest.raises(WorkerConflict):
            await newcomer.wait_connected()
        assert not newcomer.connected
        assert engine.tables.workers.holder("default", "shop") is owner


async def test_a_call_that_is_on_its_way_when_the_name_is_refused_says_so_as_well():
    async with taken() as (_, engine, bus, _end), wired(engine, name="shop") as newcomer:

        async def endless(payload):
            await asyncio.Event().wait()

        bus.register_function(Function("t::endless", endless))
        with pytest.raises(WorkerConflict, match="`shop` is taken"):
            await newcomer.trigger("t::endless")


async def test_both_sides_say_it_in_one_line(caplog):
    async with taken() as (clock, engine, _, _end):
        async with wired(engine, name="shop"):
            await settle()
            await clock.advance(60)  # it goes on trying: said by the newcomer once
        said = [(line.name, line.levelno) for line in caplog.records if "`shop` is taken" in line.getMessage()]
        assert said.count(("linkly.client", logging.ERROR)) == 1
        assert ("linkly.engine", logging.WARNING) in said
        assert not [line for line in caplog.records if "lost the connection" in line.getMessage()]


async def test_the_newcomer_brings_its_registrations_when_the_name_is_free():
    async with taken() as (clock, engine, _, end), wired(engine, name="shop") as newcomer:
        await settle()
        newcomer.register_function(Function("shop::open", lambda payload: "open"))
        await clock.advance(5)
        assert engine.tables.functions.find("default", "shop::open") is None
        await end()
        await clock.advance(15)  # longer than it waits between two attempts
        assert newcomer.connected
        assert await newcomer.trigger("shop::open") == "open"
        assert engine.tables.workers.holder("default", "shop").id == newcomer.worker_id


async def test_what_is_registered_during_an_attempt_is_served():
    async with taken() as (clock, engine, _, end), wired(engine, name="shop") as newcomer:
        await settle()
        late = []

        def register_late(change):
            if isinstance(change, WorkerHere) and not late:
                late.append(newcomer.register_function(Function("shop::late", lambda payload: "late")))

        await end()
        engine.tables.observe(register_late)
        await clock.advance(15)
        assert late
        assert await newcomer.trigger("shop::late") == "late"


async def test_the_newcomer_tries_ever_more_seldom():
    async with taken() as (clock, engine, _, _end), wired(engine, name="shop"):
        attempts = []
        engine.tables.observe(lambda change: attempts.append(type(change)))
        for _ in range(100):
            await clock.advance(1)
        assert 5 <= attempts.count(WorkerHere) <= 22


async def test_a_program_written_for_iii_is_told_and_gets_in_too():
    async with serving() as (engine, server), asyncio.timeout(30):
        watcher, in_again = engine.bus("watcher"), asyncio.Event()

        async def look(payload):
            if payload["event"] == "worker_metadata_updated":
                in_again.set()

        async with Client(server.url, name="shop") as first:
            await first.trigger("engine::functions::list")
            engine.tables.workers.holder("default", "shop").pid = -1
            worker = await asyncio.to_thread(register_worker, server.url, InitOptions(worker_name="shop"))
            try:
                with pytest.raises(InvocationError, match="is taken"):
                    await worker.trigger_async({"function_id": "engine::functions::list", "payload": {}})
                watcher.register_function(Function("watcher::look", look))
                watcher.register_trigger("watcher::look", trigger("engine::workers-available"))
                await first.close()
                await in_again.wait()
                # Its thread may not have read yet what the engine calls it; answers come behind that.
                await worker.trigger_async({"function_id": "engine::functions::list", "payload": {}})
                assert engine.tables.workers.holder("default", "shop").id == worker.worker_id
            finally:
                await asyncio.to_thread(worker.shutdown)


async def test_a_program_whose_namespace_is_refused_is_told(caplog):
    async with (
        serving() as (_, server),
        asyncio.timeout(30),
        Client(server.url, name="shop", namespace=" ") as newcomer,
    ):
        await newcomer.trigger("engine::functions::list")  # answered after the metadata call
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "`shop`" in line
    assert "namespace ' ' is blank" in line
