"""Durable work with iii's Python SDK: functions that queues and topics run. Every call is told to `notes::take`."""

import os
import threading

from iii import InitOptions, TriggerAction, register_worker

worker = register_worker(os.environ["III_URL"], InitOptions(worker_name=f"durable-{os.getpid()}"))
broken = True


async def note(name, data):
    payload = {"name": name, "data": data, "pid": os.getpid()}
    await worker.trigger_async({"function_id": "notes::take", "payload": payload})


async def work(data):
    await note("work", data)


async def first(data):
    await note("first", data)


async def second(data):
    await note("second", data)


async def filtered(data):
    await note("filtered", data)


async def wanted(data):
    return data["wanted"]


async def failing(data):
    await note("failing", data)
    if broken:
        raise RuntimeError("not today")


async def repair(data):
    global broken
    broken = False


async def enqueue(data):
    action = TriggerAction.Enqueue(queue=data["queue"])
    request = {"function_id": data["function_id"], "payload": data["payload"], "action": action}
    return await worker.trigger_async(request)


async def publish(data):
    return await worker.trigger_async({"function_id": "iii::durable::publish", "payload": data})


def subscribe(function, topic, **config):
    config = {"topic": topic, **config}
    worker.register_trigger({"type": "durable:subscriber", "function_id": f"durable::{function}", "config": config})


for handler in (work, first, second, filtered, wanted, failing, repair, enqueue, publish):
    worker.register_function(f"durable::{handler.__name__}", handler)
subscribe("first", "orders")
subscribe("second", "orders")
subscribe("filtered", "filtered", condition_function_id="durable::wanted")
subscribe("failing", "failing", queue_config={"maxRetries": 1, "backoffDelayMs": 1})
worker.register_function(f"durable::ready-{os.getpid()}", lambda data: True)
threading.Event().wait()
