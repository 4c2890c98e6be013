"""What a redirect does besides redirecting: caches, requests in advance, slashes, queries, the case of a code."""

import pytest

from linkly.errors import ConfigError
from linkly.testing import ManualClock
from linkly_workers.link.urls import with_query

KEPT_BY_NOBODY = "private, no-store"


async def make(client, code="a", url="https://a.example", **more):
    made = await client.post("/links", json={"url": url, "code": code, **more})
    assert made.status_code == 201, made.text
    return made.json()


@pytest.mark.parametrize("path", ["/s/missing", "/s/gone", "/links/missing", "/links/gone"])
async def test_no_cache_keeps_what_a_link_says_of_itself(shortener, path):
    clock = ManualClock(1_700_000_000)
    async with shortener(clock=clock) as (client, _):
        await make(client, "gone", expires_at="2023-11-14T22:13:25Z")
        await clock.advance(5)
        answer = await client.get(path)
        assert answer.status_code in (200, 404, 410)
        assert answer.headers["cache-control"] == KEPT_BY_NOBODY


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Sec-Purpose": "prefetch;anonymous-client-ip"},
        {"Purpose": "prefetch"},
        {"X-Purpose": "preview"},
        {"X-Moz": "prefetch"},
    ],
    ids=str,
)
async def test_a_request_in_advance_is_refused_and_uses_up_no_click(shortener, headers):
    async with shortener() as (client, _):
        await make(client, max_clicks=1)
        refused = await client.get("/s/a", headers=headers)
        assert refused.status_code == 503
        assert refused.headers["cache-control"] == KEPT_BY_NOBODY
        assert (await client.get("/links/a")).json()["clicks"] == 0
        assert (await client.get("/s/a")).status_code == 302


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_slash_behind_the_code_changes_nothing(shortener, method):
    async with shortener() as (client, _):
        await make(client)
        followed = await client.request(method, "/s/a/")
        assert (followed.status_code, followed.headers["location"]) == (302, "https://a.example")
        assert (await client.request(method, "/s/missing/")).status_code == 404


async def test_a_query_is_left_out_by_default(shortener):
    async with shortener() as (client, _):
        await make(client, url="https://a.example/x?y=1")
        assert (await client.get("/s/a?z=2")).headers["location"] == "https://a.example/x?y=1"


@pytest.mark.parametrize("settings", [{}, {"count": "in_background"}])
async def test_a_query_is_handed_on_if_the_settings_say_so(shortener, settings):
    async with shortener({"forward_query": True, **settings}) as (client, _):
        await make(client, url="https://a.example/x?y=1#part")
        assert (await client.get("/s/a?z=2&z=3&q=%20b+c")).headers["location"] == (
            "https://a.example/x?y=1&z=2&z=3&q=%20b+c#part"
        )
        assert (await client.get("/s/a")).headers["location"] == "https://a.example/x?y=1#part"
        repeated = await client.get("/s/a?z=2", headers={"Idempotency-Key": "click 1"})
        assert repeated.headers["location"] == "https://a.example/x?y=1&z=2#part"


@pytest.mark.parametrize(
    "url, query, whole",
    [
        ("https://a.example", "b=1", "https://a.example?b=1"),
        ("https://a.example/?", "b=1", "https://a.example/?b=1"),
        ("https://a.example/?a=1&", "b=1", "https://a.example/?a=1&b=1"),
        ("https://a.example/#?x", "b=1", "https://a.example/?b=1#?x"),
        ("https://a.example/", "b=\r\nSet-Cookie: x", "https://a.example/?b=%0D%0ASet-Cookie:%20x"),
        ("https://a.example/", 'b="<#\\>', "https://a.example/?b=%22%3C%23%5C%3E"),
        ("https://a.example/", "\u00c3\u00a9=%C3%A9", "https://a.example/?%C3%A9=%C3%A9"),
        ("https://a.example/", "\u4f60", "https://a.example/??"),
    ],
)
def test_a_query_stands_between_the_targets_own_and_its_fragment(url, query, whole):
    assert with_query(url, query) == whole


NOW = "2023-11-14T22:13:20Z"


