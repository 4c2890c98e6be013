"""One of several workers that call each other, with iii's Python SDK; its argument is its name."""

import os
import sys
import threading

from iii import InitOptions, register_worker

try:
    from iii_helpers.observability import Logger
except ImportError:  # before the helpers had a package of their own
    from iii_observability import Logger

name = sys.argv[1]
worker = register_worker(os.environ["III_URL"], InitOptions(worker_name=name))
logger = Logger()


async def call(function_id, payload):
    return await worker.trigger_async({"function_id": function_id, "payload": payload})


async def relay(data):
    logger.info(f"{name} relays", {"value": data["value"]})
    if not data["way"]:
        return {"value": data["value"], "visited": [name]}
    onward = {"way": data["way"][1:], "value": data["value"]}
    answer = await call(data["way"][0] + "::relay", onward)
    return {"value": answer["value"], "visited": [name, *answer["visited"]]}


def fail(data):
    raise ValueError(f"{name} fails on purpose")


async def catch(data):
    try:
        return {"result": await call(data["function_id"], data["payload"])}
    except Exception as error:
        return {"code": error.code, "message": str(error)}


async def log(data):
    getattr(logger, data["level"])(data["message"], data.get("data"))


def page(request):
    return {"status_code": 200, "body": {"from": name, "word": request["path_params"]["word"]}}


for handler in (relay, fail, catch, log, page):
    worker.register_function(f"{name}::{handler.__name__}", handler)
config = {"api_path": f"/{name}/:word", "http_method": "GET"}
worker.register_trigger({"type": "http", "function_id": f"{name}::page", "config": config})
worker.register_function(f"{name}::ready", lambda data: True)
threading.Event().wait()
