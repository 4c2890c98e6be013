"""An engine with nothing to do writes nothing: a laptop's disk sleeps, and so does a server's.

`LINKLY_TEST_IDLE_S=60` watches for a minute; by default it is a few seconds, longer than anything in it that comes by
turns.
"""

import asyncio
import os
import signal

from linkly import Client

IDLE_S = float(os.environ.get("LINKLY_TEST_IDLE_S", "4"))


def written(engine):
    """Return what an engine has had written to a disk, and its files with their times."""
    with open(f"/proc/{engine.pid}/io", encoding="ascii") as file:
        counters = dict(line.split(": ") for line in file.read().splitlines())
    files = {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in (engine.folder / "data").iterdir()}
    return int(counters["write_bytes"]), files


async def test_a_queue_without_work_writes_nothing(linkly):
    path = linkly.folder / "config.yaml"
    path.write_text(path.read_text() + "  - name: queue\n")
    linkly.start()
    async with Client(linkly.url) as bus:
        done = {"function_id": "state::set", "payload": {"scope": "s", "key": "k", "value": 1}}
        jobs = [done, {"function_id": "nobody::serves"}, {**done, "delay_ms": 3_600_000}]
        receipts = (await bus.trigger("queue::enqueue_many", {"jobs": jobs}))["messageReceiptIds"]
        assert (await bus.trigger("queue::wait", {"id": receipts[0]}))["state"] == "done"
        before = await asyncio.to_thread(written, linkly)
        while True:  # what follows on the end of a job comes to its own end: a checkpoint, for one
            await asyncio.sleep(1)  # nothing tells that a process has stopped to write
            if (now := await asyncio.to_thread(written, linkly)) == before:
                break
            before = now
        await asyncio.sleep(IDLE_S)  # what is shown is that nothing happens for so long
        assert await asyncio.to_thread(written, linkly) == before
    linkly.end(signal.SIGTERM)
