"""The trigger type `state`: who is told what, in which order, and what waits (docs/workers.md#state)."""

import asyncio
import contextlib
import itertools

import pytest

from linkly import Function, LinklyError, current
from linkly import state as state_trigger
from linkly.delivery import Limits
from linkly.errors import Overloaded
from linkly.testing import ManualClock, running_engine, settle
from linkly.trigger import Binding, TriggerDeclaration
from linkly_workers.state import StateWorker, events
from linkly_workers.state.events import StateEvents

pytestmark = pytest.mark.transports("in process", "native wire", "json wire")

WAIT_S = 10


class Ear:
    """A function that notes its events, and can be made to wait or fail."""

    def __init__(self, bus, function_id="test::note"):
        self.id = function_id
        self.seen = []
        self.metadata = []
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.held = ()
        self._changed = asyncio.Event()
        bus.register_function(Function(function_id, self.note))

    async def note(self, event, metadata=None):
        self.seen.append(event)
        self.metadata.append(metadata)
        self._changed.set()
        if event["key"] in self.held or self.held == "all":
            await self.may_finish.wait()

    async def until(self, count):
        async with asyncio.timeout(WAIT_S):
            while len(self.seen) < count:
                self._changed.clear()
                await self._changed.wait()
        return [(each["event_type"], each["key"], each["old_value"], each["new_value"]) for each in self.seen]

    def hold(self, keys="all"):
        self.held = keys
        self.may_finish.clear()


def put(bus, key, value, scope="s"):
    return bus.trigger("state::set", {"scope": scope, "key": key, "value": value})


@contextlib.asynccontextmanager
async def with_ear(run, workers, **filters):
    async with run(*workers) as bus:
        ear = Ear(bus)
        bus.register_trigger(ear.id, state_trigger(**filters))
        await settle()
        yield bus, ear


async def test_events_of_a_key_come_in_the_order_of_its_writes(run, state):
    async with with_ear(run, state()) as (bus, ear):
        writes = [put(bus, f"k{number % 3}", number) for number in range(60)]
        await asyncio.gather(*writes)
        seen = await ear.until(60)
        for key in ("k0", "k1", "k2"):
            of_key = [each for each in seen if each[1] == key]
            assert of_key[0][::2] == ("state:created", None)
            assert all(later[2] == earlier[3] for earlier, later in itertools.pairwise(of_key))
            assert {each[0] for each in of_key[1:]} == {"state:updated"}


async def test_the_event_has_the_documented_shape(run, state):
    async with with_ear(run, state()) as (bus, ear):
        await put(bus, "o1", {"n": 1}, scope="orders")
        await ear.until(1)
        ear.seen[0].pop("_caller_worker_id", None)  # iii's framing adds it to every payload
        assert ear.seen == [
            {
                "type": "state",
                "event_type": "state:created",
                "scope": "orders",
                "key": "o1",
                "old_value": None,
                "new_value": {"n": 1},
            }
        ]


async def test_changes_of_nothing_are_told(run, state):
    async with with_ear(run, state()) as (bus, ear):
        address = {"scope": "s", "key": "k"}
        await bus.trigger("state::delete", address)
        await put(bus, "k", 1)
        await put(bus, "k", 1)
        failing = [{"type": "set", "path": "a", "value": 1}]
        assert (await bus.trigger("state::update", {**address, "ops": failing}))["errors"]
        await bus.trigger("state::delete", address)
        assert await ear.until(5) == [
            ("state:deleted", "k", None, None),
            ("state:created", "k", None, 1),
            ("state:updated", "k", 1, 1),
            ("state:updated", "k", 1, 1),
            ("state:deleted", "k", 1, None),
        ]


async def test_a_stored_null_counts_as_a_value(run, state):
    async with with_ear(run, state()) as (bus, ear):
        await put(bus, "k", None)
        await put(bus, "k", 1)
        assert [each[0] for each in await ear.until(2)] == ["state:created", "state:updated"]


@pytest.mark.parametrize(
    "filters, wanted",
    [
        ({}, ["s/k", "s/other", "t/k", "t/other"]),
        ({"scope": "s"}, ["s/k", "s/other"]),
        ({"key": "k"}, ["s/k", "t/k"]),
        ({"scope": "s", "key": "k"}, ["s/k"]),
        ({"scope": "S"}, []),
        ({"key": "k*"}, []),
        ({"key": ""}, []),
    ],
)
async def test_scope_and_key_filters_match_exactly(run, filters, wanted):
    async with with_ear(run, [StateWorker()], **filters) as (bus, ear):
        everything = Ear(bus, "test::everything")
        bus.register_trigger(everything.id, state_trigger())
        await settle()
        for scope in ("s", "t"):
            for key in ("k", "other"):
                await put(bus, key, 1, scope=scope)
        await everything.until(4)
        await settle()
        assert sorted(f"{each['scope']}/{each['key']}" for each in ear.seen) == wanted


