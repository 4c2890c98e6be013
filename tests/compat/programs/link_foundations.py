"""The link worker at the end of the tutorial's first chapter, in Python: short links, kept in state alone."""

import os
import random
import re
import string
import threading

from iii import InitOptions, register_worker

try:
    from iii_helpers.observability import Logger
except ImportError:  # before the helpers had a package of their own
    from iii_observability import Logger

SCOPE = "links"
worker = register_worker(os.environ.get("III_URL", "ws://localhost:49134"), InitOptions(worker_name="link"))
logger = Logger()


def make_code():
    return "".join(random.choices(string.ascii_lowercase + string.digits, k=6))


async def create(request):
    code = request.get("code") or make_code()
    url = request["url"] if re.match("https?://", request["url"], re.IGNORECASE) else f"https://{request['url']}"
    payload = {"scope": SCOPE, "key": code, "value": {"url": url}}
    await worker.trigger_async({"function_id": "state::set", "payload": payload})
    logger.info("link created", {"code": code, "url": url})
    return {"code": code, "url": url}


async def resolve(request):
    payload = {"scope": SCOPE, "key": request["code"]}
    found = await worker.trigger_async({"function_id": "state::get", "payload": payload})
    logger.info("link resolved", {"code": request["code"], "found": bool(found)})
    return {"url": found["url"] if found else None}


async def create_link(request):
    body = request.get("body") or {}
    headers = {"Content-Type": "application/json"}
    if not body.get("url"):
        return {"status_code": 400, "body": {"error": 'missing "url"'}, "headers": headers}
    payload = {"url": body["url"], "code": body.get("code")}
    link = await worker.trigger_async({"function_id": "link::create", "payload": payload})
    return {"status_code": 201, "body": link, "headers": headers}


async def redirect(request):
    payload = {"code": request["path_params"]["code"]}
    resolved = await worker.trigger_async({"function_id": "link::resolve", "payload": payload})
    if resolved["url"]:
        return {"status_code": 302, "headers": {"Location": resolved["url"]}}
    return {
        "status_code": 404,
        "body": {"error": "link not found"},
        "headers": {"Content-Type": "application/json"},
    }


def route(function_id, method, path):
    config = {"api_path": path, "http_method": method}
    worker.register_trigger({"type": "http", "function_id": function_id, "config": config})


worker.register_function("link::create", create)
worker.register_function("link::resolve", resolve)
worker.register_function("http::create_link", create_link)
route("http::create_link", "POST", "/links")
worker.register_function("http::redirect", redirect)
route("http::redirect", "GET", "/s/:code")

logger.info("link worker ready")
threading.Event().wait()
