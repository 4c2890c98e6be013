"""What a queue worker meets, with iii's Python SDK: enqueues with options, and a trigger that its code takes back."""

import os
import threading

from iii import InitOptions, register_worker

worker = register_worker(os.environ["III_URL"], InitOptions(worker_name="jobs"))
over = threading.Event()


async def on_feed(data):
    pass


async def enqueue(data):
    request = {"function_id": "jobs::later", "payload": {"n": 1}, "action": data["action"]}
    return await worker.trigger_async(request)


def shut_down(data):
    threading.Timer(0.01, over.set).start()


trigger = worker.register_trigger({"type": "feed", "function_id": "jobs::on_feed", "config": {"topic": "own"}})
worker.register_trigger({"type": "feed", "function_id": "jobs::on_feed", "config": {"topic": "kept"}})


def take_back(data):
    trigger.unregister()


for handler in (on_feed, enqueue, take_back, shut_down):
    worker.register_function(f"jobs::{handler.__name__}", handler)
worker.register_function("jobs::ready", lambda data: True)
over.wait()
worker.shutdown()