@pytest.mark.parametrize("answer, runs", [(False, False), *((each, True) for each in (True, None, 0, "", {}, []))])
async def test_only_a_literal_false_of_the_condition_blocks(run, answer, runs):
    asked = []

    async def condition(event):
        asked.append(event)
        return answer

    async with with_ear(run, [StateWorker()], key="k", condition="test::condition") as (bus, ear):
        bus.register_function(Function("test::condition", condition))
        last = Ear(bus, "test::last")
        bus.register_trigger(last.id, state_trigger(key="k"))
        await settle()
        await put(bus, "k", 1)
        await last.until(1)
        await settle()
        assert len(ear.seen) == runs
        assert asked == [last.seen[0]], "the condition gets what the function would get"


@pytest.mark.parametrize("registered", [True, False])
async def test_a_condition_that_fails_keeps_the_function_from_running(run, registered, caplog):
    async def condition(event):
        if event["key"] == "bad":
            raise ValueError("condition broke")

    async with with_ear(run, [StateWorker()], condition="test::condition") as (bus, ear):
        if registered:
            bus.register_function(Function("test::condition", condition))
            await settle()
        last = Ear(bus, "test::last")
        bus.register_trigger(last.id, state_trigger())
        await settle()
        await put(bus, "bad", 1)
        await last.until(1)
        await settle()
        assert ear.seen == []
    assert "test::condition" in caplog.text
    assert "`test::note` was not run" in caplog.text


async def test_only_the_function_gets_the_metadata_of_the_trigger(run, state):
    given = []

    async def condition(event, metadata=None):
        given.append(metadata)

    async with run(*state()) as bus:
        ear = Ear(bus)
        bus.register_function(Function("test::condition", condition))
        bus.register_trigger(ear.id, state_trigger(condition="test::condition", metadata={"who": "me"}))
        await settle()
        await put(bus, "k", 1)
        await ear.until(1)
        assert (ear.metadata, given) == ([{"who": "me"}], [None])


async def test_a_slow_function_of_one_key_delays_nothing_else(run, state):
    async with with_ear(run, state()) as (bus, ear):
        other = Ear(bus, "test::other")
        bus.register_trigger(other.id, state_trigger())
        await settle()
        ear.hold(("slow",))
        for number in range(3):
            await put(bus, "slow", number)
        await put(bus, "quick", 1)
        await other.until(4)
        await ear.until(2)
        assert [each["key"] for each in ear.seen] == ["slow", "quick"]
        ear.may_finish.set()
        assert [each[3] for each in await ear.until(4) if each[1] == "slow"] == [0, 1, 2]


async def test_a_failing_function_gets_the_next_event(run, state, caplog):
    calls, twice = [], asyncio.Event()

    async def fail(event):
        calls.append(event["new_value"])
        if len(calls) == 2:
            twice.set()
        raise ValueError("function broke")

    async with run(*state()) as bus:
        bus.register_function(Function("test::fail", fail))
        bus.register_trigger("test::fail", state_trigger(key="k"))
        ear = Ear(bus)
        bus.register_trigger(ear.id, state_trigger(key="last"))
        await settle()
        assert (await put(bus, "k", 1))["new_value"] == 1
        await put(bus, "k", 2)
        await put(bus, "last", 1)
        await ear.until(1)
        async with asyncio.timeout(WAIT_S):
            await twice.wait()
    assert calls == [1, 2]
    assert "function broke" in caplog.text
    assert "test::fail" in caplog.text


async def test_a_binding_that_is_taken_back_gets_none_of_what_waits_for_it(run, state):
    async with run(*state()) as bus:
        ear, other = Ear(bus), Ear(bus, "test::other")
        ear.hold()
        registration = bus.register_trigger(ear.id, state_trigger())
        await settle()
        for number in range(5):
            await put(bus, "k", number)
        await ear.until(1)
        registration.unregister()
        bus.register_trigger(other.id, state_trigger(key="last"))
        await settle()
        ear.may_finish.set()
        await put(bus, "last", 1)
        await other.until(1)
        await settle()
        assert [each["new_value"] for each in ear.seen] == [0]


