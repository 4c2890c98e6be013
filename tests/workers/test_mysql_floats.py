"""FLOAT of MySQL and MariaDB: all of its digits, in rows that are otherwise what the text protocol answers."""

import asyncio
import math
import struct
import uuid
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("asyncmy", reason="asyncmy is missing: pip install -e '.[dev]'")

from linkly.schema import read_settings
from linkly_workers.database.backends import OneDatabase
from linkly_workers.database.mysql.address import address_of
from linkly_workers.database.mysql.binary import loses_digits, shortest
from linkly_workers.database.mysql.parameters import bound
from linkly_workers.database.mysql.statement import statement_of
from linkly_workers.database.mysql.wire import connected
from support import mariadb_server
from support.database_calls import begin, call, execute, refused, rows, running, value, values
from support.mariadb_server import own_database

EXACT = 16777213
"""A FLOAT that six digits do not show."""
FLOAT = f"CAST({EXACT} AS FLOAT)"
SLOW = f"SELECT {FLOAT} AS a, SLEEP(?)"


def as_float32(value):
    return struct.pack("<f", value)


# --- digits -------------------------------------------------------------------------------------------------

FLOATS = (
    st.integers(0, 2**32 - 1).map(lambda bits: struct.unpack("<f", struct.pack("<I", bits))[0]).filter(math.isfinite)
)


@given(value=FLOATS)
def test_a_float_is_the_shortest_text_that_is_the_same_float(value):
    found = shortest(value)
    assert as_float32(found) == as_float32(value)
    digits = len(f"{found!r}".partition("e")[0].replace(".", "").strip("-0"))
    assert digits <= 1 or as_float32(float(f"{value:.{digits - 1}g}")) != as_float32(value)


@pytest.mark.parametrize(
    "value, expected",
    [
        (0.1, "0.1"),
        (EXACT, "16777213.0"),
        (3.4028234663852886e38, "3.4028235e+38"),
        (1.401298464324817e-45, "1e-45"),
        (1.1754943508222875e-38, "1.1754944e-38"),
        (-0.0, "-0.0"),
    ],
)
def test_a_float_reads_as_people_write_it(value, expected):
    assert repr(shortest(struct.unpack("<f", as_float32(value))[0])) == expected


# --- both protocols -----------------------------------------------------------------------------------------


class Both:
    """A connection on a loop of its own, with which tests of many examples ask over both protocols."""

    def __init__(self, loop, wire):
        self._loop, self._wire = loop, wire

    def command(self, sql, *values):
        self._loop.run_until_complete(self._wire.command(bound(statement_of(sql), list(values))))

    def rows(self, sql, *values):
        """Return the rows as text has them, as the other protocol has them, and the columns."""
        return self._loop.run_until_complete(self._rows(bound(statement_of(sql), list(values))))

    async def _rows(self, text):
        shown = await self._wire.fetch(text)
        handle, described = await self._wire.prepare(text)
        result = await self._wire.execute(handle)
        found, fields = [], result.fields
        while (batch := await self._wire.rows(2**24)) is not None:
            found += batch
        assert [field.name for field in described] == [field.name for field in fields]
        return shown, found, fields


@pytest.fixture(scope="module")
def both(mysql_server):
    loop = asyncio.new_event_loop()
    database = own_database(mysql_server, f"test_{uuid.uuid4().hex[:12]}")
    url = loop.run_until_complete(database.__aenter__())
    address = address_of(read_settings(OneDatabase, {"url": url}, "$"))
    wire = loop.run_until_complete(connected(address, (address.password or "").encode(), "test"))
    try:
        yield Both(loop, wire)
    finally:
        loop.run_until_complete(wire.close())
        loop.run_until_complete(database.__aexit__(None, None, None))
        loop.close()


def integers(bits, *, signed=True):
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


