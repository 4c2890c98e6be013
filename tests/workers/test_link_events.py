"""A link and its event are one commit: `link.created` and `link.updated` on durable topics."""

import asyncio
import contextlib

import pytest

from linkly import Worker, durable_subscriber, function
from linkly.errors import ConfigError, LinklyError, NotFound
from linkly.schema import read_settings
from linkly_workers.link import LinkSettings, LinkWorker
from linkly_workers.link.stores.sql.store import SqlStore
from linkly_workers.link.stores.store import Changes
from linkly_workers.state import StateWorker
from support.database_calls import database_worker, until
from support.queue_workers import queue_worker, states

A = {"code": "a", "url": "https://a.example"}


class Listener(Worker):
    """Notes what becomes of links."""

    name = "listener"

    def __init__(self):
        super().__init__()
        self.heard = []

    @function("listener::created", triggers=[durable_subscriber("link.created")])
    async def created(self, link: dict) -> None:
        self.heard.append(("created", link))

    @function("listener::updated", triggers=[durable_subscriber("link.updated")])
    async def updated(self, link: dict) -> None:
        self.heard.append(("updated", link))


@pytest.fixture(params=["sqlite", "postgres"])
def published(request, run, tmp_path):
    """Return what runs links with events; yields the bus, and what gives the events when all have been handled."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:{tmp_path}/links.db"

    @contextlib.asynccontextmanager
    async def start(*, queue=None, **settings):
        listener = Listener()
        link = LinkWorker(read_settings(LinkSettings, {"events": "durable", **settings}, "$"))
        workers = (StateWorker(), database_worker(url), queue_worker(**queue or {}), listener, link)
        async with run(*workers) as bus:

            async def heard():
                async def is_empty():
                    return set(await states(bus)) <= {"done"}

                await until(is_empty)
                return listener.heard

            yield bus, heard

    return start


async def test_a_new_link_and_a_change_are_heard_of(published):
    async with published() as (bus, heard):
        await bus.trigger("link::create", A)
        assert await heard() == [("created", A)]
        changed = {**A, "url": "https://b.example", "max_clicks": 3}
        assert await bus.trigger("link::update", changed) == changed
        assert (await heard())[1:] == [("updated", changed)]
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": "https://b.example", "max_clicks": 3}


async def test_what_does_not_happen_is_not_heard_of(published):
    async with published() as (bus, heard):
        await bus.trigger("link::create", {**A, "idempotency_key": "k"})
        for refused in (A, {**A, "idempotency_key": "other"}):
            with pytest.raises(LinklyError) as failure:
                await bus.trigger("link::create", refused)
            assert failure.value.code == "CODE_TAKEN"
        assert (
            await bus.trigger("link::create", {**A, "idempotency_key": "k"}) == A
        )  # again, because an answer got lost
        with pytest.raises(NotFound):
            await bus.trigger("link::update", {"code": "b", "url": "https://b.example"})
        assert await heard() == [("created", A)]


async def test_of_an_import_every_new_link_is_heard_of(published):
    async with published() as (bus, heard):
        await bus.trigger("link::create", A)
        links = [{"url": f"https://{code}.example", "code": code} for code in "abc"]
        assert (await bus.trigger("link::import", {"links": links}))["imported"] == 2
        assert sorted(link["code"] for _, link in await heard()) == ["a", "b", "c"]


async def test_an_event_says_what_the_link_is_after_changes_at_the_same_time(published):
    async with published(queue={"subscriptions": {"type": "fifo"}}) as (bus, heard):
        await bus.trigger("link::create", A)
        await asyncio.gather(
            *(bus.trigger("link::update", {"code": "a", "url": f"https://{n}.example"}) for n in range(5)),
            *(bus.trigger("link::update", {"code": "a", "max_clicks": n}) for n in range(1, 6)),
        )
        updated = [link for kind, link in await heard() if kind == "updated"]
        assert len(updated) == 10
        [link] = (await bus.trigger("link::list", {}))["links"]
        assert updated[-1] == {name: link[name] for name in ("code", "url", "max_clicks")}


async def test_a_link_that_somebody_else_changes_meanwhile_is_read_again(published):
    async with published() as (bus, heard):
        await bus.trigger("link::create", A)
        others = ["UPDATE links SET max_clicks = 7"]

        async def trigger(function_id, payload, **more):
            answer = await bus.trigger(function_id, payload, **more)
            if function_id == "database::query" and others:  # the link has been read
                await bus.trigger("database::execute", {"sql": others.pop()})
            return answer

        store = SqlStore(trigger, "primary", publishes=True)
        assert (await store.update("a", Changes(url="https://b.example"))).max_clicks == 7
        assert (await heard())[1:] == [("updated", {"code": "a", "url": "https://b.example", "max_clicks": 7})]


async def test_a_change_leaves_the_cache_of_other_links_alone(published):
    async with published() as (bus, _):
        for code in "ab":
            await bus.trigger("link::create", {"url": f"https://{code}.example", "code": code})
        await bus.trigger("link::update", {"code": "a", "url": "https://c.example"})
        assert await bus.trigger("state::get", {"scope": "links", "key": "b"})
        assert (await bus.trigger("state::get", {"scope": "links", "key": "a"}))["url"] == "https://c.example"


async def test_a_subscription_without_room_keeps_the_link_as_it_is(published):
    async with published(queue={"subscriptions": {"max_jobs": 1, "concurrency": 0}}) as (bus, _):
        await bus.trigger("link::create", A)
        await bus.trigger("link::update", {"code": "a", "url": "https://b.example"})
        with pytest.raises(LinklyError, match="was not accepted"):
            await bus.trigger("link::update", {"code": "a", "url": "https://c.example"})
        assert (await bus.trigger("link::resolve", {"code": "a"}))["url"] == "https://b.example"


async def test_links_in_another_database_than_the_queue_are_refused_by_the_setting(run, tmp_path):
    databases = {name: {"url": f"sqlite:{tmp_path}/{name}.db"} for name in ("primary", "other")}
    database = type(database_worker("sqlite::memory:")).from_config({"databases": databases})
    link = LinkWorker(read_settings(LinkSettings, {"events": "durable", "db": "other"}, "$"))
    with pytest.raises(ConfigError, match=r"in database `other`, the jobs of queue in `primary`; set the same `db`"):
        async with run(StateWorker(), database, queue_worker(), link):
            pass


def test_links_in_memory_have_no_durable_events():
    with pytest.raises(ConfigError, match="`store: database`"):
        LinkWorker(read_settings(LinkSettings, {"events": "durable", "store": "memory"}, "$"))
