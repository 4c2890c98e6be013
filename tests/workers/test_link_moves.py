"""Links move from one kind of database to another by `database::copy`, and go on there."""

import httpx
import pytest

from linkly.schema import read_settings
from linkly.testing import running_engine, settle
from linkly_workers.database import DatabaseSettings, DatabaseWorker
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.link import LinkSettings, LinkWorker
from linkly_workers.link.outcome import Outcome
from linkly_workers.link.stores.sql.store import SqlStore
from linkly_workers.link.stores.store import Click, Idempotency, Made, NewLink
from linkly_workers.state import StateWorker
from support.link_databases import KINDS, plain_url_of

NOW = "2026-01-02T00:00:00.000Z"
LATER = "2126-01-02T00:00:00.000Z"


@pytest.fixture(
    params=[(old, new) for old in KINDS for new in KINDS if old != new],
    ids="-".join,
)
def urls(request):
    """Return the urls of two empty databases of different kinds."""
    return [plain_url_of(kind, request) for kind in request.param]


async def test_links_go_on_where_they_are_copied_to(urls):
    databases = {name: {"url": url} for name, url in zip(("old", "new"), urls, strict=True)}
    worker = DatabaseWorker(read_settings(DatabaseSettings, {"databases": databases}, "$"))
    async with running_engine(worker) as bus:
        old, new = (SqlStore(bus.trigger, name) for name in databases)
        await old.open()
        secret = await old.secret()
        key = Idempotency("key", "digest", NOW)
        kept = NewLink("kept", "https://kept.example/\u00e9", NOW, LATER, 3)
        await old.insert(kept, key)
        await old.insert(NewLink("free", "https://free.example", NOW))
        clicks = [Click("kept", NOW, "one", "v", "r.example", bot=True), *[Click("free", NOW)] * 5]
        for click in clicks:
            assert (await old.count(click, NOW)).outcome is Outcome.COUNTED
        await bus.trigger("database::copy", {"from": "old", "to": "new"})

        for _ in range(2):
            await new.open()
        assert await new.secret() == secret
        for code in ("kept", "free"):
            assert await new.find(code) == await old.find(code)
            assert await new.stats(code, "2026-01-01") == await old.stats(code, "2026-01-01")
        assert await new.insert(kept, key) == Made(kept, repeated=True)
        for click in clicks[1:]:
            assert (await new.count(click, NOW)).outcome is Outcome.COUNTED
        answer = await new.count(clicks[0], NOW)
        assert answer.outcome.is_counted
        assert answer.link.clicks == 1
        assert [(await new.count(Click("kept", NOW, name), NOW)).outcome for name in ("two", "three", "four")] == [
            Outcome.COUNTED,
            Outcome.COUNTED,
            Outcome.EXHAUSTED,
        ]
        proof = await new.verify()
        assert (proof.ok, proof.rows) == (True, 1 + 5 + 5 + 2)
        assert await new.delete("kept")


async def test_a_redirect_goes_through_the_database_that_links_were_copied_to(urls):
    databases = {name: {"url": url} for name, url in zip(("old", "new"), urls, strict=True)}
    for db in databases:
        gateway = HttpWorker(read_settings(HttpSettings, {"port": 0}, "$"))
        database = DatabaseWorker(read_settings(DatabaseSettings, {"databases": databases}, "$"))
        link = LinkWorker(read_settings(LinkSettings, {"db": db}, "$"))
        async with running_engine(StateWorker(), database, gateway, link) as bus, httpx.AsyncClient() as client:
            await settle()
            if db == "old":
                await bus.trigger("link::create", {"url": "https://a.example", "code": "Abc"})
            answer = await client.get(f"{gateway.url}/s/Abc", headers={"Idempotency-Key": "one"})
            assert (answer.status_code, answer.headers["location"]) == (302, "https://a.example")
            assert (await client.get(f"{gateway.url}/s/Abc")).status_code == 302
            assert (await client.get(f"{gateway.url}/s/abc")).status_code == 404
            proof = await bus.trigger("link::verify", {})
            assert (proof["ok"], proof["rows"]) == (True, 2 if db == "old" else 3)
            if db == "old":
                await bus.trigger("database::copy", {"from": "old", "to": "new"})
