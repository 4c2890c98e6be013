"""What the provider of a trigger type is told when a binding goes: its code took it back, or its worker left."""

from contextlib import AsyncExitStack

import pytest

from linkly import TriggerType, Worker, function, trigger
from linkly.testing import settle, wired
from linkly.worker import running
from linkly_engine.engine import Engine

PLACES = ["in process", "native", "json"]


class Subscriber(Worker):
    """Has a trigger from its class, and one that its code registers and may take back."""

    name = "subscriber"

    @function("subscriber::declared", triggers=[trigger("feed", {"topic": "declared"})])
    async def declared(self, item: dict) -> None:
        """Take an item."""

    def subscribe(self):
        return self.bus.register_trigger("subscriber::declared", trigger("feed", {"topic": "own"}))


class Feed:
    """A provider that keeps something for workers that are away."""

    def __init__(self):
        self.told = []

    @property
    def type(self):
        return TriggerType("feed", "d", bind=self.bind, unbind=self.unbind, unregistered=self.unregistered)

    async def bind(self, binding):
        self.told.append(("bound", binding.config["topic"]))

    async def unbind(self, binding):
        self.told.append(("left", binding.config["topic"]))

    async def unregistered(self, binding):
        self.told.append(("unregistered", binding.config["topic"]))


async def bus_at(place, engine, stack, name):
    """Return a bus of a worker at this place."""
    if place == "in process":
        return engine.bus(name)
    return await stack.enter_async_context(wired(engine, name=name, native=place == "native"))


async def told(engine, feed):
    """Return what the provider was told since the last time."""
    await settle()
    await engine.acknowledged()
    await settle()
    said, feed.told = feed.told, []
    return said


@pytest.fixture(params=PLACES)
async def provided(request):
    """An engine, and a provider in it or connected to it."""
    async with Engine() as engine, AsyncExitStack() as stack:
        feed = Feed()
        bus = await bus_at(request.param, engine, stack, "provider")
        bus.register_trigger_type(feed.type)
        yield engine, feed


@pytest.mark.parametrize("place", PLACES)
async def test_a_binding_that_its_code_takes_back_is_unregistered(provided, place):
    engine, feed = provided
    async with AsyncExitStack() as stack:
        worker = Subscriber()
        await stack.enter_async_context(running(worker, await bus_at(place, engine, stack, "subscriber")))
        registration = worker.subscribe()
        assert await told(engine, feed) == [("bound", "declared"), ("bound", "own")]
        registration.unregister()
        assert await told(engine, feed) == [("unregistered", "own")]
        registration.leave()
        assert await told(engine, feed) == []


@pytest.mark.parametrize("place", PLACES)
async def test_a_worker_that_ends_leaves_though_its_connection_stays(provided, place):
    engine, feed = provided
    async with AsyncExitStack() as stack:
        worker, bus = Subscriber(), await bus_at(place, engine, stack, "subscriber")
        async with running(worker, bus):
            await told(engine, feed)
        assert await told(engine, feed) == [("left", "declared")]
        async with running(worker, bus):
            assert await told(engine, feed) == [("bound", "declared")]


@pytest.mark.parametrize("place", ["native", "json"])
async def test_a_connection_that_ends_leaves(provided, place):
    engine, feed = provided
    async with AsyncExitStack() as stack:
        bus = await bus_at(place, engine, stack, "subscriber")
        bus.register_trigger("a::b", trigger("feed", {"topic": "t"}))
        assert await told(engine, feed) == [("bound", "t")]
        await stack.aclose()
        assert await told(engine, feed) == [("left", "t")]


async def test_a_hosted_worker_that_stops_or_is_handed_over_leaves(provided):
    engine, feed = provided
    worker = Subscriber()
    await engine.start([worker])
    worker.subscribe()
    await told(engine, feed)
    handover = await engine.host.stop(worker, waiting=True)
    assert await told(engine, feed) == []
    successor = Subscriber()
    await engine.host.start(successor, takes_over=handover)
    handover.release()
    assert sorted(await told(engine, feed)) == [("bound", "declared"), ("left", "declared"), ("left", "own")]
    await engine.host.stop(successor)
    assert await told(engine, feed) == [("left", "declared")]


async def test_a_program_that_is_replaced_leaves(provided):
    engine, feed = provided
    async with AsyncExitStack() as stack:
        bus = await bus_at("native", engine, stack, "subscriber")
        registration = bus.register_trigger("a::b", trigger("feed", {"topic": "t"}))
        await told(engine, feed)
        engine.tables.retire(engine.peers[bus.worker_id].record)
        assert await told(engine, feed) == [("left", "t")]
        registration.unregister()
        assert await told(engine, feed) == []


@pytest.mark.parametrize("place", PLACES)
async def test_the_function_of_the_engine_unregisters(provided, place):
    engine, feed = provided
    async with AsyncExitStack() as stack:
        bus = await bus_at(place, engine, stack, "subscriber")
        own = bus.register_trigger("a::b", trigger("feed", {"topic": "own"}))
        request = {"trigger_type": "feed", "function_id": "a::b", "config": {"topic": "durable"}}
        durable = await bus.trigger("engine::register_trigger", request)
        assert await told(engine, feed) == [("bound", "own"), ("bound", "durable")]
        for trigger_id in (own.id, durable["id"]):
            assert await bus.trigger("engine::unregister_trigger", {"id": trigger_id}) == {"removed": True}
        assert await told(engine, feed) == [("unregistered", "own"), ("unregistered", "durable")]


async def test_a_binding_that_moves_to_another_provider_is_not_unregistered(provided):
    engine, feed = provided
    engine.bus("subscriber").register_trigger("a::b", trigger("feed", {"topic": "t"}))
    assert await told(engine, feed) == [("bound", "t")]
    other = Feed()
    engine.bus("other").register_trigger_type(other.type)
    assert await told(engine, feed) == [("left", "t")]
    assert other.told == [("bound", "t")]


async def test_a_provider_that_does_not_tell_them_apart_is_told_of_both():
    feed = Feed()
    async with Engine() as engine:
        kind = TriggerType("feed", "d", bind=feed.bind, unbind=feed.unbind)
        engine.bus("provider").register_trigger_type(kind)
        engine.bus("subscriber").register_trigger("a::b", trigger("feed", {"topic": "t"})).unregister()
        assert await told(engine, feed) == [("bound", "t"), ("left", "t")]
