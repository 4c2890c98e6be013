"""One suite over all stores of links: memory, SQLite, PostgreSQL and MariaDB."""

import asyncio

import msgspec
import pytest

from linkly import Worker, function
from linkly.errors import ConfigError
from linkly.testing import running_engine
from linkly_workers._scripts import dialect
from linkly_workers.link.outcome import Counted, Outcome
from linkly_workers.link.shapes import DayCount, LinkDetails, Mismatch, ReferrerCount
from linkly_workers.link.stores.memory import MemoryStore
from linkly_workers.link.stores.sql.store import LINKS, SqlStore
from linkly_workers.link.stores.store import Changes, Click, CodeTaken, Idempotency, KeyReused, Made, NewLink
from support.link_databases import KINDS, running_database, store_on, url_of

NOW = "2026-01-02T00:00:00.000Z"
EARLIER, LATER = "2026-01-01T00:00:00.000Z", "2026-01-03T00:00:00.000Z"


@pytest.fixture(params=KINDS)
def url(request):
    """Return the url of an empty database of each kind."""
    return url_of(request.param, request)


@pytest.fixture(params=[None, *KINDS], ids=["memory", *KINDS])
def place(request):
    """Return where links are kept: the url of an empty database, `None` for memory."""
    return None if request.param is None else url_of(request.param, request)


@pytest.fixture
async def store(place):
    if place is None:
        yield MemoryStore()
        return
    async with running_database(place) as bus:
        made = store_on(place, bus.trigger)
        await made.open()
        yield made


async def outcome(store, click, now=NOW):
    return (await store.count(click, now)).outcome


def link(code="a", url="https://a.example", **more):
    return NewLink(code, url, more.pop("created_at", NOW), **more)


def click(click_id, code="a", **more):
    return Click(code, more.pop("clicked_at", NOW), click_id, **more)


async def test_a_new_link_is_found_and_starts_at_zero(store):
    assert await store.insert(link()) == Made(link(), repeated=False)
    assert await store.find("a") == LinkDetails("a", "https://a.example", NOW, 0, None, None)
    assert await store.find("b") is None


async def test_opening_again_changes_nothing(store):
    await store.insert(link())
    await store.count(click("1"), NOW)
    secret = await store.secret()
    await store.open()
    assert (await store.find("a")).clicks == 1
    assert await store.secret() == secret
    assert len(secret) == 32


async def test_the_race_for_one_code_has_one_winner(store):
    wanted = [link(url=f"https://a.example/{number}") for number in range(10)]
    answers = await asyncio.gather(*(store.insert(each) for each in wanted), return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, Made)]
    assert len(won) == 1
    assert all(isinstance(answer, CodeTaken) for answer in answers if answer is not won[0])
    assert (await store.find("a")).url == won[0].link.url


async def test_a_repeated_key_answers_the_first_link(store):
    key = Idempotency("k", "digest", EARLIER)
    assert await store.insert(link("a"), key) == Made(link("a"), repeated=False)
    assert await store.insert(link("b"), key) == Made(link("a"), repeated=True)
    assert await store.find("b") is None
    with pytest.raises(KeyReused):
        await store.insert(link("c"), Idempotency("k", "another digest", EARLIER))
    assert await store.find("c") is None


async def test_a_key_whose_code_was_taken_is_free_again(store):
    await store.insert(link("a"))
    key = Idempotency("k", "digest", EARLIER)
    with pytest.raises(CodeTaken):
        await store.insert(link("a"), key)
    assert await store.insert(link("b"), key) == Made(link("b"), repeated=False)


async def test_an_old_key_is_forgotten(store):
    await store.insert(link("a", created_at=EARLIER), Idempotency("k", "digest", EARLIER))
    assert not (await store.insert(link("b"), Idempotency("k", "another digest", NOW))).repeated


