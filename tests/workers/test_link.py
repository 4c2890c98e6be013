"""The link worker over state, database and gateway, in process and over the wire."""

import asyncio
import contextlib
import sqlite3

import pytest

from linkly import LinklyError
from linkly.testing import ManualClock

pytestmark = pytest.mark.transports("in process", "native wire", "json wire")


async def clicks(bus, code):
    sql = "SELECT (SELECT clicks FROM links WHERE code = ?1) AS counter, COUNT(*) AS n FROM clicks WHERE code = ?1"
    answer = await bus.trigger("database::query", {"sql": sql, "params": [code]})
    row = answer["rows"][0]
    assert row["counter"] in (row["n"], None)
    return row["n"]


async def test_a_link_is_made_followed_and_counted(shortener):
    async with shortener() as (client, bus):
        made = await client.post("/links", json={"url": "https://iii.dev/a?b=c", "code": "iii"})
        assert (made.status_code, made.json()) == (201, {"code": "iii", "url": "https://iii.dev/a?b=c"})
        assert await clicks(bus, "iii") == 0
        for expected in (1, 2, 3):
            followed = await client.get("/s/iii")
            assert (followed.status_code, followed.headers["location"]) == (302, "https://iii.dev/a?b=c")
            assert followed.headers["cache-control"] == "private, no-store"
            assert await clicks(bus, "iii") == expected
        assert (await client.head("/s/iii")).status_code == 302
        assert await clicks(bus, "iii") == 3
        missing = await client.get("/s/none")
        assert (missing.status_code, missing.json()) == (404, {"error": "link not found"})
        assert await clicks(bus, "none") == 0


async def test_a_generated_code_is_six_letters_and_digits(shortener):
    async with shortener() as (client, _):
        made = (await client.post("/links", json={"url": "example.com/a"})).json()
        assert made["url"] == "https://example.com/a"
        assert len(made["code"]) == 6
        assert made["code"].isalnum()
        assert (await client.get(f"/s/{made['code']}")).headers["location"] == "https://example.com/a"


@pytest.mark.transports("in process")  # judged before anything is called
@pytest.mark.parametrize(
    "body, part",
    [
        ({}, 'missing "url"'),
        ({"url": ""}, 'missing "url"'),
        ({"url": 5}, "url"),
        ({"url": "javascript:alert(1)"}, "javascript"),
        ({"url": "https://a@b.example"}, "user name"),
        ({"url": "https://a.example/\r\nSet-Cookie: x"}, "control"),
        ({"url": "https://"}, "no host"),
        ({"url": "https://a.example:99999"}, "malformed"),
        ({"url": "https://a.example/" + "x" * 9000}, "characters"),
        ({"url": "https://a.example", "code": "a/b"}, "code"),
        ({"url": "https://a.example", "code": ""}, "code"),
        ([1], 'missing "url"'),
    ],
)
async def test_what_cannot_be_a_link_is_a_400_with_the_reason(shortener, body, part):
    async with shortener() as (client, bus):
        refused = await client.post("/links", json=body)
        assert refused.status_code == 400
        assert part in refused.json()["error"]
        assert (await bus.trigger("database::query", {"sql": "SELECT * FROM links"}))["rows"] == []


async def test_the_race_for_one_code_has_one_winner(shortener):
    async with shortener() as (client, bus):
        asked = [client.post("/links", json={"url": f"https://a.example/{n}", "code": "one"}) for n in range(20)]
        answers = await asyncio.gather(*asked)
        assert sorted(each.status_code for each in answers) == [201, *[409] * 19]
        winner = next(each.json()["url"] for each in answers if each.status_code == 201)
        assert (await client.get("/s/one")).headers["location"] == winner
        assert await bus.trigger("link::resolve", {"code": "one"}) == {"url": winner}
        with pytest.raises(LinklyError) as failure:
            await bus.trigger("link::create", {"url": "https://b.example", "code": "one"})
        assert failure.value.code == "CODE_TAKEN"


async def test_concurrent_clicks_are_all_counted(shortener):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "busy"})

        async def follow():
            for _ in range(4):
                assert (await client.get("/s/busy")).status_code == 302

        await asyncio.gather(*(follow() for _ in range(20)))
        assert await clicks(bus, "busy") == 80


async def test_without_its_cache_a_link_is_found_in_the_database(shortener):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "kept"})
        await bus.trigger("state::delete", {"scope": "links", "key": "kept"})
        assert (await client.get("/s/kept")).headers["location"] == "https://a.example"
        assert (await client.head("/s/kept")).headers["location"] == "https://a.example"
        assert await bus.trigger("state::get", {"scope": "links", "key": "kept"}) == {"url": "https://a.example"}


async def test_a_counted_redirect_leads_where_the_database_says(shortener):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "kept"})
        await bus.trigger("state::set", {"scope": "links", "key": "kept", "value": {"url": "https://old.example"}})
        assert (await client.get("/s/kept")).headers["location"] == "https://a.example"


async def test_a_click_has_the_time_of_the_clock(shortener):
    async with shortener(clock=ManualClock(1_700_000_000)) as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "t"})
        await client.get("/s/t")
        await bus.trigger("link::record_click", {"code": "t", "clicked_at": "2020-01-01T00:00:00.000Z"})
        answer = await bus.trigger("database::query", {"sql": "SELECT clicked_at FROM clicks ORDER BY id"})
        assert [row["clicked_at"] for row in answer["rows"]] == ["2023-11-14T22:13:20.000Z", "2020-01-01T00:00:00.000Z"]


async def test_a_count_that_fails_is_no_redirect(shortener, caplog):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "x"})
        await bus.trigger("database::execute", {"sql": "ALTER TABLE clicks RENAME TO gone"})
        failed = await client.get("/s/x")
        assert failed.status_code == 500
        assert "clicks" not in failed.text
        assert "clicks" in caplog.text


async def test_tables_of_the_first_tutorial_get_their_counter(shortener, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "links.db")) as old, old:
        old.execute("CREATE TABLE links (code TEXT PRIMARY KEY, url TEXT NOT NULL, created_at TEXT NOT NULL)")
        old.execute("CREATE TABLE clicks (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT NOT NULL, clicked_at TEXT)")
        old.execute("INSERT INTO links VALUES ('old', 'https://a.example', '2020')")
        old.execute("INSERT INTO clicks (code, clicked_at) VALUES ('old', '2020')")
    async with shortener() as (client, bus):
        assert (await client.get("/s/old")).status_code == 302
        assert await clicks(bus, "old") == 2