def moments(digits):
    parts = (st.integers(1, 9999), st.integers(0, 12), st.integers(0, 28), *[st.integers(0, 59)] * 3, integers(20))
    found = st.tuples(*parts).map(
        lambda each: (
            "{:04d}-{:02d}-{:02d} {:02d}:{:02d}:{:02d}".format(*each[:3], each[3] % 24, *each[4:6])
            + (f".{abs(each[6]) % 10**digits:0{digits}d}" if digits else "")
        )
    )
    return found | st.just("0000-00-00 00:00:00")


def times(digits):
    found = st.tuples(st.sampled_from(("", "-")), st.integers(0, 837), st.integers(0, 59), st.integers(0, 999_999))
    return found.map(
        lambda each: f"{each[0]}{each[1]:02d}:{each[2]:02d}:{each[2]:02d}" + f".{each[3]:06d}"[: digits and digits + 1]
    ) | st.sampled_from(("-838:59:59", "838:59:59", "00:00:00"))


DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
TYPES = {
    "TINYINT": integers(8),
    "TINYINT UNSIGNED": integers(8, signed=False),
    "BOOL": st.booleans(),
    "SMALLINT": integers(16),
    "SMALLINT UNSIGNED": integers(16, signed=False),
    "MEDIUMINT": integers(24),
    "MEDIUMINT UNSIGNED": integers(24, signed=False),
    "INT": integers(32),
    "INT UNSIGNED": integers(32, signed=False),
    "INT(9) ZEROFILL": integers(32, signed=False),
    "BIGINT": integers(64),
    "BIGINT UNSIGNED": integers(64, signed=False),
    "YEAR": st.integers(1901, 2155) | st.just(0),
    "FLOAT(7,2)": st.floats(-99999, 99999),
    "DOUBLE": DOUBLES | st.just(-0.0),
    "DOUBLE(10,2)": st.floats(-9999999, 9999999),
    "DOUBLE(30,20)": st.floats(-99999999, 99999999),
    "DECIMAL(65,30)": st.decimals(-(10**34), 10**34, places=30).map(str),
    "DECIMAL(5,2)": st.decimals(-999, 999, places=2).map(str),
    "BIT(1)": integers(1, signed=False),
    "BIT(12)": integers(12, signed=False),
    "BIT(64)": integers(64, signed=False),
    "DATE": moments(0).map(lambda text: text[:10]),
    **{f"DATETIME({digits})": moments(digits) for digits in (0, 1, 3, 6)},
    **{f"TIME({digits})": times(digits) for digits in (0, 2, 6)},
    "TIMESTAMP(6) NULL": st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)).map(str),
    "CHAR(20)": TEXTS,
    "VARCHAR(20)": TEXTS,
    "TEXT": TEXTS,
    "LONGTEXT": TEXTS | st.just("ü" * 40_000),
    "VARCHAR(20) CHARACTER SET latin1": st.text(st.characters(max_codepoint=127), max_size=20),
    "BINARY(9)": st.binary(max_size=9),
    "VARBINARY(20)": st.binary(max_size=20),
    "BLOB": st.binary(max_size=20) | st.sampled_from((b"x" * 250, b"x" * 251, b"x" * 65_535)),
    "ENUM('a', 'b''ü')": st.sampled_from(("a", "b'ü")),
    "SET('x', 'y')": st.sampled_from(("", "x", "x,y")),
    "JSON": st.sampled_from(('{"a": [1, null, "ü"]}', "1.50", '"x"', "null")),
    "GEOMETRY": st.just(b"\0\0\0\0\1\1\0\0\0" + b"\0" * 6 + b"\xf0\x3f" + b"\0" * 7 + b"\x40"),
}


