"""Links are counted exactly, and without refusals, whatever isolation a server gives those who ask for none."""

import asyncio
import collections
import contextlib

import pytest

from linkly_workers.link.outcome import Outcome
from linkly_workers.link.stores.sql.store import SqlStore
from linkly_workers.link.stores.store import Changes, Click, Made, NewLink
from support import mariadb_server, postgres_server
from support.link_databases import running_database

NOW = "2026-01-02T00:00:00.000Z"
SERVERS = {
    "postgres": (postgres_server, "default_transaction_isolation={}"),
    "mariadb": (mariadb_server, "transaction-isolation={}"),
}
LEVELS = {"postgres": ("repeatable read", "serializable"), "mariadb": ("READ-COMMITTED", "SERIALIZABLE")}


@pytest.fixture(
    scope="module",
    params=[(kind, level) for kind, levels in LEVELS.items() for level in levels],
    ids=lambda param: "-".join(param).replace(" ", "-").lower(),
)
def strict_url(request):
    """Return the url of a server whose transactions have another isolation than a new server's."""
    kind, level = request.param
    server, setting = SERVERS[kind]
    if (server.binaries() if kind == "postgres" else server.program()) is None:
        pytest.skip(server.MISSING)
    with server.running_server(setting.format(level)) as running:
        yield running.url


@contextlib.asynccontextmanager
async def two_stores(url, *links):
    async with running_database(url, NOW) as first, running_database(url, NOW) as second:
        stores = [SqlStore(bus.trigger, "primary") for bus in (first, second)]
        for store in stores:
            await store.open()
        for each in links:
            await stores[0].insert(each)
        yield stores
        for each in links:
            await stores[0].delete(each.code)


def link(code, **more):
    return NewLink(code, f"https://{code}.example", NOW, **more)


async def test_clicks_under_contention_are_counted_and_none_is_refused(strict_url):
    links = [link("hot"), link("warm"), link("limited", max_clicks=20)]
    async with two_stores(strict_url, *links) as stores:

        async def clicks(store):
            for number in range(10):
                batch = [Click("hot", NOW)] * 20 + [Click("warm", NOW, f"same-{number}")] + [Click("limited", NOW)] * 2
                for counted in await asyncio.gather(*(store.count(each, NOW) for each in batch)):
                    found[counted.link.code, counted.outcome] += 1

        found = collections.Counter()
        await asyncio.gather(*(clicks(store) for store in stores))
        assert found == {
            ("hot", Outcome.COUNTED): 400,
            ("warm", Outcome.COUNTED): 10,
            ("warm", Outcome.REPEATED): 10,
            ("limited", Outcome.COUNTED): 20,
            ("limited", Outcome.EXHAUSTED): 20,
        }
        proof = await stores[0].verify()
        assert (proof.ok, proof.rows) == (True, 430)


async def test_links_are_made_changed_and_deleted_while_they_are_counted(strict_url):
    async with two_stores(strict_url, link("hot")) as stores:

        async def changes(store, name):
            for number in range(20):
                await store.update("hot", Changes(url=f"https://{name}-{number}.example"))
                made = await store.insert_many([link(f"{name}-{number}"), link(f"both-{number}")])
                assert made[0]
                assert isinstance(await store.insert(link(f"{name}-{number}-alone")), Made)
                await store.delete(f"both-{number}")

        async def clicks(store):
            for _ in range(20):
                answers = await asyncio.gather(*(store.count(Click("hot", NOW), NOW) for _ in range(10)))
                assert {each.outcome for each in answers} == {Outcome.COUNTED}

        await asyncio.gather(*(changes(store, f"n{at}") for at, store in enumerate(stores)), *map(clicks, stores))
        assert (await stores[0].find("hot")).clicks == 400
        assert (await stores[0].verify()).ok