async def test_a_binding_gets_nothing_that_was_written_before_it(run, state):
    async with with_ear(run, state(), key="k") as (bus, ear):
        ear.hold()
        await put(bus, "k", "before")
        await put(bus, "k", "also before")
        late = Ear(bus, "test::late")
        bus.register_trigger(late.id, state_trigger(key="k"))
        await settle()
        ear.may_finish.set()
        await put(bus, "k", "after")
        assert [each[3] for each in await late.until(1)] == ["after"]
        await ear.until(3)


async def test_with_triggers_disabled_nobody_is_told(run, state):
    async with with_ear(run, state(triggers_enabled=False)) as (bus, ear):
        await put(bus, "k", 1)
        await settle()
        assert ear.seen == []


async def test_a_function_that_writes_the_key_it_listens_to_is_run_by_its_own_write(run, state):
    async with run(*state()) as bus:
        done = asyncio.Event()

        async def count(event):
            if event["new_value"] == 5:
                done.set()
            else:
                await put(bus, "k", event["new_value"] + 1)

        bus.register_function(Function("test::count", count))
        bus.register_trigger("test::count", state_trigger(key="k"))
        await settle()
        await put(bus, "k", 1)
        async with asyncio.timeout(WAIT_S):
            await done.wait()
        assert await bus.trigger("state::get", {"scope": "s", "key": "k"}) == 5


async def test_the_writers_deadline_does_not_end_what_its_write_has_set_off(run, state):
    deadlines = []

    async with run(*state()) as bus:
        told = asyncio.Event()

        async def write(payload):
            await put(bus, "k", 1)
            return current().deadline

        async def note(event):
            deadlines.append(current().deadline)
            told.set()

        bus.register_function(Function("test::write", write))
        bus.register_function(Function("test::note", note))
        bus.register_trigger("test::note", state_trigger(key="k"))
        await settle()
        writers = await bus.trigger("test::write", {}, timeout_s=5)
        async with asyncio.timeout(WAIT_S):
            await told.wait()
        # In process deadlines are seen: the function's is its own, later than the writer's.
        assert writers is None or deadlines[0] > writers + 20


@pytest.mark.parametrize("config", [{"scope": 1}, {"key": []}, {"condition_function_id": {}}])
async def test_a_config_of_wrong_types_is_refused(config):
    trigger_type = StateEvents().trigger_type()
    with pytest.raises(LinklyError, match="Failed to parse trigger config"):
        await trigger_type.bind(Binding(id="1", trigger_type="state", function_id="x", config=config))


async def test_functions_of_one_id_in_two_namespaces_are_not_mixed_up(run):
    async with run(StateWorker()) as bus:
        ear = Ear(bus)
        missing = TriggerDeclaration(type="state", config={"key": "elsewhere"}, namespace="other")
        bus.register_trigger(ear.id, missing)
        bus.register_trigger(ear.id, state_trigger(key="here"))
        await settle()
        await put(bus, "elsewhere", 1)
        await put(bus, "here", 1)
        await ear.until(1)
        await settle()
        assert [each["key"] for each in ear.seen] == ["here"]


async def test_no_event_is_made_when_nobody_matches(monkeypatch):
    async with running_engine(clock=ManualClock()) as bus:
        told = StateEvents()
        async with told.delivery.running(bus):
            config = events.StateTrigger(key="other")
            await told.delivery.bind(Binding(id="1", trigger_type="state", function_id="x::y", config=config))
            monkeypatch.setattr(events, "StateEvent", None)
            told.written("s", "k", None, b"1", deleted=False)
            assert told.delivery.waiting == 0


async def test_when_too_many_events_wait_only_writes_that_add_one_are_refused(run, state, monkeypatch):
    monkeypatch.setattr(events, "LIMITS", Limits(events=3))
    async with with_ear(run, state(), scope="s") as (bus, ear):
        ear.hold()
        for number in range(3):
            await put(bus, "k", number)
        with pytest.raises(Overloaded, match="3 state events"):
            await put(bus, "k", "too much")
        assert await bus.trigger("state::get", {"scope": "s", "key": "k"}) == 2
        await put(bus, "k", 1, scope="nobody is bound to this one")
        ear.may_finish.set()
        await ear.until(3)
        await settle()
        await put(bus, "k", "room again")
        assert (await ear.until(4))[-1][3] == "room again"


async def test_the_bytes_that_wait_are_bounded_too(run, state, monkeypatch):
    monkeypatch.setattr(events, "LIMITS", Limits(bytes=1000))
    async with with_ear(run, state()) as (bus, ear):
        ear.hold()
        await put(bus, "k", "x" * 2000)
        with pytest.raises(Overloaded, match="bytes"):
            await put(bus, "l", 1)
        ear.may_finish.set()
