"""The tutorial's third chapter, by each published client: links and clicks in the database, state as a cache.

Every test makes links of its own, so that the order of the tests does not matter.
"""

import asyncio
import json

import pytest

VERSIONS = ["0.16.1", "0.19.7", "0.22.1", "0.25.0", "node"]
FUNCTIONS = ["link::create", "link::resolve", "link::record_click", "http::create_link", "http::redirect"]

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
async def engines(new_linkly, command):
    """One engine for each client; `link::ready` is there once the worker has made its tables."""

    async def start(version):
        linkly = await new_linkly()
        linkly.run_client(command(version, "link_persist"))
        await linkly.until_there(*FUNCTIONS, "link::ready")
        await linkly.until_logged("database: ready")
        return linkly

    return dict(zip(VERSIONS, await asyncio.gather(*map(start, VERSIONS)), strict=True))


@pytest.fixture(scope="module")
async def restarted(engines):
    """All engines after a kill -9 and a new start; before it, each answered for the code `kept`."""

    async def restart(linkly):
        await linkly.trigger("link::create", "url=https://iii.dev", "code=kept")
        await linkly.kill()
        await linkly.start()
        await linkly.until_there(*FUNCTIONS, "link::ready")

    await asyncio.gather(*map(restart, engines.values()))
    return engines


async def query(linkly, sql):
    return json.loads(await linkly.trigger("database::query", "db=primary", f"sql={sql}"))


async def cached(linkly, code):
    answer = await linkly.trigger("state::get", "scope=links", f"key={code}")
    return json.loads(answer) if answer else None


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_command_line_counts_the_clicks_of_redirects(engines, version):
    linkly = engines[version]
    await linkly.http.post("/links", json={"url": "https://iii.dev", "code": "iii"})
    for _ in range(3):
        followed = await linkly.http.get("/s/iii")
        assert (followed.status_code, followed.headers["location"]) == (302, "https://iii.dev")
    sql = "SELECT COUNT(*) AS clicks FROM clicks WHERE code = 'iii'"
    printed = await linkly.trigger("database::query", "db=primary", f"sql={sql}")
    assert '"clicks": 3' in printed
    answer = json.loads(printed)
    assert (answer["rows"], answer["row_count"]) == ([{"clicks": 3}], 1)
    assert answer["columns"] == [{"name": "clicks", "type": ""}]
    assert (linkly.folder / "data/iii.db").exists()


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_database_holds_only_what_was_created(engines, version):
    linkly = engines[version]
    await linkly.trigger("link::create", "url=https://iii.dev/docs", "code=stored")
    stored = await query(linkly, "SELECT url FROM links WHERE code = 'stored'")
    assert stored["rows"] == [{"url": "https://iii.dev/docs"}]
    assert (await query(linkly, "SELECT url FROM links WHERE code = 'nobody'"))["rows"] == []
    assert json.loads(await linkly.trigger("link::resolve", "code=nobody")) == {"url": None}
    assert (await linkly.http.get("/s/nobody")).status_code == 404


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_click_can_be_recorded_by_hand(engines, version):
    click = ["code=by-hand", "clicked_at=2026-01-01T00:00:00Z"]
    assert json.loads(await engines[version].trigger("link::record_click", *click)) == {"recorded": True}
    rows = (await query(engines[version], "SELECT clicked_at FROM clicks WHERE code = 'by-hand'"))["rows"]
    assert rows == [{"clicked_at": "2026-01-01T00:00:00Z"}]


@pytest.mark.parametrize("version", VERSIONS)
async def test_only_a_caller_is_told_the_databases_reason_for_a_taken_code(engines, version):
    linkly = engines[version]
    link = {"url": "https://first.example", "code": "taken"}
    assert (await linkly.http.post("/links", json=link)).status_code == 201
    refused = await linkly.http.post("/links", json={**link, "url": "https://second.example"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (500, "invocation_failed")
    assert "UNIQUE" not in refused.text
    printed = await linkly.trigger("link::create", "url=https://third.example", "code=taken", code=1)
    assert "UNIQUE constraint failed: links.code" in printed
    assert (await linkly.http.get("/s/taken")).headers["location"] == "https://first.example"


@pytest.mark.parametrize("version", VERSIONS)
async def test_help_of_a_function_lists_its_parameters(engines, version):
    printed = await engines[version].trigger("database::query", "--help")
    assert all(name in printed for name in ("db", "sql", "params"))


@pytest.mark.parametrize("version", VERSIONS)
async def test_links_survive_a_kill_and_warm_the_cache_again(restarted, version):
    linkly = restarted[version]
    assert await cached(linkly, "kept") is None
    assert json.loads(await linkly.trigger("link::resolve", "code=kept")) == {"url": "https://iii.dev"}
    assert await cached(linkly, "kept") == {"url": "https://iii.dev"}
    # The second time it comes out of state: the row may be gone.
    await linkly.trigger("database::execute", "db=primary", "sql=DELETE FROM links WHERE code = 'kept'")
    assert json.loads(await linkly.trigger("link::resolve", "code=kept")) == {"url": "https://iii.dev"}
