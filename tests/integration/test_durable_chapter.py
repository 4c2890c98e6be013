"""The tutorial's fourth chapter: clicks leave the redirect's path, and what happens to links reaches whoever was away.

The link worker is written in TypeScript on iii's Node SDK, the analytics worker in Python on iii's Python SDK.
"""

import json
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from linkly import Client, LinklyError
from support.database_calls import until
from support.project_with_clients import ProjectWithClients
from support.published_clients import PYTHON_CLIENTS, installed_clients

FUNCTIONS = ["link::create", "link::resolve", "http::redirect", "http::update_link", "link::refresh_cache"]
QUEUE = """\
  - name: queue
    config:
      adapter: {name: builtin}
"""
CLICKS = """\
      queue_configs:
        clicks: {type: standard, max_retries: 5, concurrency: 5, backoff_ms: 10}
"""
DATABASES = """\
    config:
      databases:
        primary: {url: "sqlite:./data/iii.db"}
"""
ANALYTICS = """\
        analytics: {url: "sqlite:./data/analytics.db"}
"""

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def command():
    return installed_clients()


@pytest.fixture(scope="module")
async def linkly(tmp_path_factory, command):
    """A project with `queue`, whose settings were edited while the link worker ran."""
    async with AsyncExitStack() as stack:
        linkly = ProjectWithClients(tmp_path_factory.mktemp("project"), stack)
        stack.push_async_callback(linkly.http.aclose)
        linkly.write_config()
        config = linkly.folder / "config.yaml"
        config.write_text(
            config.read_text().replace("  - name: database\n", "  - name: database\n" + DATABASES) + QUEUE
        )
        await linkly.start()
        linkly.link = linkly.run_client(command("node", "link_durable"))
        await linkly.until_there(*FUNCTIONS, "link::ready")
        await linkly.until_logged("database: ready")
        with pytest.raises(LinklyError, match="'clicks' not found"):
            await enqueue(linkly)
        config.write_text(config.read_text() + CLICKS)
        await until(lambda: is_accepted(linkly))
        yield linkly


async def enqueue(linkly):
    async with Client(linkly.url, name="edits") as bus:
        await bus.trigger("queue::enqueue", {"function_id": "link::ready", "queue": "clicks"})


async def is_accepted(linkly):
    try:
        await enqueue(linkly)
    except LinklyError:
        return False
    return True


async def created(linkly, code, url="https://iii.dev"):
    answer = await linkly.http.post("/links", json={"url": url, "code": code})
    assert answer.status_code == 201


async def redirect(linkly, code):
    answer = await linkly.http.get(f"/s/{code}")
    assert answer.status_code == 302
    return answer.headers["location"]


async def query(linkly, sql, db="primary"):
    return json.loads(await linkly.trigger("database::query", f"db={db}", f"sql={sql}"))["rows"]


async def until_clicks(linkly, code, count):
    async def counted():
        sql = f"SELECT COUNT(*) AS clicks FROM clicks WHERE code = '{code}'"
        return await query(linkly, sql) == [{"clicks": count}]

    await until(counted)


async def until_resolved(linkly, code, url):
    async def resolved():
        return json.loads(await linkly.trigger("link::resolve", f"code={code}")) == {"url": url}

    await until(resolved)


async def test_three_redirects_are_three_clicks_a_little_later(linkly):
    await created(linkly, "iii")
    for _ in range(3):
        assert await redirect(linkly, "iii") == "https://iii.dev"
    await until_clicks(linkly, "iii", 3)


async def test_a_redirect_has_a_receipt_with_which_its_click_can_be_awaited(linkly):
    await created(linkly, "awaited")
    await redirect(linkly, "awaited")
    logged = await linkly.until_logged("click enqueued", code="awaited")
    receipt = logged["attributes"]["log.data"]["receipt"]
    job = json.loads(await linkly.trigger("queue::wait", f"id={receipt}"))
    assert (job["queue"], job["function_id"], job["state"]) == ("clicks", "link::record_click", "done")
    await until_clicks(linkly, "awaited", 1)


async def test_a_redirect_does_not_wait_for_a_database_that_takes_no_clicks(linkly):
    await created(linkly, "broken")
    await linkly.trigger("database::execute", "db=primary", "sql=ALTER TABLE clicks RENAME TO clicks_away")
    await redirect(linkly, "broken")

    async def dead():
        return json.loads(await linkly.trigger("engine::queue::dlq_messages", "topic=clicks"))

    await until(dead)
    [letter] = await dead()
    assert (letter["payload"]["code"], letter["retries"]) == ("broken", 5)
    assert "no such table: clicks" in letter["error"]
    await linkly.trigger("database::execute", "db=primary", "sql=ALTER TABLE clicks_away RENAME TO clicks")
    assert json.loads(await linkly.trigger("iii::queue::redrive", "queue=clicks")) == {
        "queue": "clicks",
        "redriven": 1,
    }
    await until_clicks(linkly, "broken", 1)


async def test_a_link_can_be_changed_over_http_and_its_cache_follows(linkly):
    await created(linkly, "moved")
    refused = await linkly.http.put("/links/moved", json={})
    assert (refused.status_code, refused.json()) == (400, {"error": 'missing "url"'})
    changed = await linkly.http.put("/links/moved", json={"url": "https://iii.dev/docs"})
    assert (changed.status_code, changed.text) == (200, '{"code":"moved","url":"https://iii.dev/docs"}')
    await until_resolved(linkly, "moved", "https://iii.dev/docs")
    assert await redirect(linkly, "moved") == "https://iii.dev/docs"


async def test_an_event_that_was_published_while_its_subscriber_was_killed_reaches_it(linkly, command):
    await created(linkly, "late")
    await linkly.link.ended(signal.SIGKILL)
    await linkly.until("engine::workers-available", link_gone, "the end of the link worker")
    data = {"code": "late", "url": "https://late.example"}
    await linkly.trigger("iii::durable::publish", "topic=link.updated", f"data={json.dumps(data)}")
    await linkly.kill()
    await linkly.start()
    linkly.link = linkly.run_client(command("node", "link_durable"))
    await linkly.until_there(*FUNCTIONS)
    await linkly.until_logged("cache refreshed", **data)
    await until_resolved(linkly, "late", "https://late.example")


async def link_gone(bus):
    return all(row["name"] != "link" for row in (await bus.trigger("engine::workers::list", {}))["workers"])


async def test_five_links_are_five_in_a_second_database_that_was_added_while_the_engine_ran(linkly, command):
    config = linkly.folder / "config.yaml"
    config.write_text(config.read_text().replace(DATABASES, DATABASES + ANALYTICS))
    linkly.run_client(command(PYTHON_CLIENTS[-1], "link_analytics"))
    await linkly.until_there("analytics::ready")
    for number in range(5):
        await created(linkly, f"day{number}")
    today = datetime.now(UTC).date().isoformat()

    async def counted():
        sql = "sql=SELECT day, count FROM daily_link_counts"
        output, _ = await linkly.run(
            "trigger", "database::query", "db=analytics", sql, "--port", str(linkly.worker_port)
        )
        return f'"day": "{today}"' in output and '"count": 5' in output

    await until(counted)