@pytest.mark.parametrize("time", [NOW, "2023-11-14T22:13:19Z", "1970-01-01T00:00:00Z", "2023-11-14T23:13:20+01:00"])
async def test_a_link_that_would_be_over_already_is_refused(shortener, time):
    async with shortener(clock=ManualClock(1_700_000_000)) as (client, bus):
        await make(client)
        link = {"url": "https://b.example", "expires_at": time}
        for refused in (
            await client.post("/links", json=link),
            await client.post("/links", json=link, headers={"Idempotency-Key": "k"}),
            await client.put("/links/a", json=link),
        ):
            assert refused.status_code == 400
            assert "is over" in refused.json()["error"]
        imported = await bus.trigger("link::import", {"links": [link]})
        assert imported["skipped"] == 1
        assert "is over" in imported["problems"][0]["error"]
        assert (await client.get("/s/a")).headers["location"] == "https://a.example"


@pytest.mark.parametrize("store", ["database", "memory"])
async def test_a_repeated_create_is_answered_also_when_its_link_is_over(shortener, store):
    clock = ManualClock(1_700_000_000)
    link = {"url": "https://a.example", "expires_at": "2023-11-14T22:13:25Z"}
    async with shortener({"store": store}, clock=clock) as (client, _):
        made = await client.post("/links", json=link, headers={"Idempotency-Key": "k"})
        await clock.advance(60)
        again = await client.post("/links", json=link, headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.json()) == (201, made.json())
        other = await client.post("/links", json={**link, "url": "https://b.example"}, headers={"Idempotency-Key": "k"})
        assert other.status_code == 422


@pytest.mark.parametrize("store", ["database", "memory"])
async def test_a_code_is_found_in_any_case_if_the_settings_say_so(shortener, store):
    async with shortener({"case_sensitive": False, "store": store}) as (client, bus):
        assert (await make(client, "Promo"))["code"] == "promo"
        for code in ("promo", "PROMO", "Promo"):
            assert (await client.get(f"/s/{code}")).status_code == 302
            assert (await bus.trigger("link::resolve", {"code": code})) == {"url": "https://a.example"}
        taken = await client.post("/links", json={"url": "https://b.example", "code": "PROMO"})
        assert taken.status_code == 409
        changed = await client.put("/links/PROMO", json={"url": "https://b.example"})
        assert changed.json() == {"code": "promo", "url": "https://b.example"}
        assert (await client.get("/s/Promo")).headers["location"] == "https://b.example"
        assert (await client.get("/links/pROMO/stats")).json()["total"] == 4
        assert await bus.trigger("link::record_click", {"code": "PROMO"}) == {"recorded": True}
        assert (await client.delete("/links/PROMO")).status_code == 204
        assert (await client.get("/s/promo")).status_code == 404


async def test_case_counts_by_default(shortener):
    async with shortener() as (client, _):
        await make(client, "Ab")
        assert (await client.get("/s/ab")).status_code == 404
        await make(client, "ab", "https://b.example")
        assert (await client.get("/s/Ab")).headers["location"] == "https://a.example"


async def test_a_link_of_a_time_when_case_counted_stays_itself(shortener):
    async with shortener() as (client, _):
        await make(client, "Ab")
        await client.get("/s/Ab")
    async with shortener({"case_sensitive": False}) as (client, _):
        assert (await client.get("/s/aB")).headers["location"] == "https://a.example"
        shown = (await client.get("/links/ab")).json()
        assert (shown["code"], shown["clicks"]) == ("Ab", 2)
        assert (await client.post("/links", json={"url": "https://b.example", "code": "ab"})).status_code == 409


@pytest.mark.parametrize("codes", [("Ab", "ab"), ("AB", "Ab")])
async def test_two_links_whose_codes_differ_in_case_only_do_not_become_one(shortener, codes):
    async with shortener() as (client, _):
        for code in codes:
            await make(client, code)
    with pytest.raises(ConfigError, match="case_sensitive") as refusal:
        async with shortener({"case_sensitive": False}):
            pass
    assert all(f"`{code}`" in refusal.value.message for code in codes)
