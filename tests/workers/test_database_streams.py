"""`database::stream`: a result through a channel, on every backend that has one larger than the memory."""

import asyncio
import contextlib
import json

import pytest

from linkly import LinklyError
from linkly.schema import read_settings
from linkly.testing import settle
from linkly_workers.database import DatabaseSettings, DatabaseWorker
from support.database_calls import not_any_more, until, value
from support.database_servers import MARIADB, POSTGRES

COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n"
MARIADB_COUNT = "SELECT seq AS i FROM seq_1_to_1000000000 WHERE seq <= {}"
"""MariaDB makes all rows of a recursive WITH before it sends the first."""
FLOATS = MARIADB_COUNT.replace("seq AS i", "CAST(seq AS FLOAT) AS i")
"""Their rows come another way: see `mysql.binary`."""
STUCK = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS stuck FROM n"
SERVERS = {"postgres": POSTGRES, "mysql": MARIADB}
MAX_RESULT_BYTES = 300_000


@pytest.fixture(params=["sqlite file", "sqlite memory", "postgres", "mariadb", "mariadb floats"])
def url(request, tmp_path):
    kind = request.param.partition(" ")[0]
    if kind in ("postgres", "mariadb"):
        return request.getfixturevalue(f"{kind}_url")
    return f"sqlite:{tmp_path}/a.db" if request.param == "sqlite file" else "sqlite::memory:"


@pytest.fixture
def count(request):
    kind = request.node.callspec.params["url"]
    return {"mariadb": MARIADB_COUNT, "mariadb floats": FLOATS}.get(kind, COUNT).format


@pytest.fixture
def endless(count):
    return count(10**12)


@pytest.fixture
def in_memory(url):
    return url.endswith(":memory:")


@pytest.fixture
async def bus(run, url):
    entries = {"databases": {"primary": {"url": url}}, "max_result_bytes": MAX_RESULT_BYTES}
    async with run(DatabaseWorker(read_settings(DatabaseSettings, entries, "$"))) as bus:
        yield bus


class Streaming:
    """A stream that has begun: its call, and its reader."""

    def __init__(self, call, reader):
        self.call, self.reader = call, reader

    async def rest(self):
        """Return the rows that are left and the out-of-band messages."""
        data, said = b"", []
        async for message in self.reader:
            if isinstance(message, str):
                said.append(json.loads(message))
            else:
                data += message
        return [json.loads(line) for line in data.splitlines()], said


async def begun(bus, sql, *params, buffer_size=None, **more):
    channel = await bus.create_channel(buffer_size)
    payload = {"sql": sql, "params": list(params), "writer": channel.writer, **more}
    call = asyncio.ensure_future(bus.trigger("database::stream", payload))
    return Streaming(call, await bus.open_reader(channel.reader))


async def refused(stream):
    """Return the error of the call, and how the channel ended."""
    _, said = await stream.rest()
    with pytest.raises(LinklyError) as failure:
        await stream.call
    return failure.value, said[-1] if said else None


async def test_rows_come_as_lines_between_columns_and_an_end(bus, count):
    stream = await begun(bus, "SELECT i, 'ü' AS a FROM (" + count("?") + ") AS t", 3)
    rows, (first, last) = await stream.rest()
    assert rows == [{"i": 1, "a": "ü"}, {"i": 2, "a": "ü"}, {"i": 3, "a": "ü"}]
    assert (first["type"], [column["name"] for column in first["columns"]]) == ("columns", ["i", "a"])
    assert last == {"type": "end", "row_count": 3}
    assert await stream.call == {"row_count": 3, "columns": first["columns"]}


async def test_without_rows_there_are_columns_all_the_same(bus):
    rows, said = await (await begun(bus, "SELECT 1 AS a WHERE 1 = 0")).rest()
    assert (rows, [message["type"] for message in said]) == ([], ["columns", "end"])
    assert said[0]["columns"][0]["name"] == "a"


async def test_integers_are_written_as_the_call_wants_them(bus):
    await bus.trigger("database::execute", {"sql": "CREATE TABLE t (id BIGINT)"})
    await bus.trigger("database::execute", {"sql": "INSERT INTO t VALUES (5)"})
    rows, _ = await (await begun(bus, "SELECT id FROM t", integers="string")).rest()
    assert rows == [{"id": "5"}]


async def test_a_result_may_be_larger_than_an_answer(bus, in_memory, count):
    if in_memory:
        pytest.skip("what is in memory has to fit there")
    stream = await begun(bus, count("50000"))
    rows, said = await stream.rest()
    assert [row["i"] for row in rows] == list(range(1, 50001))
    assert said[-1] == {"type": "end", "row_count": 50000}


async def test_an_endless_result_waits_for_its_reader_and_ends_with_him(bus, in_memory, endless):
    if in_memory:
        pytest.skip("what is in memory has to fit there")
    stream = await begun(bus, endless, buffer_size=1)
    assert json.loads(await stream.reader.receive())["type"] == "columns"
    for _ in range(20):
        assert await stream.reader.receive()
    assert not stream.call.done()
    await stream.reader.close()
    with pytest.raises(LinklyError, match="reader of this channel is gone"):
        await stream.call