@pytest.mark.parametrize("digest", ["digest", "another digest"])
async def test_an_old_key_is_forgotten_also_when_the_code_is_taken(store, digest):
    await store.insert(link("a", created_at=EARLIER), Idempotency("k", "digest", EARLIER))
    with pytest.raises(CodeTaken):
        await store.insert(link("a"), Idempotency("k", digest, NOW))


async def test_the_key_of_a_deleted_link_makes_a_new_one(store):
    key, other = Idempotency("k", "digest", EARLIER), Idempotency("other", "digest", EARLIER)
    await store.insert(link("a"), key)
    await store.insert(link("b"), other)
    await store.delete("a")
    assert await store.insert(link("a"), key) == Made(link("a"), repeated=False)
    assert await store.insert(link("a"), key) == Made(link("a"), repeated=True)
    assert await store.insert(link("b"), other) == Made(link("b"), repeated=True)
    await store.delete("b")
    assert not (await store.insert(link("c"), Idempotency("new", "digest", LATER))).repeated


async def test_concurrent_requests_with_one_key_make_one_link(store):
    key = Idempotency("k", "digest", EARLIER)
    answers = await asyncio.gather(*(store.insert(link(f"c{number}"), key) for number in range(10)))
    assert len({answer.link.code for answer in answers}) == 1
    assert [answer.repeated for answer in answers].count(False) == 1
    assert len(await store.listing(None, 100)) == 1


@pytest.mark.parametrize("click_id", ["1", None])
async def test_every_click_is_answered_with_its_link(store, click_id):
    await store.insert(link(expires_at=LATER, max_clicks=1))
    await store.insert(link("free"))
    counted = LinkDetails("a", "https://a.example", NOW, 1, LATER, 1)
    free = LinkDetails("free", "https://a.example", NOW, 1, None, None)
    assert await store.count(click(click_id, "free"), NOW) == Counted(Outcome.COUNTED, free)
    assert await store.count(click(click_id), NOW) == Counted(Outcome.COUNTED, counted)
    again = Outcome.EXHAUSTED if click_id is None else Outcome.REPEATED
    assert await store.count(click(click_id), NOW) == Counted(again, counted)
    assert await store.count(click("2"), NOW) == Counted(Outcome.EXHAUSTED, counted)
    assert await store.count(click("2"), LATER) == Counted(Outcome.EXPIRED, counted)
    assert await store.count(click("2", "b"), NOW) == Counted(Outcome.NOT_FOUND)


async def test_clicks_are_counted_once_for_each_id(store):
    await store.insert(link())
    assert await outcome(store, click("1")) is Outcome.COUNTED
    assert await outcome(store, click("2")) is Outcome.COUNTED
    assert await outcome(store, click("1")) is Outcome.REPEATED
    assert (await store.find("a")).clicks == 2
    assert (await store.verify()).rows == 2


async def test_one_id_counts_for_each_code(store):
    await store.insert(link("a"))
    await store.insert(link("b"))
    assert await outcome(store, click("1", "a")) is Outcome.COUNTED
    assert await outcome(store, click("1", "b")) is Outcome.COUNTED


async def test_an_unknown_code_is_never_counted(store):
    assert await outcome(store, click("1")) is Outcome.NOT_FOUND
    assert (await store.verify()).rows == 0


async def test_an_expired_link_counts_nothing_but_remembers_what_was_counted(store):
    await store.insert(link(expires_at=NOW))
    assert await outcome(store, click("1"), EARLIER) is Outcome.COUNTED
    assert await outcome(store, click("2")) is Outcome.EXPIRED
    late = await outcome(store, click("1"))
    assert late is Outcome.REPEATED_LATE
    assert (late.is_counted, late.may_redirect) == (True, False)
    assert (await store.find("a")).clicks == 1


@pytest.mark.parametrize("max_clicks", [1, 2])
async def test_a_click_of_a_limited_link_is_repeated_for_a_minute_only(store, max_clicks):
    await store.insert(link(max_clicks=max_clicks))
    assert await outcome(store, click("1")) is Outcome.COUNTED
    assert await outcome(store, click("1"), "2026-01-02T00:01:00.000Z") is Outcome.REPEATED
    assert await outcome(store, click("1"), "2026-01-02T00:01:00.001Z") is Outcome.REPEATED_LATE
    assert (await store.find("a")).clicks == 1