@given(data=st.data())
def test_rows_are_those_of_the_text_protocol(both, data):
    columns = ", ".join(f"c{at} {kind}{'' if 'NULL' in kind else ' NULL'}" for at, kind in enumerate(TYPES))
    both.command(f"CREATE TABLE IF NOT EXISTS alike ({columns})")
    both.command("DELETE FROM alike")
    for _ in range(2):
        values = [data.draw(st.none() | kind, label) for label, kind in TYPES.items()]
        both.command(f"INSERT INTO alike VALUES ({', '.join('?' * len(values))})", *values)
    shown, found, fields = both.rows("SELECT * FROM alike")
    assert [repr(row) for row in found] == [repr(row) for row in shown]
    assert not loses_digits(fields)


EXPRESSIONS = [
    "SELECT 1, -1, 18446744073709551615, 1.50, 1e0, -0e0, TRUE, NULL, 'ü', X'00ff', b'101', 1/3, 1/3e0, 1e300 * 10",
    "SELECT d, d / 3, -d, AVG(d), SUM(n), AVG(n), MAX(n), COUNT(*) FROM one",
    "SELECT TIMEDIFF('1:00:00.5', '0:0:0'), SEC_TO_TIME(1.5), TIMESTAMP('2020-01-01 00:00:00.5'), MAKETIME(1, 2, 3)",
    "SELECT STR_TO_DATE('2020-01-01 1:2:3.5', '%Y-%m-%d %H:%i:%s.%f'), STR_TO_DATE('1', '%d'), DATE('2020-00-00')",
    "SELECT STR_TO_DATE(f, '%Y-%m-%d %H:%i:%s.%f'), STR_TO_DATE(f, '%Y-%m-%d'), ADDTIME(f, '1') FROM one",
    "SELECT @nothing, @a := 1.5, COALESCE(NULL, NOW() < NOW()), IF(1, 1, 'a'), CONCAT(1, 'ü'), 'a' + 0",
    "SELECT UUID() = '', DATABASE() LIKE 'test%', JSON_OBJECT('a', 1.5), ELT(2, 'a', 'b'), CAST('a' AS BINARY)",
    "SELECT n FROM one UNION SELECT 1.5 UNION SELECT NULL ORDER BY 1",
    "SELECT n FROM one WHERE 1 = 0",
]


@pytest.mark.parametrize("sql", EXPRESSIONS)
def test_expressions_are_those_of_the_text_protocol(both, sql):
    both.command("CREATE TABLE IF NOT EXISTS one (n INT, f VARCHAR(40), d DOUBLE(10,2))")
    both.command("DELETE FROM one")
    both.command("INSERT INTO one VALUES (7, '2020-01-01 1:2:3.5', 2.68)")
    shown, found, _ = both.rows(sql)
    assert [repr(row) for row in found] == [repr(row) for row in shown]


@given(value=FLOATS)
def test_any_float_comes_back(both, value):
    both.command("CREATE TABLE IF NOT EXISTS floats (a FLOAT, b FLOAT(7,2))")
    both.command("DELETE FROM floats")
    both.command("INSERT INTO floats (a) VALUES (?)", value)
    _, ((found, _),), fields = both.rows("SELECT * FROM floats")
    assert found == shortest(value)
    assert not value or as_float32(found) == as_float32(value)  # the server takes a literal -0 for 0
    assert loses_digits(fields)


# --- calls --------------------------------------------------------------------------------------------------


@pytest.fixture
async def bus(mysql_url):
    """One connection for everybody."""
    async with running(mysql_url, pool={"max": 1}) as bus:
        await execute(bus, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a FLOAT, d DOUBLE)")
        await execute(bus, "INSERT INTO t (a, d) VALUES (?, ?)", EXACT, EXACT)
        yield bus


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM t",
        "(SELECT a FROM t)",
        "SELECT MAX(a) AS a FROM t",
        "WITH one AS (SELECT a FROM t) SELECT a FROM one",
        "SELECT a FROM t FOR UPDATE",
    ],
)
async def test_a_float_keeps_its_digits_whenever_it_is_asked(bus, sql):
    for _ in range(3):
        assert await rows(bus, sql) == [{"a": EXACT}]


