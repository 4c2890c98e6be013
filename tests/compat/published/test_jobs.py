"""What the worker behind a queue gets from published clients: options of an enqueue, and why a trigger goes away."""

import asyncio

import pytest

from linkly import Client, Function, TriggerType
from support.program import WAIT_S

pytestmark = pytest.mark.compat

PYTHONS = ["0.16.1", "0.19.7", "0.22.1", "0.25.0"]
OPTIONS = {"delay_ms": 5, "idempotency_key": "k", "priority": 2, "message_group": "g"}


@pytest.fixture(scope="module")
async def linkly(new_linkly):
    return await new_linkly()


class Provider:
    """Serves enqueues and provides a trigger type, on a connection."""

    def __init__(self, bus):
        self.taken = []
        self._told = asyncio.Queue()
        bus.register_function(Function("engine::queue::enqueue", self._enqueue))
        tell = {kind: self._telling(kind) for kind in ("bind", "unbind", "unregistered")}
        bus.register_trigger_type(TriggerType("feed", "d", **tell))

    async def next(self):
        return await asyncio.wait_for(self._told.get(), WAIT_S)

    async def _enqueue(self, data: dict) -> dict:
        self.taken.append(data)
        return {"messageReceiptId": "an earlier one"}

    def _telling(self, kind):
        async def tell(binding):
            self._told.put_nowait((kind, binding.config["topic"]))

        return tell


@pytest.mark.parametrize("version", [*PYTHONS, "linkly", "node"])
async def test_published_clients_enqueue_with_options_and_take_triggers_back(linkly, command, version):
    async with Client(linkly.url, name="queues") as bus:
        provider = Provider(bus)
        program = linkly.run_client(command(version, "jobs"))
        await linkly.until_there("jobs::ready")
        assert sorted([await provider.next(), await provider.next()]) == [("bind", "kept"), ("bind", "own")]

        action = {"type": "enqueue", "queue": "mails", **OPTIONS}
        answer = await bus.trigger("jobs::enqueue", {"action": action})
        assert answer == {"messageReceiptId": "an earlier one"}
        assert provider.taken[0]["queue"] == "mails"
        options = {} if version in PYTHONS else OPTIONS  # iii's Python clients send what they know of an action
        assert {name: provider.taken[0][name] for name in OPTIONS if name in provider.taken[0]} == options

        await bus.trigger("jobs::take_back")
        assert await provider.next() == ("unregistered", "own")
        await bus.trigger("jobs::shut_down")
        assert await provider.next() == ("unbind", "kept")
        assert await asyncio.to_thread(program.wait) == 0
