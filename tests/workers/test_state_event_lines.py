"""Events that wait for their functions: what becomes of them when bindings change and when the worker stops."""

import asyncio
from contextlib import asynccontextmanager

from linkly import Function
from linkly.testing import ManualClock, running_engine, settle
from linkly.trigger import Binding
from linkly_workers.state import events
from linkly_workers.state.events import StateEvents, StateTrigger


def binding(function_id="test::old", **config):
    return Binding(id="1", trigger_type="state", function_id=function_id, config=StateTrigger(**config))


class Waiting:
    """Six events of two keys, the first of each handed to a function that does not return before it may."""

    def __init__(self, bus):
        self.bus = bus
        self.told = StateEvents()
        self.told.bus = bus
        self.calls = []
        self.may_finish = asyncio.Event()
        for function_id in ("test::old", "test::new"):
            bus.register_function(Function(function_id, self.noting(function_id)))

    def noting(self, function_id):
        async def note(event):
            self.calls.append((function_id, event["key"], event["new_value"]))
            await self.may_finish.wait()

        return note

    async def write(self):
        await self.told._bind(binding())
        for number in range(6):
            self.told.written("s", f"k{number % 2}", None, str(number).encode(), deleted=False)
        await settle()
        assert self.calls == [("test::old", "k0", 0), ("test::old", "k1", 1)]


@asynccontextmanager
async def waiting_events():
    async with running_engine(clock=ManualClock()) as bus:
        waiting = Waiting(bus)
        await waiting.write()
        yield waiting


async def test_no_event_is_made_when_nobody_matches(monkeypatch):
    told = StateEvents()
    await told._bind(binding(key="other"))
    monkeypatch.setattr(events, "StateEvent", None)
    told.written("s", "k", None, b"1", deleted=False)
    assert told.waiting == 0


async def test_a_binding_registered_again_takes_over_what_waits_if_it_wants_it():
    async with waiting_events() as waiting:
        await waiting.told._bind(binding("test::new", key="k1"))
        waiting.may_finish.set()
        await waiting.told.drain()
        assert waiting.calls[2:] == [("test::new", "k1", 3), ("test::new", "k1", 5)]
        assert (waiting.told.waiting, waiting.told.waiting_bytes) == (0, 0)


async def test_a_binding_taken_back_and_made_anew_gets_nothing_of_what_waited_for_the_old_one():
    async with waiting_events() as waiting:
        await waiting.told._unbind(binding())
        await waiting.told._bind(binding("test::new"))
        waiting.may_finish.set()
        await waiting.told.drain()
        assert len(waiting.calls) == 2


async def test_stopping_delivers_what_waits():
    async with waiting_events() as waiting:
        stopping = asyncio.ensure_future(waiting.told.stop())
        await settle()
        assert not stopping.done()
        waiting.may_finish.set()
        await stopping
        assert sorted(value for _, _, value in waiting.calls) == list(range(6))


async def test_stopping_gives_functions_five_seconds_and_says_how_much_was_dropped(caplog):
    async with waiting_events() as waiting:
        clock = waiting.bus.clock
        stopping = asyncio.ensure_future(waiting.told.stop())
        await settle()
        await clock.advance(4.9)
        assert not stopping.done()
        await clock.advance(0.2)
        await stopping
    assert "6 state events were not delivered" in caplog.text
    assert len(waiting.calls) == 2
