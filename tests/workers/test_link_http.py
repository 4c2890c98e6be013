"""The link shortener over HTTP: statuses, bodies, limits, pages, statistics, QR codes."""

import asyncio
import itertools
import xml.etree.ElementTree as ET

import pytest

from linkly.testing import ManualClock

AGENT = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0"}
BOT = {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}


async def make(client, code="a", url="https://a.example", **more):
    made = await client.post("/links", json={"url": url, "code": code, **more})
    assert made.status_code == 201, made.text
    return made.json()


async def test_a_link_is_shown_changed_and_forgotten(shortener):
    async with shortener(clock=ManualClock(1_700_000_000)) as (client, _):
        await make(client)
        shown = await client.get("/links/a")
        assert (shown.status_code, shown.json()) == (
            200,
            {
                "code": "a",
                "url": "https://a.example",
                "created_at": "2023-11-14T22:13:20.000Z",
                "clicks": 0,
                "expires_at": None,
                "max_clicks": None,
            },
        )
        changed = await client.put("/links/a", json={"url": "b.example"})
        assert (changed.status_code, changed.json()) == (200, {"code": "a", "url": "https://b.example"})
        assert (await client.get("/s/a")).headers["location"] == "https://b.example"
        assert (await client.delete("/links/a")).status_code == 204
        for answer in (
            await client.get("/links/a"),
            await client.put("/links/a", json={"url": "https://b.example"}),
            await client.delete("/links/a"),
            await client.get("/links/a/stats"),
            await client.get("/links/a/qr"),
            await client.get("/s/a"),
        ):
            assert (answer.status_code, answer.json()) == (404, {"error": "link not found"})


@pytest.mark.parametrize(
    "body, part",
    [
        ({}, 'missing "url"'),
        ({"url": "ftp://x"}, "scheme"),
        ({"url": "https://a.example", "max_clicks": 0}, "max_clicks"),
    ],
)
async def test_a_change_that_cannot_be_is_a_400_and_changes_nothing(shortener, body, part):
    async with shortener() as (client, _):
        await make(client)
        refused = await client.put("/links/a", json=body)
        assert refused.status_code == 400
        assert part in refused.json()["error"]
        assert (await client.get("/s/a")).headers["location"] == "https://a.example"


@pytest.mark.transports("in process")  # judged before anything is called
@pytest.mark.parametrize("path", ["/links", "/links/a"])
@pytest.mark.parametrize(
    "content, content_type, problem",
    [
        (b"", "application/json", 'missing "url"'),
        (b"", None, 'missing "url"'),
        (b"[1]", "application/json", 'missing "url"'),
        (b'"x"', "application/json", 'missing "url"'),
        (b"{", "application/json", "the body is no JSON"),
        (b'{"url": "https://\xff.example"}', "application/json", "not UTF-8"),
        (b'{"url": "https://b.example"}', None, "it has no Content-Type"),
        (b"url=https://b.example", "application/x-www-form-urlencoded", "`application/x-www-form-urlencoded`"),
    ],
)
async def test_a_body_without_a_url_is_a_400_that_says_what_is_wrong_with_it(
    shortener, path, content, content_type, problem
):
    async with shortener() as (client, _):
        await make(client)
        method = client.post if path == "/links" else client.put
        headers = {} if content_type is None else {"content-type": content_type}
        refused = await method(path, content=content, headers=headers)
        assert refused.status_code == 400
        assert problem in refused.json()["error"]


async def test_a_taken_code_is_a_409_and_the_first_link_is_kept(shortener):
    async with shortener() as (client, _):
        await make(client)
        refused = await client.post("/links", json={"url": "https://b.example", "code": "a"})
        assert refused.status_code == 409
        assert "taken" in refused.json()["error"]
        assert (await client.get("/s/a")).headers["location"] == "https://a.example"


async def test_an_expired_link_is_a_410_from_its_time_on(shortener):
    clock = ManualClock(1_700_000_000)
    async with shortener(clock=clock) as (client, bus):
        made = await make(client, expires_at="2023-11-14T23:13:25+01:00")
        assert made["expires_at"] == "2023-11-14T22:13:25.000Z"
        await clock.advance(5)
        gone = await client.get("/s/a")
        assert (gone.status_code, gone.json()) == (410, {"error": "link expired"})
        assert (await client.head("/s/a")).status_code == 410
        changed = await client.put("/links/a", json={"url": "https://a.example", "expires_at": "2023-11-14T22:13:35Z"})
        assert changed.json()["expires_at"] == "2023-11-14T22:13:35.000Z"
        assert (await client.get("/s/a")).status_code == 302
        await clock.advance(10)
        assert (await client.get("/s/a")).status_code == 410
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": None}
        assert await bus.trigger("link::record_click", {"code": "a"}) == {"recorded": False, "reason": "expired"}
        await client.put("/links/a", json={"url": "https://a.example", "expires_at": None})
        assert (await client.get("/s/a")).status_code == 302
        assert (await client.get("/links/a")).json()["clicks"] == 2


