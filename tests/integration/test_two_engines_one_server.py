"""Two engines on one server: clicks are counted exactly while one engine is killed and the server is restarted.

Smaller than the full size unless `LINKLY_TEST_REDIRECTS` says how many redirects:
`LINKLY_TEST_REDIRECTS=20000 pytest tests/integration/test_two_engines_one_server.py`.
"""

import asyncio
import collections
import itertools
import os
import signal
from types import ModuleType

import msgspec
import pytest

from support import mariadb_server, postgres_server
from support.engine_process import EngineProcess
from support.link_databases import running_database

REDIRECTS = int(os.environ.get("LINKLY_TEST_REDIRECTS", "4000"))
CONNECTIONS = 32
LIMIT = REDIRECTS // 20
"""Of the link with `max_clicks`, which a quarter of the redirects ask for: 1000 of 5000."""

KEYED = ("keyed", "few")
"""Clicks on these have a key and are asked for again by it, at the other engine, until they are answered."""
CODES = ("keyed", "few", "free", "hot")


class Shop:
    """What the clients share: the clicks to make, and what was answered.

    Attributes:
        sent: Requests by code.
        redirected: Keys of the clicks that were answered 302, by code.
        refused: How often there was another answer, by status; 0: the connection was lost.
    """

    def __init__(self, ports):
        self.ports = ports
        self.numbers = itertools.count()
        self.sent = collections.Counter()
        self.redirected = collections.defaultdict(set)
        self.refused = collections.Counter()
        self.changed = asyncio.Condition()

    @property
    def answered(self):
        return sum(map(len, self.redirected.values()))

    async def note(self, code, key, status):
        if status == 302:
            self.redirected[code].add(key)
        else:
            self.refused[status] += 1
        async with self.changed:
            self.changed.notify_all()

    async def until(self, predicate):
        async with asyncio.timeout(300), self.changed:
            await self.changed.wait_for(predicate)


class Connection:
    """One client's connections, one to each engine."""

    def __init__(self, ports):
        self.ports = ports
        self.streams = {}

    async def ask(self, engine, request):
        """Return the status of an answer, 0 if there was none."""
        try:
            if engine not in self.streams:
                self.streams[engine] = await asyncio.open_connection("127.0.0.1", self.ports[engine])
            reader, writer = self.streams[engine]
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
        except (OSError, asyncio.IncompleteReadError):
            self.close(engine)
            return 0
        return int(head[9:12])

    def close(self, *engines):
        for engine in engines or list(self.streams):
            if engine in self.streams:
                self.streams.pop(engine)[1].close()


async def follow(shop):
    """Follow links, one click after another, by turns over both engines."""
    connection = Connection(shop.ports)
    try:
        while (number := next(shop.numbers)) < REDIRECTS:
            code, key, engine = CODES[number % len(CODES)], f"click-{number}", number // len(CODES) % 2
            keyed = code in KEYED
            header = f"Idempotency-Key: {key}\r\n" if keyed else ""
            request = f"GET /s/{code} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode()
            while True:
                shop.sent[code] += 1
                status = await connection.ask(engine, request)
                await shop.note(code, key, status)
                if not keyed or status in (302, 410):
                    break
                engine = 1 - engine
                await asyncio.sleep(0.02)  # what is away does not come sooner when it is asked without a pause
    finally:
        connection.close()


class Kind(msgspec.Struct):
    """How a server of a kind is run, ended and read."""

    room: ModuleType
    is_there: bool
    crash: signal.Signals
    end: signal.Signals
    text: str = "{}"


KINDS = {
    "postgres": Kind(postgres_server, postgres_server.binaries() is not None, signal.SIGQUIT, signal.SIGINT),
    "mariadb": Kind(
        mariadb_server,
        mariadb_server.program() is not None,
        signal.SIGKILL,
        signal.SIGTERM,
        "CONVERT({} USING utf8mb4)",
    ),
}


@pytest.fixture(params=KINDS)
def kind(request):
    found = KINDS[request.param]
    if not found.is_there:
        pytest.skip(found.room.MISSING)
    return found


