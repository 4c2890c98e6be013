"""`NaN` and `Infinity` literals, which Python's json module writes: refused where null would be kept."""

import uuid

import pytest

from linkly.schema import read_settings
from linkly_workers.database import DatabaseSettings, DatabaseWorker
from linkly_workers.state import StateWorker


@pytest.fixture
async def caller(bus_engine):
    """A client of an engine that runs state and a database in memory."""
    databases = {"primary": {"url": "sqlite::memory:"}}
    database = DatabaseWorker(read_settings(DatabaseSettings, {"databases": databases}, "$"))
    for worker in (StateWorker(), database):
        await bus_engine.engine.host.start(worker)
    return await bus_engine.connect()


async def answer(caller, function_id, data):
    invocation_id = str(uuid.uuid4())
    await caller.send_text(
        f'{{"type":"invokefunction","function_id":"{function_id}","invocation_id":"{invocation_id}","data":{data}}}'
    )
    return await caller.until("invocationresult", invocation_id=invocation_id)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", '{"a": [1, NaN]}', "1e999"])
@pytest.mark.parametrize(
    "function_id, data",
    [
        ("state::set", '{"scope": "s", "key": "k", "value": %s}'),
        ("state::update", '{"scope": "s", "key": "k", "ops": [{"type": "set", "path": "", "value": %s}]}'),
        ("database::query", '{"sql": "SELECT ? AS a", "params": [%s]}'),
        ("database::execute", '{"sql": "SELECT ? AS a", "params": [%s]}'),
        ("database::transaction", '{"statements": [{"sql": "SELECT ? AS a", "params": [%s]}]}'),
    ],
)
async def test_a_number_that_json_does_not_have_is_refused_where_it_would_become_null(
    caller, function_id, data, literal
):
    refused = await answer(caller, function_id, data % literal)
    assert refused["error"]["code"] == "deserialization_error"
    assert "error" not in await answer(caller, function_id, data % "null")
