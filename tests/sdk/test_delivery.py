"""Events and the functions that are bound to them: order, bounds, changes of bindings, failures, the end."""

import asyncio
import logging
from contextlib import asynccontextmanager

import msgspec
import pytest

from linkly import Binding, Function, Invocation, current
from linkly.delivery import Delivery, Limits
from linkly.errors import Overloaded
from linkly.testing import ManualClock, running_engine, settle

WAIT_S = 10


class Wish(msgspec.Struct):
    """Config of the trigger type of these tests."""

    topic: str = "news"
    least: int = 0
    condition_function_id: str | None = None


class Bell:
    """A delivery of (topic, number) events, and the functions that hear them; they return when they may."""

    def __init__(self, bus, **options):
        self.bus = bus
        self.heard = []
        self.traces = []
        self.may_finish = asyncio.Event()
        self.delivery = Delivery(
            "bell events",
            logging.getLogger("linkly.test"),
            cause=lambda event: f"a bell in {event[0]}",
            subject=lambda config: config.topic,
            wants=lambda config, event: config.topic == event[0] and event[1] >= config.least,
            **options,
        )
        for name in ("old", "new"):
            bus.register_function(Function(f"test::{name}", self._hearing(name)))

    def _hearing(self, name):
        async def hear(event):
            self.heard.append((name, event[1]))
            self.traces.append((current().traceparent, current().baggage, current().deadline))
            await self.may_finish.wait()

        return hear

    async def bind(self, name="old", binding_id="1", **config):
        await self.delivery.bind(self.binding(name, binding_id, **config))

    def binding(self, name="old", binding_id="1", **config):
        return Binding(id=binding_id, trigger_type="bell", function_id=f"test::{name}", config=Wish(**config))

    def ring(self, *numbers, topic="news", **options):
        for number in numbers:
            self.delivery.put(self.delivery.matching(topic), (topic, number), **options)

    async def drained(self):
        self.may_finish.set()
        async with asyncio.timeout(WAIT_S):
            await self.delivery.drain()
        return self.heard


@asynccontextmanager
async def bell(**options):
    async with running_engine(clock=ManualClock()) as bus:
        made = Bell(bus, **options)
        async with made.delivery.running(bus):
            yield made
            made.may_finish.set()


# --- who is told ---------------------------------------------------------------------------------------------


async def test_bindings_are_found_by_their_subject_in_the_order_of_registration():
    async with bell() as made:
        assert (len(made.delivery), made.delivery.matching("news")) == (0, ())
        for number, topic in enumerate(("news", "sport", "news")):
            await made.bind(binding_id=str(number), topic=topic)
        assert len(made.delivery) == 3
        ids = [each.binding.id for each in made.delivery.matching("sport", "news")]
        assert (ids, len(made.delivery.matching("news")), len(made.delivery.matching())) == (["0", "1", "2"], 2, 3)
        await made.delivery.unbind(made.binding(binding_id="1", topic="sport"))
        assert made.delivery.matching("sport") == []


async def test_one_event_goes_to_every_binding_that_wants_it():
    async with bell() as made:
        await made.bind("old", "1")
        await made.bind("new", "2", least=2)
        made.ring(1, 2)
        assert sorted(await made.drained()) == [("new", 2), ("old", 1), ("old", 2)]


async def test_an_event_put_in_outside_of_the_run_is_not_kept():
    async with running_engine(clock=ManualClock()) as bus:
        made = Bell(bus)
        await made.bind()
        made.ring(1)
        assert made.delivery.waiting == 0


# --- order ---------------------------------------------------------------------------------------------------


async def test_only_events_of_one_key_come_one_after_another():
    async with bell() as made:
        await made.bind()
        made.ring(1, 2, key="a")
        made.ring(3, 4, key="b")
        await settle()
        assert made.heard == [("old", 1), ("old", 3)]
        assert [number for _, number in await made.drained()] == [1, 3, 2, 4]


async def test_a_slow_function_does_not_delay_another_binding():
    async with bell() as made:
        await made.bind("old", "1")
        await made.bind("new", "2")
        made.ring(1)
        await settle()
        assert made.heard == [("old", 1), ("new", 1)]


async def test_events_without_order_start_in_order_and_run_side_by_side():
    async with bell(ordered=False, limits=Limits(functions=1)) as made:
        await made.bind()
        made.ring(1, 2, 3)
        await settle()
        assert [number for _, number in made.heard] == [1, 2, 3]


async def test_more_queues_than_functions_may_run_take_turns():
    async with bell(limits=Limits(functions=2)) as made:
        await made.bind()
        for number in range(6):
            made.ring(number, key=number)
        await settle()
        assert len(made.heard) == 2
        assert sorted(number for _, number in await made.drained()) == list(range(6))


async def test_events_that_come_while_one_is_handled_are_delivered_by_the_same_task():
    async with bell() as made:
        await made.bind()
        made.ring(1)
        await settle()
        made.ring(2)
        assert await made.drained() == [("old", 1), ("old", 2)]
        made.ring(3)
        assert (await made.drained())[-1] == ("old", 3)


# --- bounds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [Limits(events=2), Limits(bytes=20)])
async def test_what_would_cause_one_event_too_many_is_refused(limits):
    async with bell(limits=limits) as made:
        await made.bind()
        made.ring(1, size=10)
        made.delivery.check_room()
        made.ring(2, size=10)
        assert (made.delivery.waiting, made.delivery.waiting_bytes, made.delivery.full) == (2, 20, True)
        with pytest.raises(Overloaded, match=r"2 bell events \(20 bytes\) wait for their functions; nothing was"):
            made.delivery.check_room()
        await made.drained()
        made.delivery.check_room()
        assert (made.delivery.waiting, made.delivery.waiting_bytes) == (0, 0)