async def test_a_link_redirects_racing_clients_as_often_as_it_may(shortener):
    allowed, clients, requests = 40, 32, 80
    async with shortener() as (client, bus):
        await make(client, max_clicks=allowed)
        numbers = itertools.count()

        async def race():
            statuses = []
            while next(numbers) < requests:
                statuses.append((await client.get("/s/a")).status_code)
            return statuses

        statuses = [status for each in await asyncio.gather(*(race() for _ in range(clients))) for status in each]
        assert statuses.count(302) == allowed
        assert statuses.count(410) == len(statuses) - allowed
        assert (await client.get("/s/a")).json() == {"error": "link has no clicks left"}
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": None}
        assert (await bus.trigger("link::verify"))["rows"] == allowed
        await client.put("/links/a", json={"url": "https://a.example", "max_clicks": allowed + 1})
        assert [(await client.get("/s/a")).status_code for _ in range(2)] == [302, 410]


async def test_a_repeated_click_redirects_again_without_a_count(shortener):
    async with shortener() as (client, _):
        await make(client, "once", max_clicks=1)
        await make(client, "often")
        for code in ("once", "often"):
            for _ in range(3):
                followed = await client.get(f"/s/{code}", headers={"Idempotency-Key": "click 1"})
                assert (followed.status_code, followed.headers["location"]) == (302, "https://a.example")
            assert (await client.get(f"/links/{code}")).json()["clicks"] == 1
        assert (await client.get("/s/once", headers={"Idempotency-Key": "click 2"})).status_code == 410
        too_long = await client.get("/s/often", headers={"Idempotency-Key": "x" * 256})
        assert too_long.status_code == 400
        assert "256 characters" in too_long.json()["error"]


@pytest.mark.parametrize("settings", [{}, {"store": "memory"}, {"count": "in_background"}])
async def test_a_repeated_click_passes_no_limit_of_its_link(shortener, settings):
    clock = ManualClock(1_700_000_000)
    key = {"Idempotency-Key": "click 1"}
    async with shortener(settings, clock=clock) as (client, bus):
        await make(client, "once", max_clicks=1)
        await make(client, "twice", max_clicks=2)
        await make(client, "short", expires_at="2023-11-14T22:13:50Z")
        for code in ("once", "twice", "short"):
            assert (await client.get(f"/s/{code}", headers=key)).status_code == 302
        await clock.advance(30)
        assert (await client.get("/s/once", headers=key)).status_code == 302
        gone = await client.get("/s/short", headers=key)
        assert (gone.status_code, gone.json()) == (410, {"error": "link expired"})
        await clock.advance(31)
        gone = await client.get("/s/once", headers=key)
        assert (gone.status_code, gone.json()) == (410, {"error": "link has no clicks left"})
        late = await client.get("/s/twice", headers=key)
        assert late.status_code == 410
        assert "counted before" in late.json()["error"]
        assert (await client.get("/s/twice")).status_code == 302
        # A call that only counts is no redirect: it is answered what it asks, that the click is counted.
        assert await bus.trigger("link::record_click", {"code": "once", "click_id": "click 1"}) == {"recorded": True}


async def test_a_repeated_create_makes_one_link(shortener):
    async with shortener() as (client, _):
        key = {"Idempotency-Key": "create 1"}
        made = await asyncio.gather(
            *(client.post("/links", json={"url": "https://a.example"}, headers=key) for _ in range(5))
        )
        assert {each.status_code for each in made} == {201}
        assert len({each.text for each in made}) == 1
        other = await client.post("/links", json={"url": "https://b.example"}, headers=key)
        assert other.status_code == 422
        assert "idempotency key 'create 1'" in other.json()["error"]
        assert len((await client.get("/links")).json()["links"]) == 1


async def test_one_instant_in_another_spelling_is_the_same_request(shortener):
    async with shortener() as (client, _):
        key = {"Idempotency-Key": "create 1"}
        for time in ("2099-01-01T12:00:00Z", "2099-01-01T13:00:00+01:00"):
            body = {"url": "https://a.example", "code": "a", "expires_at": time}
            assert (await client.post("/links", json=body, headers=key)).status_code == 201
        body = {"url": "https://a.example", "code": "a", "expires_at": "2099-01-01T12:00:01Z"}
        assert (await client.post("/links", json=body, headers=key)).status_code == 422


async def test_all_links_are_listed_page_by_page(shortener):
    clock = ManualClock(1_700_000_000)
    async with shortener(clock=clock) as (client, _):
        for number in range(5):
            await make(client, f"c{number}")
            await clock.advance(1)
        seen, cursor = [], {}
        while True:
            page = (await client.get("/links", params={"limit": 2, **cursor})).json()
            seen += [link["code"] for link in page["links"]]
            assert len(page["links"]) <= 2
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert seen == ["c4", "c3", "c2", "c1", "c0"]
        assert len((await client.get("/links")).json()["links"]) == 5


@pytest.mark.transports("in process")  # judged before anything is called
@pytest.mark.parametrize(
    "query, part",
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1e2", "limit"),
        ("limit=1.0", "limit"),
        ("limit=%2B1", "limit"),
        ("limit=", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=e30", "cursor"),
        ("cursor=%C3%A9", "cursor"),
    ],
)
async def test_a_limit_or_a_cursor_that_cannot_be_is_a_400(shortener, query, part):
    async with shortener() as (client, _):
        refused = await client.get(f"/links?{query}")
        assert refused.status_code == 400
        assert part in refused.json()["error"]


