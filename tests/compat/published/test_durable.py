"""Durable work by each published client: receipts, dead letters, durable subscribers, lines of a fifo queue."""

import asyncio
import json
import signal
from contextlib import asynccontextmanager

import pytest

from linkly import Client, Function
from support.database_calls import until
from support.program import WAIT_S

VERSIONS = ["0.16.1", "0.19.7", "0.22.1", "0.25.0", "linkly", "node"]
QUEUES = """\
  - name: queue
    config:
      queue_configs:
        failing: {max_retries: 2, backoff_ms: 1}
        lines: {type: fifo, message_group_field: line, concurrency: 3}
"""

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
async def linkly(tmp_path_factory, new_project):
    linkly = new_project(tmp_path_factory.mktemp("project"))
    linkly.write_config()
    with (linkly.folder / "config.yaml").open("a") as config:
        config.write(QUEUES)
    await linkly.start()
    await linkly.until_there("iii::durable::publish")
    return linkly


class Watch:
    """Calls what the programs serve, and is told by them what they were called with."""

    def __init__(self, bus):
        self.bus = bus
        self.notes = asyncio.Queue()
        bus.register_function(Function("notes::take", self._note))

    async def _note(self, payload: dict) -> None:
        self.notes.put_nowait(payload)

    async def enqueue(self, queue, function, payload):
        return await self.bus.trigger(
            "durable::enqueue", {"queue": queue, "function_id": f"durable::{function}", "payload": payload}
        )

    async def publish(self, topic, data):
        return await self.bus.trigger("iii::durable::publish", {"topic": topic, "data": data})

    async def told(self, count):
        """Return name and data of the next notes."""
        async with asyncio.timeout(WAIT_S):
            notes = [await self.notes.get() for _ in range(count)]
        return [(note["name"], note["data"]) for note in notes]

    async def dead(self, queue):
        """Return the dead letters of a queue when there are any."""

        async def some():
            return await self.bus.trigger("engine::queue::dlq_messages", {"topic": queue})

        await until(some)
        return await some()


@pytest.fixture(params=VERSIONS)
def running(request, linkly, command):
    """Run the program with a client, as often as told, and watch it."""

    @asynccontextmanager
    async def run(programs=1):
        async with Client(linkly.url, name="notes") as bus:
            watch = Watch(bus)
            started = [linkly.run_client(command(request.param, "durable")) for _ in range(programs)]
            await linkly.until_there(*(f"durable::ready-{program.process.pid}" for program in started))
            try:
                yield watch
                await until(lambda: nothing_is_left(bus))
            finally:
                for program in started:
                    await program.ended(signal.SIGKILL)
                await linkly.until("engine::workers-available", all_gone, "the end of the programs")
                assert watch.notes.empty()

    return run


async def nothing_is_left(bus):
    """Return whether no job waits or runs: what a killed program ran would run again."""
    sql = "SELECT COUNT(*) AS jobs FROM linkly_queue_jobs WHERE state < 4"
    return (await bus.trigger("database::query", {"sql": sql}))["rows"] == [{"jobs": 0}]


async def all_gone(bus):
    return all(
        not row["name"].startswith("durable") for row in (await bus.trigger("engine::workers::list", {}))["workers"]
    )


async def test_an_enqueue_is_answered_with_a_receipt_and_runs(running):
    async with running() as watch:
        receipt = await watch.enqueue("default", "work", {"n": 1})
        assert await watch.told(1) == [("work", {"n": 1})]
        job = await watch.bus.trigger("queue::wait", {"id": receipt["messageReceiptId"]})
        assert (job["state"], job["attempts"]) == ("done", 1)


async def test_a_failing_handler_is_called_max_retries_times_and_its_message_can_be_redriven(running):
    async with running() as watch:
        receipt = await watch.enqueue("failing", "failing", {"n": 1})
        assert await watch.told(2) == [("failing", {"n": 1})] * 2
        [dead] = await watch.dead("failing")
        assert (dead["id"], dead["payload"], dead["retries"]) == (receipt["messageReceiptId"], {"n": 1}, 2)
        assert "not today" in dead["error"]
        await watch.bus.trigger("durable::repair", {})
        assert await watch.bus.trigger("iii::queue::redrive", {"queue": "failing"}) == {
            "queue": "failing",
            "redriven": 1,
        }
        assert await watch.told(1) == [("failing", {"n": 1})]
        stats = await watch.bus.trigger("engine::queue::topic_stats", {"topic": "failing"})
        assert stats["dlq_depth"] == 0


async def test_two_functions_get_a_message_and_replicas_share_it(running):
    async with running(programs=2) as watch:
        for n in range(3):
            await watch.bus.trigger("durable::publish", {"topic": "orders", "data": {"n": n}})
        assert sorted(await watch.told(6), key=json.dumps) == [
            (name, {"n": n}) for name in ("first", "second") for n in range(3)
        ]


async def test_what_is_published_while_a_killed_subscriber_is_away_comes_when_it_is_back(linkly, running):
    async with running():
        pass  # it has subscribed, and is killed
    await linkly.trigger("iii::durable::publish", "topic=orders", 'data={"n":"while away"}')
    async with running() as watch:
        assert sorted(await watch.told(2)) == [("first", {"n": "while away"}), ("second", {"n": "while away"})]


async def test_a_condition_decides_who_is_called(running):
    async with running() as watch:
        await watch.publish("filtered", {"wanted": False})
        await watch.publish("filtered", {"wanted": True})
        assert await watch.told(1) == [("filtered", {"wanted": True})]


async def test_a_subscriber_is_called_once_more_than_its_max_retries(running):
    async with running() as watch:
        await watch.publish("failing", {"n": 1})
        assert await watch.told(2) == [("failing", {"n": 1})] * 2
        [dead] = await watch.dead("failing::durable::failing@default")
        assert dead["payload"] == {"n": 1}
        discarded = await watch.bus.trigger(
            "iii::queue::discard_message", {"queue": "failing::durable::failing@default", "message_id": dead["id"]}
        )
        assert discarded["redriven"] == 1


async def test_the_lines_of_a_fifo_queue_keep_their_order(running):
    async with running() as watch:
        for n in range(4):
            for line in "abc":
                await watch.enqueue("lines", "work", {"line": line, "n": n})
        told = [data for _, data in await watch.told(12)]
    for line in "abc":
        assert [data["n"] for data in told if data["line"] == line] == [0, 1, 2, 3]
