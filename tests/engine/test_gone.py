"""Nothing is left of a connection that has ended, without the garbage collector, which an engine lets come seldom."""

import asyncio
import gc
import json
from contextlib import AsyncExitStack

import pytest

from linkly.testing import settle
from linkly.wire.connection import Served
from linkly_engine.remote.peer import Peer
from support.raw_client import EngineUnderTest
from support.raw_native import message, raw_native
from support.serving import serving


@pytest.fixture
def in_memory():
    """Return what counts the objects of a type; the garbage collector takes none meanwhile."""
    gc.collect()
    gc.disable()
    yield lambda kind: sum(isinstance(each, kind) for each in gc.get_objects())
    gc.enable()


REGISTRATIONS = (
    {"type": "registerfunction", "id": "far::f"},
    {"type": "registertriggertype", "id": "far-type", "description": ""},
    {"type": "registertrigger", "id": "t", "trigger_type": "far-type", "function_id": "far::f", "config": {}},
)


@pytest.mark.parametrize("named", [True, False])
async def test_nothing_is_left_of_a_json_connection(in_memory, named):
    async with serving() as (engine, server), AsyncExitStack() as stack:
        client = await EngineUnderTest(engine, server, stack).connect(metadata=named)
        for registration in REGISTRATIONS:
            await client.send(**registration)
        assert "result" in await client.call("engine::workers::list", {})
        assert in_memory(Peer) == 1
        assert in_memory(Served) == 0
        await client.close()
        async with asyncio.timeout(10):
            while in_memory(Peer):
                await settle()


@pytest.mark.parametrize("named", [True, False])
async def test_nothing_is_left_of_a_native_connection(in_memory, named):
    async with serving() as (_, server):
        async with raw_native(server.port) as client:
            if named:
                await client.register(name="far")
            for registration in REGISTRATIONS:
                client.write(message(**registration))
            await client.call("engine::workers::list", json.dumps({}).encode())
            assert in_memory(Peer) == 1
            assert in_memory(Served) == 0
        async with asyncio.timeout(10):
            while in_memory(Peer):
                await settle()
