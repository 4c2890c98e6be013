"""The link worker at the end of the tutorial's third chapter, in Python: all in the database, state as a cache."""

import os
import random
import re
import string
import threading
from datetime import UTC, datetime

from iii import InitOptions, register_worker

try:
    from iii_helpers.observability import Logger
except ImportError:  # before the helpers had a package of their own
    from iii_observability import Logger

DB = "primary"  # a database of config.yaml
SCOPE = "links"
JSON_HEADERS = {"Content-Type": "application/json"}
worker = register_worker(os.environ.get("III_URL", "ws://localhost:49134"), InitOptions(worker_name="link"))
logger = Logger()


async def call(function_id, **payload):
    return await worker.trigger_async({"function_id": function_id, "payload": payload})


def now():
    return datetime.now(UTC).isoformat()


async def create(request):
    code = request.get("code") or "".join(random.choices(string.ascii_lowercase + string.digits, k=6))
    url = request["url"] if re.match("https?://", request["url"], re.IGNORECASE) else f"https://{request['url']}"
    sql = "INSERT INTO links (code, url, created_at) VALUES (?, ?, ?)"
    await call("database::execute", db=DB, sql=sql, params=[code, url, now()])
    await call("state::set", scope=SCOPE, key=code, value={"url": url})
    logger.info("link created", {"code": code, "url": url})
    return {"code": code, "url": url}


async def resolve(request):
    code = request["code"]
    cached = await call("state::get", scope=SCOPE, key=code)
    if cached:
        logger.info("link resolved", {"code": code, "found": True})
        return {"url": cached["url"]}
    answer = await call("database::query", db=DB, sql="SELECT url FROM links WHERE code = ?", params=[code])
    url = answer["rows"][0]["url"] if answer["rows"] else None
    if url:
        await call("state::set", scope=SCOPE, key=code, value={"url": url})
    logger.info("link resolved", {"code": code, "found": bool(url)})
    return {"url": url}


async def record_click(click):
    sql = "INSERT INTO clicks (code, clicked_at) VALUES (?, ?)"
    await call("database::execute", db=DB, sql=sql, params=[click["code"], click["clicked_at"]])
    return {"recorded": True}


async def create_link(request):
    body = request.get("body") or {}
    if not body.get("url"):
        return {"status_code": 400, "body": {"error": 'missing "url"'}, "headers": JSON_HEADERS}
    link = await call("link::create", url=body["url"], code=body.get("code"))
    return {"status_code": 201, "body": link, "headers": JSON_HEADERS}


async def redirect(request):
    code = request["path_params"]["code"]
    url = (await call("link::resolve", code=code))["url"]
    if not url:
        return {"status_code": 404, "body": {"error": "link not found"}, "headers": JSON_HEADERS}
    await call("link::record_click", code=code, clicked_at=now())
    return {"status_code": 302, "headers": {"Location": url}}


def route(function_id, method, path):
    config = {"api_path": path, "http_method": method}
    worker.register_trigger({"type": "http", "function_id": function_id, "config": config})


def ensure_schema():
    links = "code TEXT PRIMARY KEY, url TEXT NOT NULL, created_at TEXT NOT NULL"
    clicks = "id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT NOT NULL, clicked_at TEXT NOT NULL"
    for table, columns in (("links", links), ("clicks", clicks)):
        sql = f"CREATE TABLE IF NOT EXISTS {table} ({columns})"
        worker.trigger({"function_id": "database::execute", "payload": {"db": DB, "sql": sql}})


worker.register_function("link::create", create)
worker.register_function("link::resolve", resolve)
worker.register_function("link::record_click", record_click)
worker.register_function("http::create_link", create_link)
route("http::create_link", "POST", "/links")
worker.register_function("http::redirect", redirect)
route("http::redirect", "GET", "/s/:code")
try:
    ensure_schema()
    logger.info("database: ready")
except Exception as error:
    logger.error("database: schema init failed", {"error": str(error)})
worker.register_function("link::ready", lambda data: True)
threading.Event().wait()