async def test_an_offer_lets_go_of_what_finds_no_room_and_counts_it():
    async with bell(ordered=False, limits=Limits(events=2)) as made:
        await made.bind("old", "1")
        await made.bind("new", "2")
        found = made.delivery.matching("news")
        assert [made.delivery.offer(found, ("news", number)) for number in (1, 2)] == [0, 2]
        assert await made.drained() == [("old", 1), ("new", 1)]


# --- bindings that change while events wait ------------------------------------------------------------------


async def test_a_binding_registered_again_takes_over_what_waits_if_it_wants_it():
    async with bell() as made:
        await made.bind()
        made.ring(1, 2, 3, 4)
        await settle()
        await made.bind("new", least=3)
        assert await made.drained() == [("old", 1), ("new", 3), ("new", 4)]
        assert made.delivery.waiting == 0


async def test_a_binding_made_anew_gets_nothing_that_waited_for_the_old_one():
    async with bell() as made:
        await made.bind()
        made.ring(1, 2, 3)
        await settle()
        await made.delivery.unbind(made.binding())
        assert made.delivery.waiting == 1, "only the one in its function is left"
        await made.bind("new")
        assert await made.drained() == [("old", 1)]
        assert (made.delivery.waiting, made.delivery.waiting_bytes) == (0, 0)


async def test_taking_back_an_unknown_binding_does_nothing():
    async with bell() as made:
        await made.delivery.unbind(made.binding())
        assert len(made.delivery) == 0


# --- conditions, failures, causes ----------------------------------------------------------------------------


@pytest.mark.parametrize("answer, runs", [(False, 0), (None, 1), (0, 1), (True, 1)])
async def test_only_a_literal_false_of_the_condition_keeps_the_function_from_running(answer, runs):
    async with bell() as made:
        made.bus.register_function(Function("test::condition", lambda event: answer))
        await made.bind(condition_function_id="test::condition")
        made.ring(1)
        assert len(await made.drained()) == runs


async def test_a_binding_taken_back_while_its_condition_is_asked_is_not_run():
    async with bell() as made:

        async def take_back(event):
            await made.delivery.unbind(made.binding())

        made.bus.register_function(Function("test::condition", take_back))
        await made.bind(condition_function_id="test::condition")
        made.ring(1)
        assert await made.drained() == []


async def test_a_failing_function_is_logged_once(caplog):
    async with bell() as made:
        await made.bind("missing")
        await made.bind("old", "2", condition_function_id="test::unknown")
        made.ring(1)
        await made.drained()
    assert [record.message.partition(": ")[0] for record in caplog.records] == [
        "`test::missing`, run by a bell in news, failed",
        "`test::unknown`, the condition for a bell in news, failed (`test::old` was not run)",
    ]


async def test_a_payload_without_a_json_form_costs_no_other_event(caplog):
    async with bell() as made:
        await made.bind()
        made.delivery.put(made.delivery.matching("news"), ("news", 1, object()))
        made.ring(2)
        assert await made.drained() == [("old", 2)]
    assert "test::old" in caplog.text


async def test_a_function_that_ends_the_task_it_runs_in_loses_no_event_behind_it():
    async with bell() as made:

        async def quit_first(event):
            made.heard.append(event[1])
            if len(made.heard) == 1:
                asyncio.current_task().cancel()
                await asyncio.sleep(0)

        made.bus.register_function(Function("test::quits", quit_first))
        await made.bind("quits")
        made.ring(0, 1, 2)
        await made.drained()
        made.ring(3)
        assert await made.drained() == [0, 1, 2, 3]


async def test_a_function_belongs_to_the_trace_of_what_caused_its_event():
    cause = Invocation(function_id="x::y", traceparent=f"00-{'a' * 32}-{'b' * 16}-01", baggage="a=1", deadline=1.0)
    async with bell() as made:
        await made.bind()
        made.ring(1, cause=cause)
        made.ring(2)
        await made.drained()
        assert made.traces == [(cause.traceparent, "a=1", 30.0), (None, None, 30.0)]


# --- the end -------------------------------------------------------------------------------------------------


async def ending(made, **options):
    """Start a run, put six events of two keys in and end it."""

    async def run():
        async with made.delivery.running(made.bus, **options):
            await made.bind()
            for number in range(6):
                made.ring(number, key=number % 2)
            await settle()

    task = asyncio.ensure_future(run())
    await settle(50)
    return task


async def test_at_the_end_what_waits_is_delivered_in_order():
    async with running_engine(clock=ManualClock()) as bus:
        made = Bell(bus)
        task = await ending(made)
        assert not task.done()
        made.may_finish.set()
        await task
        numbers = [number for _, number in made.heard]
        assert [[each for each in numbers if each % 2 == key] for key in (0, 1)] == [[0, 2, 4], [1, 3, 5]]


async def test_the_log_says_how_much_was_dropped_after_the_grace_of_the_end(caplog):
    async with running_engine(clock=ManualClock()) as bus:
        made = Bell(bus)
        task = await ending(made)
        await bus.clock.advance(4.9)
        assert not task.done()
        await bus.clock.advance(0.2)
        await task
        assert len(made.heard) == 2
    assert "6 bell events were not delivered: their functions took too long" in caplog.text


async def test_without_a_grace_what_waits_is_dropped_silently(caplog):
    async with running_engine(clock=ManualClock()) as bus:
        made = Bell(bus)
        await (await ending(made, grace_s=0))
        assert len(made.heard) == 2
    assert caplog.text == ""