async def test_a_click_of_a_link_without_limits_is_repeated_at_any_time(store):
    await store.insert(link(expires_at="2027-01-01T00:00:00.000Z"))
    assert await outcome(store, click("1")) is Outcome.COUNTED
    assert await outcome(store, click("1"), "2026-12-31T00:00:00.000Z") is Outcome.REPEATED


@pytest.mark.parametrize("named", [True, False])
async def test_concurrent_clicks_never_pass_the_limit(store, named):
    await store.insert(link(max_clicks=5))
    clicks = [click(str(number) if named else None) for number in range(20)]
    outcomes = await asyncio.gather(*(outcome(store, each) for each in clicks))
    assert outcomes.count(Outcome.COUNTED) == 5
    assert outcomes.count(Outcome.EXHAUSTED) == 15
    assert (await store.verify()).ok


async def test_a_click_that_was_accepted_counts_whatever_the_limits_say_now(store):
    await store.insert(link(expires_at=NOW))
    await store.insert(link("b", max_clicks=1))
    for code in ("a", "b"):
        for name in ("1", "2"):
            assert await outcome(store, click(name, code, accepted=True)) is Outcome.COUNTED
        assert (await outcome(store, click("2", code, accepted=True))).is_counted  # of before
        assert (await store.find(code)).clicks == 2
    assert await outcome(store, click("1", "unknown", accepted=True)) is Outcome.NOT_FOUND
    assert (await store.verify()).ok


async def test_concurrent_clicks_with_one_id_count_once(store):
    await store.insert(link())
    outcomes = await asyncio.gather(*(outcome(store, click("same")) for _ in range(20)))
    assert outcomes.count(Outcome.COUNTED) == 1
    assert outcomes.count(Outcome.REPEATED) == 19
    assert (await store.find("a")).clicks == 1


async def test_an_update_changes_what_is_given_and_nothing_else(store):
    await store.insert(link(expires_at=LATER, max_clicks=3))
    await store.count(click("1"), NOW)
    changed = await store.update("a", Changes(url="https://b.example"))
    assert changed == LinkDetails("a", "https://b.example", NOW, 1, LATER, 3)
    assert await store.update("a", Changes(expires_at=None, max_clicks=None)) == msgspec.structs.replace(
        changed, expires_at=None, max_clicks=None
    )
    assert await store.update("a", Changes()) == await store.find("a")
    assert await store.update("b", Changes(url="https://b.example")) is None


async def test_a_deleted_link_takes_its_clicks_along_and_starts_anew(store):
    await store.insert(link())
    await store.count(click("1"), NOW)
    assert await store.delete("a") is True
    assert await store.delete("a") is False
    assert await store.find("a") is None
    assert (await store.verify()).rows == 0
    await store.insert(link())
    assert (await store.find("a")).clicks == 0
    assert await outcome(store, click("1")) is Outcome.COUNTED


async def test_a_listing_goes_from_new_to_old_without_gap_or_repetition(store):
    for number in range(7):
        await store.insert(link(f"c{number}", created_at=f"2026-01-0{1 + number // 2}T00:00:00.000Z"))
    seen, after = [], None
    while part := await store.listing(after, 3):
        seen += [each.code for each in part]
        after = (part[-1].created_at, part[-1].code)
    assert seen == ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]


async def test_many_links_are_inserted_at_once_and_taken_codes_are_told(store):
    await store.insert(link("b"))
    assert await store.insert_many([link("a"), link("b", "https://other.example"), link("c"), link("a")]) == [
        True,
        False,
        True,
        False,
    ]
    assert (await store.find("b")).url == "https://a.example"


