"""A real `linkly` follows its `queue_configs` while jobs wait and run: none is lost, none runs too often."""

import asyncio
import os
from collections import Counter

from linkly import Client
from linkly.worker import running
from support.queue_workers import App

WAIT_S = 20
JOBS = 200


def configure(linkly, queues, grace_s=10):
    """Write the engine's file as editors do."""
    path = linkly.folder / "config.yaml"
    text = path.read_text().split("  - name: queue\n")[0]
    beside = path.with_name(".config.yaml.swp")
    beside.write_text(f"{text}  - name: queue\n    config: {{stop_grace_s: {grace_s}, queue_configs: {queues}}}\n")
    os.replace(beside, path)


async def restarted(client, times):
    """Return when the worker `queue` was made anew so often."""
    async with asyncio.timeout(WAIT_S):
        while True:
            rows = {row["name"]: row for row in (await client.trigger("worker::list"))["workers"]}
            if rows["queue"]["restarts"] >= times and rows["queue"]["status"] == "running":
                return
            await asyncio.sleep(0.02)  # the engine tells nobody that it looked at the file


async def test_queues_change_while_their_jobs_run(linkly):
    async def quickly(payload):
        await asyncio.sleep(0.005)

    app = App(quickly)
    configure(linkly, "{mail: {concurrency: 5}}")
    linkly.start()
    async with Client(linkly.url, name="app") as client, running(app, client):
        jobs = [{"function_id": "app::work", "queue": "mail", "payload": {"n": n, "g": n % 7}} for n in range(JOBS)]
        receipts = (await client.trigger("queue::enqueue_many", {"jobs": jobs}))["messageReceiptIds"]
        await app.called(10)
        for times, queues in enumerate(
            (
                "{}",
                "{mail: {type: fifo, message_group_field: g}}",
                "{mail: {concurrency: 2}, other: {}}",
                "{mail: {concurrency: 20}}",
            ),
            start=1,
        ):
            configure(linkly, queues)
            await restarted(client, times)
            assert (await client.trigger("queue::verify"))["differences"] == []
        ends = [await client.trigger("queue::wait", {"id": each}) for each in receipts]
        states = Counter(row["state"] for row in ends)
        assert states == {"done": JOBS}
        assert sorted(call["n"] for call in app.calls) == list(range(JOBS))
        assert (await client.trigger("queue::verify"))["differences"] == []


async def test_a_job_that_runs_holds_a_change_up_for_its_grace_only(linkly):
    go = asyncio.Event()

    async def blocked(payload):
        await go.wait()

    app = App(blocked)
    configure(linkly, "{mail: {}}", grace_s=0.2)
    linkly.start()
    async with Client(linkly.url, name="app") as client, running(app, client):
        job = {"function_id": "app::work", "queue": "mail"}
        receipt = (await client.trigger("queue::enqueue", job))["messageReceiptId"]
        await app.called(1)
        configure(linkly, "{mail: {concurrency: 3}}", grace_s=0.2)
        await restarted(client, 1)
        await app.called(2)
        go.set()
        row = await client.trigger("queue::wait", {"id": receipt})
        assert (row["state"], row["attempts"]) == ("done", 1)  # the start that was given back does not count
        assert [each["attempt"] for each in app.jobs] == [1, 1]
        assert (await client.trigger("queue::verify"))["differences"] == []