async def test_statistics_count_bots_apart_from_people(shortener):
    clock = ManualClock(1_700_006_390)  # ten seconds before midnight
    async with shortener(clock=clock) as (client, bus):
        await make(client)
        for headers in (
            {**AGENT, "Referer": "https://news.example/today?x=1"},
            AGENT,
            {"User-Agent": "curl/8.4.0"},
            BOT,
            {**BOT, "Referer": "https://news.example/"},
            {**AGENT, "Referer": "https://News.Example.:443/"},
        ):
            assert (await client.get("/s/a", headers=headers)).status_code == 302
        await clock.advance(20)
        await client.get("/s/a", headers=AGENT)
        stats = (await client.get("/links/a/stats")).json()
        assert stats == {
            "code": "a",
            "total": 5,
            "unique": 2,
            "bots": 2,
            "by_day": [{"day": "2023-11-14", "clicks": 4}, {"day": "2023-11-15", "clicks": 1}],
            "by_referrer": [{"referrer": None, "clicks": 3}, {"referrer": "news.example", "clicks": 2}],
        }
        assert await bus.trigger("link::stats", {"code": "a"}) == stats
        assert (await client.get("/links/a/stats?days=1")).json()["by_day"] == [{"day": "2023-11-15", "clicks": 1}]
        for days in ("0", "1.0", "1e1"):
            refused = await client.get(f"/links/a/stats?days={days}")
            assert refused.status_code == 400
            assert "days" in refused.json()["error"]
        assert (await client.get("/links/a")).json()["clicks"] == 7
        stored = await bus.trigger("database::query", {"sql": "SELECT * FROM clicks"})
        assert "127.0.0.1" not in str(stored)
        assert "Firefox" not in str(stored)


async def test_a_qr_code_is_an_svg_of_the_short_address(shortener):
    async with shortener({"base_url": "https://s.example/"}) as (client, _):
        await make(client)
        drawn = await client.get("/links/a/qr")
        assert drawn.headers["content-type"] == "image/svg+xml"
        picture = ET.fromstring(drawn.text)
        assert picture.tag == "{http://www.w3.org/2000/svg}svg"
        assert picture.find("{http://www.w3.org/2000/svg}title").text == "https://s.example/s/a"


async def test_without_a_base_url_the_qr_code_leads_to_where_the_request_came(shortener):
    async with shortener() as (client, bus):
        await make(client)
        drawn = await client.get("/links/a/qr", headers={"Host": "short.example:8080"})
        assert "http://short.example:8080/s/a" in drawn.text
        request = {"scheme": "https", "headers": {"host": "s.example"}, "path_params": {"code": "a"}}
        assert "https://s.example/s/a" in (await bus.trigger("link::http_qr", request))["body"]
        refused = await client.get("/links/a/qr", headers={"Host": 'x"<y>'})
        assert refused.status_code == 400


async def test_a_link_to_the_shortener_itself_is_refused(shortener):
    async with shortener({"base_url": "https://s.example", "own_hosts": ["Alias.example"]}) as (client, _):
        for url in ("https://s.example/s/a", "http://alias.example./x", "https://reached.example/y"):
            refused = await client.post("/links", json={"url": url}, headers={"Host": "reached.example:3111"})
            assert refused.status_code == 400
            assert "itself" in refused.json()["error"]


async def test_private_targets_need_the_setting(shortener):
    async with shortener() as (client, _):
        assert (await client.post("/links", json={"url": "http://10.0.0.1/"})).status_code == 400
    async with shortener({"allow_private_targets": True}) as (client, _):
        assert (await client.post("/links", json={"url": "http://10.0.0.1/"})).status_code == 201


async def test_a_click_in_the_background_is_counted_too(shortener):
    async with shortener({"count": "in_background"}) as (client, bus):
        await make(client)
        assert (await client.get("/s/a")).status_code == 302
        async with asyncio.timeout(10):
            while (await client.get("/links/a")).json()["clicks"] != 1:
                pass
        assert (await bus.trigger("link::verify"))["ok"] is True


async def test_a_limit_is_kept_in_the_background_too(shortener):
    async with shortener({"count": "in_background"}) as (client, bus):
        await make(client, max_clicks=10)
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": "https://a.example", "max_clicks": 10}
        statuses = [each.status_code for each in await asyncio.gather(*(client.get("/s/a") for _ in range(64)))]
        assert (statuses.count(302), statuses.count(410)) == (10, 54)
        assert (await client.get("/links/a")).json()["clicks"] == 10


async def test_links_in_memory_need_no_database(shortener):
    async with shortener({"store": "memory"}) as (client, bus):
        await make(client)
        assert (await client.get("/s/a")).status_code == 302
        assert (await client.get("/links/a")).json()["clicks"] == 1
        tables = await bus.trigger("database::query", {"sql": "SELECT name FROM sqlite_master"})
        assert tables["rows"] == []