async def test_statistics_count_people_and_bots_apart(store):
    await store.insert(link())
    for number, (day, visitor, referrer, bot) in enumerate(
        [
            ("2025-12-30", "x", "one.example", False),
            ("2026-01-01", "x", "one.example", False),
            ("2026-01-01", "y", None, False),
            ("2026-01-02", "z", "two.example", False),
            ("2026-01-02", "robot", "two.example", True),
        ]
    ):
        made = click(str(number), clicked_at=f"{day}T10:00:00.000Z", visitor=visitor, referrer=referrer, bot=bot)
        assert await outcome(store, made) is Outcome.COUNTED
    stats = await store.stats("a", "2026-01-01")
    assert (stats.total, stats.unique, stats.bots) == (4, 3, 1)
    assert stats.by_day == [DayCount("2026-01-01", 2), DayCount("2026-01-02", 1)]
    assert stats.by_referrer == [
        ReferrerCount("one.example", 2),
        ReferrerCount(None, 1),
        ReferrerCount("two.example", 1),
    ]
    assert (await store.find("a")).clicks == 5
    assert await store.stats("b", "2026-01-01") is None


async def test_a_link_that_nobody_followed_has_empty_statistics(store):
    await store.insert(link())
    stats = await store.stats("a", EARLIER[:10])
    assert (stats.total, stats.unique, stats.bots, stats.by_day, stats.by_referrer) == (0, 0, 0, [], [])


async def test_verification_agrees_where_all_is_counted(store):
    await store.insert(link("a"))
    await store.insert(link("b"))
    await store.count(click("1", "a"), NOW)
    proof = await store.verify()
    assert (proof.ok, proof.links, proof.counted, proof.rows, proof.mismatches) == (True, 2, 1, 1, [])


async def test_verification_finds_a_counter_that_is_wrong(url):
    async with running_database(url) as bus:
        store = store_on(url, bus.trigger)
        await store.open()
        await store.insert(link("b"))
        for sql in (
            "UPDATE links SET clicks = 7 WHERE code = 'b'",
            "INSERT INTO clicks (code, clicked_at) VALUES ('gone', '2026')",
        ):
            await bus.trigger("database::execute", {"sql": sql})
        proof = await store.verify()
        assert not proof.ok
        assert proof.mismatches == [Mismatch("b", 7, 0), Mismatch("gone", None, 1)]


async def test_a_database_of_a_kind_without_sql_for_links_is_refused_by_name():
    class Oracle(Worker):
        name = "database"

        @function("database::listDatabases")
        async def list_databases(self) -> dict:
            return {"databases": [{"name": "primary", "driver": "oracle"}]}

    async with running_engine(Oracle()) as bus:
        with pytest.raises(ConfigError, match="kind `oracle`; kinds: mysql, postgres, sqlite"):
            await SqlStore(bus.trigger, "primary").open()
        with pytest.raises(ConfigError, match="no database `other`; configured: primary"):
            await SqlStore(bus.trigger, "other").open()


def migrations(kind):
    return [name for name in dialect(LINKS.package, kind) if "." in name]


def test_there_are_as_many_migrations_as_the_tests_know():
    assert len(migrations("sqlite")) == 7
    assert len([name for name in migrations("postgres") if not name.startswith("indexes.")]) == 12


@pytest.mark.parametrize("name", migrations("sqlite"))
async def test_a_column_that_an_old_table_lacks_is_added_whichever_it_is(name, url):
    async with running_database(url) as bus:
        store = store_on(url, bus.trigger)
        await store.open()
        table, column = name.split(".")
        drop_index = f"DROP INDEX clicks_by_given_id{' ON clicks' if url.startswith('mysql') else ''}"
        for sql in (drop_index, f"ALTER TABLE {table} DROP COLUMN {column}"):
            await bus.trigger("database::execute", {"sql": sql})
        await store.open()
        await store.insert(link())
        assert await outcome(store, click("1")) is Outcome.COUNTED
        assert await outcome(store, click("1")) is Outcome.REPEATED