async def test_a_float_keeps_its_digits_at_every_door(bus):
    sql = "SELECT a, id FROM t"
    assert await rows(bus, sql, read_only=True) == [{"a": EXACT, "id": 1}]
    handle = (await call(bus, "prepareStatement", sql=sql))["handle"]["id"]
    assert (await call(bus, "runStatement", handle_id=handle))["rows"] == [{"a": EXACT, "id": 1}]
    done = await call(bus, "transaction", statements=[sql, "INSERT INTO t (a) SELECT a - 1 FROM t", sql])
    assert done["results"][2]["rows"] == [[EXACT, 1], [EXACT - 1, 2]]
    held = await begin(bus)
    assert (await call(bus, "transactionQuery", transaction_id=held, sql=sql))["rows"][0] == {"a": EXACT, "id": 1}
    await call(bus, "commitTransaction", transaction_id=held)


async def test_rows_of_a_procedure_keep_their_digits_and_it_runs_once(bus):
    await execute(bus, "CREATE PROCEDURE p() BEGIN INSERT INTO t (a) VALUES (16777211); SELECT a FROM t; SELECT 1; END")
    assert await values(bus, "CALL p()") == [EXACT, 16777211]
    assert await values(bus, "CALL p()") == [EXACT, 16777211, 16777211]


async def test_returned_rows_keep_their_digits_and_are_written_once(bus):
    if "MariaDB" not in await value(bus, "SELECT VERSION()"):
        pytest.skip("MySQL has no RETURNING")
    for _ in range(2):
        done = await execute(bus, "INSERT INTO t (a) VALUES (16777211) RETURNING a", returning=["a"])
        assert (done["affected_rows"], done["returned_rows"]) == (1, [{"a": 16777211}])
    assert await value(bus, "SELECT COUNT(*) FROM t") == 3


async def test_a_column_that_becomes_a_float_keeps_its_digits(bus):
    for _ in range(2):
        assert await values(bus, "SELECT d FROM t") == [EXACT]
    await execute(bus, "ALTER TABLE t MODIFY d FLOAT")
    for _ in range(2):
        assert await values(bus, "SELECT d FROM t") == [EXACT]
    await execute(bus, "ALTER TABLE t MODIFY d DOUBLE")
    assert await values(bus, "SELECT d FROM t") == [EXACT]


async def test_a_returned_column_that_becomes_a_float_is_an_error_once_and_nothing_is_written(bus):
    if "MariaDB" not in await value(bus, "SELECT VERSION()"):
        pytest.skip("MySQL has no RETURNING")
    insert = {"sql": "INSERT INTO t (d) VALUES (16777213) RETURNING d", "returning": ["d"]}
    for _ in range(2):
        assert (await call(bus, "execute", **insert))["returned_rows"] == [{"d": EXACT}]
    await execute(bus, "ALTER TABLE t MODIFY d FLOAT")
    error = await refused(bus, "execute", **insert)
    assert (error.code, error.details["retryable"]) == ("DRIVER_ERROR", True)
    assert await value(bus, "SELECT COUNT(*) FROM t") == 3
    assert (await call(bus, "execute", **insert))["returned_rows"] == [{"d": EXACT}]
    assert await value(bus, "SELECT COUNT(*) FROM t") == 4


async def test_a_temporary_table_of_floats_hides_another_one(bus):
    for _ in range(2):
        assert await values(bus, "SELECT d FROM t") == [EXACT]
    hidden = "CREATE TEMPORARY TABLE t AS SELECT CAST(16777211 AS FLOAT) AS d"
    done = await call(bus, "transaction", statements=[hidden, "SELECT d FROM t", "SELECT d FROM t"])
    assert [result["rows"] for result in done["results"][1:]] == [[[16777211.0]], [[16777211.0]]]


