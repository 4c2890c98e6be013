"""Durable writes with aiosqlite: `aiosqlite_write.py FILE insert|autocommit|upsert`, each answered when it is on disk.

All callers share one connection. Without a lock around `execute` and `commit` they would share a transaction by
accident, and one caller's rollback would take the others' rows along. `autocommit` is the best case of a single
statement: one hop to aiosqlite's thread in place of two.
"""

import asyncio
import json
import sys
from itertools import count, cycle

import aiosqlite
import uvloop
from turns import closed_loop, serve_turns, value

INSERT = "INSERT INTO clicks (code, at) VALUES (?, ?)"
UPSERT = "INSERT INTO kv VALUES ('s', ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
TABLES = """
CREATE TABLE clicks (id INTEGER PRIMARY KEY, code TEXT NOT NULL, at INTEGER NOT NULL);
CREATE TABLE kv (scope TEXT, key TEXT, value TEXT, PRIMARY KEY (scope, key)) WITHOUT ROWID;
"""


async def main(file: str, kind: str) -> None:
    async with aiosqlite.connect(file, isolation_level=None if kind == "autocommit" else "") as connection:
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = FULL")
        await connection.executescript(TABLES)
        lock = asyncio.Lock()
        keys, numbers = cycle([f"key {number}" for number in range(1000)]), count()

        async def insert() -> None:
            async with lock:
                await connection.execute(INSERT, ("code", 1))
                await connection.commit()

        async def autocommit() -> None:
            await connection.execute(INSERT, ("code", 1))

        async def upsert() -> None:
            async with lock:
                await connection.execute(UPSERT, (next(keys), json.dumps(value(next(numbers)))))
                await connection.commit()

        async def turn(callers: int, seconds: float) -> dict[str, float]:
            return await closed_loop(
                {"insert": insert, "autocommit": autocommit, "upsert": upsert}[kind], callers, seconds
            )

        await serve_turns(turn)


uvloop.run(main(sys.argv[1], sys.argv[2]))
