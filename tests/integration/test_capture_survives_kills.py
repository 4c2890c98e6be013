"""Native capture over kill -9 of its engine: every change that was committed is told, of one row in order."""

import asyncio
import os

import pytest

from linkly import Client, Function, trigger
from support.engine_process import EngineProcess
from support.postgres_server import connected, own_schema, server_url

CHANGES, ROWS, KILLS = 600, 7, 3
WAIT_S = 60


@pytest.fixture(scope="module")
def server():
    with server_url() as url:
        yield url


@pytest.fixture
async def url(server):
    async with own_schema(server, f"capture_{os.urandom(6).hex()}") as url:
        yield url


@pytest.fixture
async def connection(url):
    async with connected(url) as connection:
        yield connection


async def test_every_change_is_told_although_the_engine_is_killed_again_and_again(url, connection, tmp_path):
    await connection.execute("CREATE TABLE orders (id int PRIMARY KEY, n int)")
    (tmp_path / "config.yaml").write_text(
        "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n"
        f"  - name: database\n    config: {{databases: {{primary: {{url: '{url}'}}}}}}\n"
    )
    told: list[tuple[int, int]] = []
    came = asyncio.Event()

    async def hear(event: dict) -> None:
        told.append((event["new"]["id"], event["new"]["n"]))
        came.set()

    async def heard(count):
        async with asyncio.timeout(WAIT_S):
            while len(set(told)) < count:
                came.clear()
                await came.wait()

    written = 0
    engine = EngineProcess(tmp_path)
    try:
        for kill in range(1, KILLS + 2):
            engine.start()
            async with Client(engine.url) as client:
                client.register_function(Function("test::hear", hear))
                config = {"db": "primary", "table": "orders", "capture": "native"}
                client.register_trigger("test::hear", trigger("database::row-changed", config))
                if not written:
                    there = "SELECT to_regclass('linkly_readers') IS NOT NULL"
                    while not await connection.fetchval(there):  # noqa: ASYNC110 - nobody says when it is there
                        await asyncio.sleep(0.05)
                for number in range(written + 1, written + CHANGES // (KILLS + 1) + 1):
                    insert = "INSERT INTO orders VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = $2"
                    await connection.execute(insert, number % ROWS, number)
                written += CHANGES // (KILLS + 1)
                if kill <= KILLS:
                    await heard(written - 50)
                    engine.kill()
                else:
                    await heard(CHANGES)
    finally:
        engine.kill()
    assert {n for _, n in told} == set(range(1, CHANGES + 1))
    for row in range(ROWS):
        news = [n for number, n in told if number == row]
        first_time = list(dict.fromkeys(news))
        assert first_time == sorted(first_time)
