"""A worker as its author writes it with iii's Python SDK; told the engine's URL, talks to the test on stdout."""

import sys
import threading

from iii import InitOptions, TriggerAction, register_worker

worker = register_worker(sys.argv[1], InitOptions(worker_name="client", otel={"enabled": False}))


def say(*words):
    print(*words, flush=True)


def echo(data):
    return {"got": data["value"]}


def fail(data):
    raise ValueError("on purpose")


async def call_back(data):
    return await worker.trigger_async({"function_id": "host::double", "payload": {"n": data["n"]}})


def call_back_sync(data):
    return worker.trigger({"function_id": "host::double", "payload": {"n": data["n"]}})


async def missing(data):
    try:
        await worker.trigger_async({"function_id": "no::such", "payload": {}})
    except Exception as error:
        return {"code": error.code}
    return None


async def no_value(data):
    value = await worker.trigger_async({"function_id": "state::get", "payload": {"scope": "compat", "key": "none"}})
    answer = await worker.trigger_async({"function_id": "host::note", "payload": {"n": 1}})
    return {"nothing": value is None and answer is None}


def nothing(data):
    pass


async def send_void(data):
    await worker.trigger_async({"function_id": "host::note", "payload": {"n": 1}, "action": TriggerAction.Void()})


def on_void(data):
    say("void", data["n"])


def on_state(event):
    say("state", event["event_type"], event["key"])


def on_http(request):
    return {
        "status_code": 201,
        "headers": {"x-from": "client"},
        "body": {"name": request["path_params"]["name"], "query": request["query_params"]},
    }


handlers = (echo, fail, call_back, call_back_sync, missing, no_value, nothing, send_void, on_void, on_state, on_http)
for handler in handlers:
    worker.register_function("client::" + handler.__name__, handler)
worker.register_trigger({"type": "state", "function_id": "client::on_state", "config": {"scope": "compat"}})
worker.register_trigger(
    {
        "type": "http",
        "function_id": "client::on_http",
        "config": {"api_path": "/client/:name", "http_method": "GET"},
    }
)
worker.register_function("client::ready", lambda data: True)
threading.Thread(target=lambda: (sys.stdin.read(), worker.shutdown()), daemon=False).start()
