"""`engine::worker-gone`: whoever keeps something for a worker hears of its end, also when that came first."""

import asyncio

import pytest

from linkly import Client, Worker, WorkerGone, current, function, worker_gone
from linkly.testing import running_engine, settle, wired
from linkly.worker import running
from linkly_engine.engine import Engine


async def watch(bus_engine, watched, trigger_id="w"):
    """Return a client that is called when `watched` is gone."""
    client = await bus_engine.connect()
    await client.send(type="registerfunction", id="watch::gone")
    config = {"worker_id": watched}
    await client.send(
        type="registertrigger", id=trigger_id, trigger_type="engine::worker-gone", function_id="watch::gone",
        config=config,
    )  # fmt: skip
    return client


async def test_it_fires_once_for_the_watched_worker(bus_engine):
    watched, other = await bus_engine.connect(), await bus_engine.connect()
    watcher = await watch(bus_engine, watched.worker_id)
    await watcher.nothing_came()
    await bus_engine.gone(other)
    assert await watcher.nothing_came() == []
    await bus_engine.gone(watched)
    told = await watcher.until("invokefunction")
    assert told["data"] == {"worker_id": watched.worker_id, "announced": True}
    assert await watcher.nothing_came() == []


async def test_a_function_that_goes_on_is_counted_as_a_call_nobody_waits_for(bus_engine):
    watcher = await watch(bus_engine, "somebody who is gone")
    await watcher.until("invokefunction")
    assert (await watcher.call("engine::statistics"))["result"]["background_calls"] == 1


async def test_it_fires_at_once_for_a_worker_that_has_left_before(bus_engine):
    watched = await bus_engine.connect()
    await bus_engine.gone(watched)
    watcher = await watch(bus_engine, watched.worker_id)
    assert (await watcher.until("invokefunction"))["data"]["worker_id"] == watched.worker_id


async def test_one_that_never_named_itself_is_told_apart(bus_engine):
    watched = await bus_engine.connect(metadata=False)
    watcher = await watch(bus_engine, watched.worker_id)
    await watcher.nothing_came()
    await bus_engine.gone(watched)
    assert (await watcher.until("invokefunction"))["data"]["announced"] is False


async def test_a_binding_that_was_taken_back_does_not_fire(bus_engine):
    watched = await bus_engine.connect()
    watcher = await watch(bus_engine, watched.worker_id)
    await watcher.send(type="unregistertrigger", id="w", trigger_type="engine::worker-gone")
    await watcher.nothing_came()
    await bus_engine.gone(watched)
    assert await watcher.nothing_came() == []


async def test_a_binding_that_is_taken_back_before_its_turn_does_not_fire():
    heard = []

    class Ear(Worker):
        name = "ear"

        @function("ear::gone")
        async def gone(self, event: WorkerGone) -> None:
            heard.append(event.worker_id)

    async with Engine() as engine:
        ear = Ear()
        await engine.start([ear])
        # More than the provider binds in one turn of the loop: what fires for the first would run before it hears more.
        bindings = [ear.bus.register_trigger("ear::gone", worker_gone("gone before")) for _ in range(1000)]
        for binding in bindings[1:]:
            binding.unregister()
        await engine.acknowledged()
        await settle()
        assert heard == ["gone before"]


async def test_a_config_without_a_worker_is_refused(bus_engine):
    client = await bus_engine.connect()
    await client.send(type="registertrigger", id="w", trigger_type="engine::worker-gone", function_id="a::b", config={})
    refusal = await client.until("triggerregistrationresult")
    assert "worker_id" in refusal["error"]["message"]


async def test_it_fires_for_a_worker_of_the_engines_own_process():
    heard = []

    class Short(Worker):
        name = "short"

    class Ear(Worker):
        name = "ear"

        @function("ear::gone")
        async def gone(self, event: WorkerGone) -> None:
            heard.append(event)

    async with Engine() as engine:
        ear, short = Ear(), Short()
        await engine.start([ear, short])
        record = engine.host.record_of(short)
        ear.bus.register_trigger("ear::gone", worker_gone(record.id))
        await engine.acknowledged()
        await engine.host.stop(short)
        await settle()
        assert heard == [WorkerGone(worker_id=record.id)]


@pytest.mark.parametrize("native", [True, False])
async def test_a_remote_handler_knows_who_calls(native):
    class Asked(Worker):
        name = "asked"

        @function("asked::who")
        async def who(self, payload: dict) -> str:
            caller = current().caller
            return "" if caller is None else caller.worker_id

    async with running_engine(Asked(), wire=True, native=native) as bus:
        assert isinstance(bus, Client)
        assert await bus.trigger("asked::who", {}) == bus.worker_id
        forged = {"_caller_worker_id": "00000000-0000-4000-8000-000000000000"}
        assert await bus.trigger("asked::who", forged) == bus.worker_id
        # An object that only ends like one is not taken for the engine's word.
        assert await bus.trigger("asked::who", {"text": '"_caller_worker_id":"x"}'}) == bus.worker_id


async def test_a_watch_that_is_made_again_fires_for_whom_it_missed():
    heard = []

    class Ear(Worker):
        name = "ear"

        @function("ear::gone")
        async def gone(self, event: WorkerGone) -> None:
            heard.append(event.worker_id)

    async with (
        Engine() as engine,
        wired(engine, name="watched") as watched,
        wired(engine, name="ear") as bus,
        running(Ear(), bus),
    ):
        gone_id = watched.worker_id
        bus.register_trigger("ear::gone", worker_gone(gone_id))
        await settle()
        engine.peers[bus.worker_id].cut("a fault")
        await watched.close()
        async with asyncio.timeout(10):
            while not heard:
                await settle()
        assert heard == [gone_id]
