"""Every acknowledged click is counted once and none twice, over kill -9: before its redirect, and by the queue."""

import asyncio
import collections
import contextlib
import itertools
import signal
import sqlite3

import pytest

from support.database_calls import until

CONNECTIONS = 64
CODES = ("a", "b", "c", "d")
"""Clicks on the first two have a key and are asked for again by it; on the others one that is not answered is lost."""


class Shop:
    """What the clients share: the clicks to make, and which were acknowledged."""

    def __init__(self, port, redirects):
        self.port = port
        self.redirects = redirects
        self.numbers = itertools.count()
        self.acknowledged = set()
        self.repeats = 0
        self.unanswered = collections.Counter()
        self.progress = asyncio.Event()
        self.goal = redirects + 1

    def acknowledge(self, click_id):
        self.acknowledged.add(click_id)
        if len(self.acknowledged) >= self.goal:
            self.progress.set()

    async def reach(self, count):
        """Return when so many clicks are acknowledged."""
        self.goal = count
        self.progress.clear()
        if len(self.acknowledged) < count:
            await self.progress.wait()


async def follow(shop):
    """Follow links on one connection, one click after another, each until it is acknowledged."""
    connection = None
    try:
        while (number := next(shop.numbers)) < shop.redirects:
            click_id, code = f"click-{number}", CODES[number % len(CODES)]
            key = f"Idempotency-Key: {click_id}\r\n" if code in CODES[:2] else ""
            request = f"GET /s/{code} HTTP/1.1\r\nHost: x\r\n{key}\r\n".encode()
            while True:
                try:
                    if connection is None:
                        connection = await asyncio.open_connection("127.0.0.1", shop.port)
                    reader, writer = connection
                    writer.write(request)
                    head = await reader.readuntil(b"\r\n\r\n")
                except (OSError, asyncio.IncompleteReadError):
                    if connection is not None:
                        connection[1].transport.abort()
                    connection = None
                    shop.repeats += 1
                    shop.unanswered[code] += 1
                    await asyncio.sleep(0)
                    continue
                assert head.startswith(b"HTTP/1.1 302 "), head
                break
            shop.acknowledge(click_id)
    finally:
        if connection is not None:
            connection[1].transport.abort()


@contextlib.contextmanager
def data_of(linkly):
    with contextlib.closing(sqlite3.connect(linkly.folder / "data/iii.db")) as database:
        yield database


@pytest.mark.parametrize("count, redirects, kills", [("before_redirect", 20_000, 5), ("queued", 4_000, 3)])
async def test_redirects_over_kills_are_counted_exactly(linkly, count, redirects, kills):
    config = linkly.folder / "config.yaml"
    config.write_text(config.read_text() + f"    config: {{count: {count}}}\n  - name: queue\n")
    linkly.start()
    for code in CODES:
        assert linkly.trigger("link::create", f"url=https://{code}.example", f"code={code}").returncode == 0
    shop = Shop(linkly.http_port, redirects)
    clients = [asyncio.create_task(follow(shop)) for _ in range(CONNECTIONS)]
    for kill in range(1, kills + 1):
        await shop.reach(redirects * kill // (kills + 1))
        assert not any(client.done() for client in clients)
        await asyncio.to_thread(linkly.end, signal.SIGKILL)
        await asyncio.to_thread(linkly.start)
    await asyncio.gather(*clients)
    assert len(shop.acknowledged) == redirects
    assert shop.repeats > 0
    with data_of(linkly) as database:

        async def nothing_waits():
            return not database.execute("SELECT 1 FROM linkly_queue_jobs WHERE finished_at IS NULL LIMIT 1").fetchall()

        await until(nothing_waits)
    # The engine is killed once more, so that only what is on disk speaks.
    await asyncio.to_thread(linkly.end, signal.SIGKILL)
    with data_of(linkly) as database:
        rows = database.execute("SELECT click_id, code FROM clicks").fetchall()
        counters = dict(database.execute("SELECT code, clicks FROM links").fetchall())
    assert counters == collections.Counter(code for _, code in rows)
    each = redirects // len(CODES)
    keyed = [click_id for click_id, code in rows if code in CODES[:2]]
    assert len(keyed) == len(set(keyed)) == 2 * each
    assert set(keyed) == {f"click-{number}" for number in range(redirects) if number % len(CODES) < 2}
    for code in CODES[2:]:
        # What was acknowledged is counted; what was not may be.
        assert each <= counters[code] <= each + shop.unanswered[code]
    await asyncio.to_thread(linkly.start)
    proof = linkly.trigger("link::verify")
    assert '"ok": true' in proof.stdout
