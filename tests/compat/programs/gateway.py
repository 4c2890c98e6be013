"""HTTP handlers as their author writes them with iii's Python SDK: streams, server-sent events, raw bodies."""

import hashlib
import sys
import threading

from iii import InitOptions, register_worker

try:
    from iii_helpers.http import http
except ImportError:  # before the helpers had a package of their own
    from iii.utils import http

worker = register_worker(sys.argv[1], InitOptions(worker_name="client", otel={"enabled": False}))


async def stream(request, response):
    await response.status(203)
    await response.headers({"content-type": "application/pdf", "x-from": "client"})
    for _ in range(int(request.query_params["parts"])):
        await response.writer.write(b"%PDF" * 10_000)
    await response.writer.close_async()


async def events(request, response):
    await response.headers({"content-type": "text/event-stream"})
    for number in range(3):
        await response.writer.write(f"data: {number}\n\n".encode())
    await response.writer.close_async()


async def upload(request, response):
    raw = await request.request_body.read_all()
    body = {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest(), "parsed": request.body}
    return {"status_code": 201, "headers": {"content-type": "application/json"}, "body": body}


async def text(request, response):
    return {"status_code": 200, "headers": {"content-type": "text/xml"}, "body": "<a>é</a>"}


async def fail(request, response):
    raise ValueError("on purpose")


for handler, method in ((stream, "GET"), (events, "GET"), (upload, "POST"), (text, "GET"), (fail, "GET")):
    name = handler.__name__
    worker.register_function("client::" + name, http(handler))
    config = {"api_path": f"/gw/{name}", "http_method": method}
    worker.register_trigger({"type": "http", "function_id": "client::" + name, "config": config})
worker.register_function("client::ready", lambda data: True)
threading.Thread(target=lambda: (sys.stdin.read(), worker.shutdown()), daemon=False).start()
