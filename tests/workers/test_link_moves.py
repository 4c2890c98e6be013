"""Links move from one kind of database to another by `database::copy`, and go on there."""

import pytest

from linkly.schema import read_settings
from linkly.testing import running_engine
from linkly_workers.database import DatabaseSettings, DatabaseWorker
from linkly_workers.link.outcome import Outcome
from linkly_workers.link.stores.sql.store import SqlStore
from linkly_workers.link.stores.store import Click, Idempotency, Made, NewLink
from support.link_databases import KINDS, plain_url_of

NOW = "2026-01-02T00:00:00.000Z"
LATER = "2126-01-02T00:00:00.000Z"


@pytest.fixture(
    params=[(old, new) for old in ("sqlite", "postgres") for new in KINDS if old != new],
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
