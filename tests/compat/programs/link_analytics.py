"""The analytics worker of the tutorial's fourth chapter: counts the links of each day in a database of its own."""

import os
import threading
from datetime import UTC, datetime

from iii import InitOptions, register_worker

DB = "analytics"  # a database of config.yaml
worker = register_worker(os.environ.get("III_URL", "ws://localhost:49134"), InitOptions(worker_name="analytics"))


async def execute(sql, *params):
    payload = {"db": DB, "sql": sql, "params": list(params)}
    return await worker.trigger_async({"function_id": "database::execute", "payload": payload})


async def on_link_created(link):
    await execute("CREATE TABLE IF NOT EXISTS daily_link_counts (day TEXT PRIMARY KEY, count INTEGER NOT NULL)")
    await execute(
        "INSERT INTO daily_link_counts (day, count) VALUES (?, 1) ON CONFLICT(day) DO UPDATE SET count = count + 1",
        datetime.now(UTC).date().isoformat(),
    )


worker.register_function("analytics::on_link_created", on_link_created)
config = {"topic": "link.created", "queue_config": {"concurrency": 1}}
worker.register_trigger({"type": "durable:subscriber", "function_id": "analytics::on_link_created", "config": config})
worker.register_function("analytics::ready", lambda data: True)
threading.Event().wait()
