"""Connections whose bytes are counted, and that are given up while they are made."""

import asyncio
import socket

import pytest

pytest.importorskip("asyncpg", reason="asyncpg is missing: pip install -e '.[dev]'")

from linkly_workers.database.postgres.counting import Meter, counting_loop


async def test_a_connection_given_up_at_any_turn_ends_as_cancelled():
    with socket.create_server(("127.0.0.1", 0)) as server:
        for turns in range(10):
            made = counting_loop(Meter()).create_connection(asyncio.Protocol, *server.getsockname())
            making = asyncio.create_task(made)
            for _ in range(turns):
                await asyncio.sleep(0)
            if making.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await making
            else:
                (await making)[0].abort()