async def test_a_reader_that_goes_ends_a_statement_that_gives_no_rows(bus, url):
    stream = await begun(bus, STUCK)
    await settle()
    await stream.reader.close()
    with pytest.raises(LinklyError, match="reader of this channel is gone"):
        await stream.call
    if kind := SERVERS.get(url.partition(":")[0]):
        await ended_on_the_server(bus, kind)


async def test_a_caller_that_gives_up_ends_the_statement_and_the_channel(bus, url):
    stream = await begun(bus, STUCK)
    await settle()
    stream.call.cancel()
    assert await stream.rest() == ([], [])
    with contextlib.suppress(asyncio.CancelledError):
        await stream.call
    if kind := SERVERS.get(url.partition(":")[0]):
        await ended_on_the_server(bus, kind)


async def ended_on_the_server(bus, kind):
    async def runs():
        return await value(bus, kind.running, "%AS stuck%") > 0

    await until(not_any_more(runs))


async def test_all_rows_are_of_one_moment(bus, count):
    fill = "INSERT INTO t SELECT i FROM (" + count("3000") + ") AS n"
    for sql in ("CREATE TABLE t (id BIGINT)", fill):
        await bus.trigger("database::execute", {"sql": sql})
    stream = await begun(bus, "SELECT id FROM t ORDER BY id", buffer_size=1)
    assert json.loads(await stream.reader.receive())["type"] == "columns"
    await bus.trigger("database::execute", {"sql": "DELETE FROM t"})
    rows, said = await stream.rest()
    assert [row["id"] for row in rows] == list(range(1, 3001))
    assert said[-1]["row_count"] == 3000


async def test_what_fails_in_the_middle_is_told_to_the_reader_and_the_caller(bus, url, count):
    kind = url.partition(":")[0]
    wrong = {
        "postgres": "1 / (i - 900)",
        "mysql": "CASE i WHEN 900 THEN 18446744073709551615 + CAST(i AS SIGNED) END",
    }.get(kind, "CASE i WHEN 900 THEN abs(-9223372036854775807 - 1) END")
    stream = await begun(bus, "SELECT " + wrong + " AS a, i FROM (" + count("2000") + ") AS n")
    error, last = await refused(stream)
    assert error.code == "DRIVER_ERROR"
    assert (last["type"], last["error"]["code"], last["error"]["message"]) == ("error", error.code, error.message)


async def test_what_writes_is_refused_and_writes_nothing(bus):
    await bus.trigger("database::execute", {"sql": "CREATE TABLE t (id BIGINT)"})
    error, last = await refused(await begun(bus, "INSERT INTO t VALUES (1) RETURNING id"))
    assert (error.code, error.details["reason"]) == ("INVALID_PARAM", "the statement writes")
    assert last["error"]["code"] == "INVALID_PARAM"
    assert (await bus.trigger("database::query", {"sql": "SELECT * FROM t"}))["rows"] == []


async def test_one_value_beyond_the_limit_is_refused(bus, url):
    large = "hex(zeroblob(500000))" if url.startswith("sqlite") else "repeat('x', 1000000)"
    error, last = await refused(await begun(bus, f"SELECT {large} AS a"))
    assert last["error"]["code"] == error.code
    assert error.code == "RESULT_TOO_LARGE" or error.details["inner_code"] == "SQLITE_TOOBIG"


async def test_a_reader_that_is_too_slow_for_the_time_limit_is_told_so(bus, in_memory, endless):
    if in_memory:
        pytest.skip("what is in memory is read at once")
    stream = await begun(bus, endless, buffer_size=1, timeout_ms=300)
    error, last = await refused(stream)
    assert (error.code, last["error"]["code"]) == ("QUERY_TIMEOUT", "QUERY_TIMEOUT")


async def test_a_reader_that_never_reads_holds_the_call_no_longer_than_the_time_limit(bus, in_memory, endless):
    if in_memory:
        pytest.skip("what is in memory is read at once")
    stream = await begun(bus, endless, buffer_size=1, timeout_ms=300)
    async with asyncio.timeout(15):
        with pytest.raises(LinklyError) as failure:
            await stream.call
    assert failure.value.code == "QUERY_TIMEOUT"
    _, said = await stream.rest()
    assert said[-1]["type"] == "columns"


async def test_many_streams_leave_their_connections_to_others(bus, in_memory, endless):
    if in_memory:
        pytest.skip("what is in memory is read at once")
    for _ in range(15):
        stream = await begun(bus, endless, buffer_size=1)
        await stream.reader.receive()
        await stream.reader.close()
        with pytest.raises(LinklyError):
            await stream.call
    assert (await bus.trigger("database::query", {"sql": "SELECT 1 AS one"}))["rows"] == [{"one": 1}]