async def test_what_asks_for_the_last_statement_is_answered_as_without_a_float(bus):
    done = await call(
        bus,
        "transaction",
        statements=[
            "UPDATE t SET d = 5",
            "SELECT ROW_COUNT(), CAST(1 AS FLOAT)",
            "INSERT INTO t (a) VALUES (1)",
            "SELECT LAST_INSERT_ID(), a FROM t",
            "SELECT FOUND_ROWS(), CAST(1 AS FLOAT)",
        ],
    )
    assert [result["rows"] for result in done["results"][1::2]] == [[[1, 1.0]], [[2, EXACT], [2, 1.0]]]
    assert done["results"][4]["rows"] == [[2, 1.0]]


async def test_a_server_that_prepares_nothing_answers_what_it_shows():
    if mariadb_server.program() is None:
        pytest.skip(mariadb_server.MISSING)
    with mariadb_server.running_server("max_prepared_stmt_count=0") as server:
        async with running(server.url) as bus:
            assert await value(bus, "SELECT CAST(16777213 AS FLOAT)") == 16777200
            assert (await call(bus, "prepareStatement", sql="SELECT 1"))["handle"]["id"]


async def test_a_long_transaction_leaves_no_prepared_statement_on_the_server(bus):
    counted = "SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'"
    held = await begin(bus)
    for number in range(20):
        await call(bus, "transactionQuery", transaction_id=held, sql=f"SELECT a, {number} FROM t")
    ((_, count),) = [
        row.values() for row in (await call(bus, "transactionQuery", transaction_id=held, sql=counted))["rows"]
    ]
    await call(bus, "commitTransaction", transaction_id=held)
    assert int(count) < 5


# --- what ends early ----------------------------------------------------------------------------------------


async def test_a_statement_that_was_stopped_leaves_its_connection_to_the_next_caller(bus):
    mine = await value(bus, "SELECT CONNECTION_ID()")
    for _ in range(20):
        error = await refused(bus, "query", sql=SLOW, params=[600], timeout_ms=5)
        assert error.code == "QUERY_TIMEOUT"
        assert await value(bus, "SELECT CONNECTION_ID()") == mine


async def test_a_statement_may_be_stopped_at_any_moment(bus):
    mine = await value(bus, "SELECT CONNECTION_ID()")
    for number in range(150):
        asked = asyncio.ensure_future(rows(bus, SLOW, number / 100_000))
        for _ in range(number % 15):
            await asyncio.sleep(0)
        asked.cancel()
        assert await values(bus, "SELECT a FROM t") == [EXACT]
    assert await value(bus, "SELECT CONNECTION_ID()") == mine


async def test_a_result_beyond_the_limit_is_stopped(bus):
    mine = await value(bus, "SELECT CONNECTION_ID()")
    for sql in (
        "SELECT a, seq FROM t, seq_1_to_1000000",
        "SELECT a, REPEAT('x', 10000000) FROM t",
        "SELECT a, REPEAT('x', 20000000) FROM t",
        "SELECT a, REPEAT('x', 100000) FROM t, seq_1_to_1000",
    ):
        assert (await refused(bus, "query", sql=sql)).code == "RESULT_TOO_LARGE"
        assert await values(bus, "SELECT a FROM t") == [EXACT]
    assert await value(bus, "SELECT CONNECTION_ID()") == mine


async def test_a_row_of_several_packets_comes_whole(mysql_url):
    async with running(mysql_url, max_result_bytes=60_000_000) as bus:
        ((found, number),) = [row.values() for row in await rows(bus, f"SELECT REPEAT('x', 40000000), {FLOAT}")]
        assert (len(found), number) == (40_000_000, EXACT)


async def test_an_error_behind_the_first_rows_is_that_of_the_call(bus):
    sql = f"SELECT {FLOAT}, CASE seq WHEN 2000 THEN 18446744073709551615 + seq END FROM seq_1_to_3000"
    assert (await refused(bus, "query", sql=sql)).details["inner_code"] == "1690"
    assert await values(bus, "SELECT a FROM t") == [EXACT]
