"""A worker that asks for an observer of its own function, with iii's Python SDK from 0.25."""

import sys
import threading

from iii import InitOptions, register_worker

worker = register_worker(sys.argv[1], InitOptions(worker_name="observer", otel={"enabled": False}))


def observed():
    handle = worker.observe({"function_id": "client::echo"}, "client::seen")
    try:
        handle.ready(20)
    except Exception as error:
        return error.code
    return handle.state


def call_own(data):
    return worker.trigger({"function_id": "client::echo", "payload": data})


worker.register_function("client::echo", lambda data: {"got": data["value"]})
worker.register_function("client::seen", print)
worker.register_function("client::call_own", call_own)
worker.register_function("client::observed", lambda data: observed())
worker.register_function("client::ready", lambda data: True)
threading.Thread(target=lambda: (sys.stdin.read(), worker.shutdown())).start()