@pytest.fixture
def server(kind):
    """A server that may be killed: nobody else's."""
    with kind.room.running_server() as server:
        yield server


@pytest.fixture
def engines(server, tmp_path, reserve_port):
    """Two engines that know nothing of each other but the database."""
    made = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(
            f"workers:\n  - name: iii-worker-manager\n    config: {{port: {reserve_port()}}}\n  - name: state\n"
            f"  - name: database\n    config:\n      databases:\n"
            f'        primary: {{url: "{server.url}", pool: {{acquire_timeout_ms: 1000}}}}\n'
            f"  - name: http\n    config: {{port: {reserve_port()}}}\n  - name: link\n"
        )
        made.append(EngineProcess(tmp_path / name))
    yield made
    for engine in made:
        engine.kill()


async def written(kind, url):
    """Return what is in the database: the counters, and the ids of the clicks by code."""
    code, click_id = kind.text.format("code"), kind.text.format("click_id")
    async with running_database(url) as bus:
        links = await bus.trigger("database::query", {"sql": f"SELECT {code} AS code, clicks FROM links"})
        clicks = await bus.trigger("database::query", {"sql": f"SELECT {code} AS code, {click_id} AS id FROM clicks"})
    ids = collections.defaultdict(list)
    for row in clicks["rows"]:
        ids[row["code"]].append(row["id"])
    return {row["code"]: row["clicks"] for row in links["rows"]}, ids


async def test_redirects_over_two_engines_are_counted_exactly_whoever_is_killed(kind, server, engines):
    await asyncio.gather(*(asyncio.to_thread(engine.start) for engine in engines))
    for at, code in enumerate(CODES):
        limit = [f"max_clicks={LIMIT}"] if code == "few" else []
        made = engines[at % 2].trigger("link::create", f"url=https://{code}.example", f"code={code}", *limit)
        assert made.returncode == 0, made.stdout + made.stderr
    shop = Shop([engine.http_port for engine in engines])
    clients = [asyncio.create_task(follow(shop)) for _ in range(CONNECTIONS)]

    def reached(share):
        goal = REDIRECTS * share
        return lambda: sum(shop.sent.values()) >= goal

    # One engine is killed.
    await shop.until(reached(0.2))
    await asyncio.to_thread(engines[0].end, signal.SIGKILL)
    await shop.until(lambda: shop.refused[0] > 0)
    await asyncio.to_thread(engines[0].start)
    # The server crashes, and stays away until somebody has been told.
    await shop.until(reached(0.4))
    told = shop.refused[503]
    server.stop(kind.crash)
    await shop.until(lambda: shop.refused[503] > told)
    server.start()
    # Both at once: the other engine is killed while the server restarts in good order.
    await shop.until(reached(0.6))
    server.stop(kind.end)
    await asyncio.to_thread(engines[1].end, signal.SIGKILL)
    server.start()
    await asyncio.to_thread(engines[1].start)
    await asyncio.gather(*clients)
    # They are killed once more, so that only what is in the database speaks.
    for engine in engines:
        await asyncio.to_thread(engine.end, signal.SIGKILL)
    counters, ids = await written(kind, server.url)

    assert counters == {code: len(ids[code]) for code in CODES}
    for code in CODES:
        assert len(shop.redirected[code]) <= counters[code] <= shop.sent[code]
    each = REDIRECTS // len(CODES)
    assert shop.redirected["keyed"] == set(ids["keyed"])
    assert counters["keyed"] == each
    assert counters["few"] == LIMIT
    assert len(set(ids["few"])) == LIMIT
    assert shop.redirected["few"] <= set(ids["few"])
    # 500: the COMMIT of a click without a key was not answered, so nobody knows.
    assert set(shop.refused) <= {0, 410, 500, 503}
    assert all(shop.refused[status] for status in (0, 410, 503))
    await asyncio.to_thread(engines[0].start)
    assert '"ok": true' in engines[0].trigger("link::verify").stdout
