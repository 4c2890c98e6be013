"""Links move from SQLite to PostgreSQL, and the engine that copies them is killed meanwhile."""

import asyncio
import os
import subprocess
import sys

import pytest

from linkly import Client, LinklyError
from support.engine_process import EngineProcess
from support.postgres_server import connected, own_schema, server_url
from support.program import WAIT_S

LINKS, CLICKS, KEYS = 100, 10_000, 200
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {} - 1) ".format
FILL = [
    NUMBERS(LINKS) + f"INSERT INTO links (code, url, created_at, clicks) SELECT 'c' || i, 'https://example.com/' || i, "
    f"'2026-01-01T00:00:00.000Z', {CLICKS // LINKS} FROM n",
    NUMBERS(CLICKS) + f"INSERT INTO clicks (code, clicked_at, click_id, referrer, bot) SELECT 'c' || (i % {LINKS}), "
    "'2026-01-02T00:00:00.000Z', CASE WHEN i % 3 = 0 THEN 'id' || i END, 'https://a.example/ü', i % 2 FROM n",
    NUMBERS(KEYS) + "INSERT INTO link_keys (idempotency_key, request, code, url, created_at) "
    f"SELECT 'K' || i, '{{}}', 'c' || (i % {LINKS}), 'https://example.com/', '2026-01-01T00:00:00.000Z' FROM n",
]
TABLES = {"links": "code", "clicks": "id", "link_keys": "idempotency_key", "link_settings": "name"}


@pytest.fixture(scope="module")
def server():
    with server_url() as url:
        yield url


@pytest.fixture
async def engine(server, tmp_path):
    async with own_schema(server, f"copy_{os.urandom(6).hex()}") as url:
        engine = EngineProcess(tmp_path)
        engine.new_url = url
        yield engine
        engine.kill()


WAITING = "SELECT count(*) FROM pg_locks WHERE relation = 'clicks'::regclass AND NOT granted"


def config(engine, db):
    (engine.folder / "config.yaml").write_text(
        "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n  - name: state\n"
        f"  - name: database\n    config: {{databases: {{old: {{url: 'sqlite:./old.db'}}, "
        f"new: {{url: '{engine.new_url}'}}}}}}\n"
        "  - name: http\n    config: {port: 0}\n"
        f"  - name: link\n    config: {{db: {db}}}\n"
    )


async def filled(engine):
    """Start an engine whose links are in `old`, and make some."""
    config(engine, "old")
    engine.start()
    async with Client(engine.url) as client:
        for sql in FILL:
            await client.trigger("database::execute", {"db": "old", "sql": sql})


def copied(engine, *words):
    """Run the command; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "linkly_engine", "database", "copy", "--from", "old", "--to", "new", *words],
        cwd=engine.folder,
        env={**os.environ, "LINKLY_PORT": str(engine.worker_port)},
        capture_output=True,
        text=True,
        timeout=WAIT_S * 4,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


async def content(client, db):
    """Return every row of every table of links."""
    found = {}
    for table, key in TABLES.items():
        answer = await client.trigger("database::query", {"db": db, "sql": f"SELECT * FROM {table}"})
        found[table] = sorted(answer["rows"], key=lambda row, key=key: row[key])
    return found


async def check(engine):
    """Compare the two databases, and let link work on the new one."""
    async with Client(engine.url) as client:
        old, new = await content(client, "old"), await content(client, "new")
        assert {name: len(rows) for name, rows in new.items()} == {
            "links": LINKS,
            "clicks": CLICKS,
            "link_keys": KEYS,
            "link_settings": 1,
        }
        assert new == old
    engine.end()
    config(engine, "new")
    engine.start()
    async with Client(engine.url) as client:
        assert (await client.trigger("link::verify", {}, timeout_s=60))["ok"]
        redirect = {"path_params": {"code": "c7"}, "method": "GET", "path": "/s/c7"}
        assert (await client.trigger("http::redirect", redirect))["status_code"] == 302
        answer = await client.trigger("database::query", {"db": "new", "sql": "SELECT max(id) AS id FROM clicks"})
        assert answer["rows"] == [{"id": CLICKS + 1}]
        assert (await client.trigger("link::verify", {}, timeout_s=60))["ok"]


async def test_links_clicks_and_keys_are_equal_after_the_engine_was_killed_in_the_middle(engine):
    await filled(engine)
    async with Client(engine.url) as client:
        payload = {"from": "old", "to": "new", "for_ms": 1}
        copied_rows = 0
        while copied_rows < 2000:
            answer = await client.trigger("database::copy", payload, timeout_s=60)
            copied_rows = sum(table["copied"] for table in answer["tables"])
        assert not answer["complete"]
        async with connected(engine.new_url) as other:
            await other.execute("BEGIN; LOCK TABLE clicks IN SHARE MODE")  # so that it is killed between two rows
            under_way = asyncio.ensure_future(client.trigger("database::copy", {"from": "old", "to": "new"}))
            while not await other.fetchval(WAITING):  # noqa: ASYNC110 - nobody says when a lock is waited for
                await asyncio.sleep(0.02)
            await asyncio.to_thread(engine.kill)
            with pytest.raises(LinklyError):
                await under_way
    engine.start()
    code, said = copied(engine)
    assert code == 0, said
    assert f"✓ clicks ({CLICKS} rows)" in said
    assert f"{LINKS + CLICKS + KEYS + 1} rows; both databases have the same number of each" in said
    await check(engine)


async def test_where_link_has_made_its_tables_already_its_rows_are_replaced(engine):
    config(engine, "new")
    engine.start()
    engine.end()
    await filled(engine)
    code, said = copied(engine)
    assert (code, "table `link_settings` of `new` has rows" in said) == (1, True)
    code, said = copied(engine, "--replace")
    assert code == 0, said
    await check(engine)
