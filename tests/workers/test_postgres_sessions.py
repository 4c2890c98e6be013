"""What a caller leaves in a session ends with his call, and what the pool says when it is exhausted."""

import asyncio

import pytest

from support.database_calls import call, refused, running, value


def of_one(url, **pool):
    """Have one connection for everybody."""
    return running(url, pool={"max": 1, **pool})


@pytest.fixture
async def bus(postgres_url):
    async with of_one(postgres_url) as bus:
        yield bus


@pytest.mark.parametrize(
    "left, seen, clean",
    [
        ("SELECT set_config('app.who', 'ann', false)", "SELECT current_setting('app.who', true)", ""),
        ("SELECT set_config('TimeZone', 'Asia/Tokyo', false)", "SELECT current_setting('TimeZone')", "UTC"),
        ("SELECT set_config('role', 'pg_monitor', false)", "SELECT current_user = session_user", True),
        ("SELECT pg_advisory_lock(7)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0),
        ("CREATE TEMP TABLE leftover (a int)", "SELECT to_regclass('leftover')", None),
        (
            "DO $$ DECLARE c refcursor; BEGIN EXECUTE 'DECLARE leftover CURSOR WITH HOLD FOR SELECT 1'; END $$",
            "SELECT count(*) FROM pg_cursors WHERE name = 'leftover'",
            0,
        ),
        ("DO $$ BEGIN EXECUTE 'LISTEN leftover'; END $$", "SELECT count(*) FROM pg_listening_channels()", 0),
    ],
)
async def test_what_a_call_leaves_in_its_session_ends_with_it(bus, left, seen, clean):
    await call(bus, "query", sql=left)
    assert await value(bus, seen) == clean


@pytest.mark.parametrize(
    "left, more",
    [
        ("SELECT set_config('app.who', 'ann', false), 1 / (SELECT 0)", {}),
        ("SELECT set_config('app.who', 'ann', false), pg_advisory_lock(7), pg_sleep(600)", {"timeout_ms": 100}),
        ("SELECT set_config('app.who', 'ann', false), repeat('x', 20000000)", {}),
    ],
)
async def test_what_a_failed_call_leaves_in_its_session_ends_with_it(bus, left, more):
    await refused(bus, "query", sql=left, **more)
    assert await value(bus, "SELECT current_setting('app.who', true)") in ("", None)
    assert await value(bus, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_what_an_open_transaction_left_ends_with_it(bus):
    begun = (await call(bus, "beginTransaction"))["transaction"]["id"]
    change = "SELECT set_config('app.who', 'ann', false)"
    await call(bus, "transactionQuery", transaction_id=begun, sql=change)
    await call(bus, "commitTransaction", transaction_id=begun)
    assert await value(bus, "SELECT current_setting('app.who', true)") == ""


async def test_set_local_and_temporary_tables_serve_within_a_transaction(bus):
    done = await call(
        bus,
        "transaction",
        statements=[
            "SET LOCAL app.who = 'ann'",
            "CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT current_setting('app.who') AS who",
            "SELECT who FROM kept",
        ],
    )
    assert done["results"][2]["rows"] == [["ann"]]


async def test_statements_stay_compiled_on_their_connection(bus):
    for number in (1, 2):
        assert await value(bus, "SELECT ?::int4 + 1", number) == number + 1
    assert (
        await value(bus, "SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT $' || '1::int4 + 1'")
        == 1
    )


async def test_a_connection_says_whose_it_is_and_its_zone(bus):
    assert (await value(bus, "SELECT current_setting('application_name')")).startswith("linkly:")


async def test_who_waits_for_himself_is_told(postgres_url):
    async with of_one(postgres_url, acquire_timeout_ms=1000) as bus:
        begun = (await call(bus, "beginTransaction"))["transaction"]["id"]
        error = await refused(bus, "query", sql="SELECT 1")
        assert error.code == "POOL_TIMEOUT"
        assert (error.details["in_use"], error.details["waiting"], error.details["waited_ms"]) == (1, 0, 1000)
        assert error.details["oldest"]["function"] == "database::beginTransaction"
        assert "this caller has 1 of them itself" in error.message
        await call(bus, "rollbackTransaction", transaction_id=begun)
        assert await value(bus, "SELECT 1") == 1


async def test_callers_get_the_connections_in_turn(bus):
    answers = await asyncio.gather(*(value(bus, "SELECT ?::int4", number) for number in range(50)))
    assert answers == list(range(50))


async def test_there_are_never_more_connections_than_the_setting_says(postgres_url):
    async with running(postgres_url, pool={"max": 3}) as bus:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = current_setting('application_name')"
        found = await asyncio.gather(
            *(value(bus, f"{asked} AND ?::int4 > 0 AND pg_sleep(0.01) IS NOT NULL", 1) for _ in range(20))
        )
        assert 1 < max(found) <= 3


async def test_idle_connections_are_closed_in_time(postgres_url):
    async with running(postgres_url, pool={"max": 2, "idle_timeout_ms": 1}) as bus:
        await value(bus, "SELECT 1")
        for _ in range(200):
            (database,) = (await call(bus, "listDatabases"))["databases"]
            if database["idle_connections"] == 0:
                break
            await asyncio.sleep(0.01)
        assert database["idle_connections"] == 0


@pytest.mark.parametrize(
    "sql, reason",
    [
        ("BEGIN", "transaction control"),
        ("/* /* */ */ commit", "transaction control"),
        ("START TRANSACTION", "transaction control"),
        ("PREPARE TRANSACTION 'a'", "transaction control"),
        ("SET TRANSACTION READ ONLY", "transaction control"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "transaction control"),
        ("SAVEPOINT a", "transaction control"),
        ("SET search_path = a", "changes a shared connection"),
        ("DISCARD ALL", "changes a shared connection"),
        ("DEALLOCATE ALL", "changes a shared connection"),
        ("LISTEN a", "changes a shared connection"),
        ("COPY t TO STDOUT", "reaches outside the database"),
    ],
)
async def test_what_would_change_a_shared_connection_is_refused(bus, sql, reason):
    for name in ("query", "execute"):
        error = await refused(bus, name, sql=sql)
        assert (error.code, error.details["reason"]) == ("INVALID_PARAM", reason)


async def test_several_statements_in_one_text_are_refused(bus):
    error = await refused(bus, "execute", sql="SELECT 1; SELECT 2")
    assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "MULTI_STATEMENT")


async def test_what_cannot_run_in_a_transaction_runs_without_one(bus):
    await call(bus, "execute", sql="CREATE TABLE t (a int)")
    await call(bus, "execute", sql="VACUUM t")
    await call(bus, "execute", sql="CREATE INDEX CONCURRENTLY i ON t (a)")
    error = await call(bus, "transaction", statements=["VACUUM t"])
    assert error["error"]["inner_code"] == "25001"


async def test_a_procedure_may_commit_by_itself(bus):
    await call(bus, "execute", sql="CREATE TABLE t (a int)")
    body = "BEGIN INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); ROLLBACK; END"
    await call(bus, "execute", sql=f"CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ {body} $$")
    await call(bus, "execute", sql="CALL p()")
    assert await value(bus, "SELECT array_agg(a) FROM t") == [1]


async def test_a_plan_has_steps(bus):
    await call(bus, "execute", sql="CREATE TABLE t (a int PRIMARY KEY)")
    plan = (await call(bus, "explain", sql="SELECT * FROM t a JOIN t b USING (a) WHERE a = ?", params=[1]))["plan"]
    assert [(step["id"], step["parent"]) for step in plan][:2] == [(1, 0), (2, 1)]
    assert any("on t" in step["detail"] for step in plan)


async def test_a_table_is_described(bus):
    await call(bus, "execute", sql='CREATE TABLE "Users" (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY)')
    await call(
        bus,
        "execute",
        sql='CREATE TABLE posts (id int, author int8 REFERENCES "Users" ON DELETE CASCADE, '
        "title varchar(20) NOT NULL DEFAULT 'x', upper_title text GENERATED ALWAYS AS (upper(title)) STORED, "
        "PRIMARY KEY (author, id))",
    )
    await call(bus, "execute", sql="CREATE UNIQUE INDEX by_title ON posts (lower(title)) WHERE id > 0")
    await call(bus, "execute", sql="CREATE VIEW v AS SELECT 1 AS one")
    listed = (await call(bus, "listTables"))["tables"]
    assert listed == [
        {"name": "Users", "type": "table"},
        {"name": "posts", "type": "table"},
        {"name": "v", "type": "view"},
    ]
    posts = await call(bus, "describeTable", table="POSTS")
    assert posts["primary_key"] == ["author", "id"]
    title, generated = posts["columns"][2:]
    assert (title["type"], title["nullable"], title["default"]) == (
        "character varying(20)",
        False,
        "'x'::character varying",
    )
    assert (generated["generated"], generated["default"]) == (True, None)
    assert posts["foreign_keys"] == [
        {
            "table": "Users",
            "columns": ["author"],
            "references": ["id"],
            "on_update": "NO ACTION",
            "on_delete": "CASCADE",
        }
    ]
    (index,) = [each for each in posts["indexes"] if each["name"] == "by_title"]
    assert (index["columns"], index["unique"], index["partial"]) == (["lower(title::text)"], True, True)
    assert (await call(bus, "describeTable", table="Users"))["columns"][0]["name"] == "id"
    assert (await refused(bus, "describeTable", table="users")).code == "NOT_FOUND"


async def test_a_prepared_handle_survives_an_alter(bus):
    await call(bus, "execute", sql="CREATE TABLE t (a int)")
    await call(bus, "execute", sql="INSERT INTO t VALUES (1)")
    handle = (await call(bus, "prepareStatement", sql="SELECT * FROM t"))["handle"]["id"]
    assert (await call(bus, "runStatement", handle_id=handle))["rows"] == [{"a": 1}]
    await call(bus, "execute", sql="ALTER TABLE t ALTER a TYPE text, ADD b int8 DEFAULT 2")
    assert (await call(bus, "runStatement", handle_id=handle))["rows"] == [{"a": "1", "b": 2}]


@pytest.mark.parametrize(
    "before, first, after, then",
    [
        ("int4", 1, "int8", 2**40),
        ("int4", 1, "text", "a word"),
        ("int4", 1, "text", 2),
        ("text", "1", "int4 USING a::int4", 2),
        ("int4", 1, "jsonb USING to_jsonb(a)", {"b": 2}),
    ],
)
async def test_a_parameter_has_the_type_that_its_column_has_now(bus, before, first, after, then):
    await call(bus, "execute", sql=f"CREATE TABLE t (a {before})")
    update = {"sql": "UPDATE t SET a = ?", "params": [first]}
    select = {"sql": "SELECT count(*) FROM t WHERE a = ?", "params": [first]}
    await call(bus, "execute", sql="INSERT INTO t VALUES (?)", params=[first])
    for change, given in (None, first), (f"ALTER TABLE t ALTER a TYPE {after}", then):
        update["params"] = select["params"] = [given]
        if change is not None:
            await call(bus, "execute", sql=change)
        assert (await call(bus, "execute", **update))["affected_rows"] == 1
        assert (await call(bus, "transaction", statements=[update, select]))["committed"]
        begun = (await call(bus, "beginTransaction"))["transaction"]["id"]
        for _ in range(2):
            assert (await call(bus, "transactionQuery", transaction_id=begun, **select))["rows"] == [{"count": 1}]
        await call(bus, "commitTransaction", transaction_id=begun)
        assert (await call(bus, "query", **select, read_only=True))["rows"] == [{"count": 1}]


async def test_a_statement_that_writes_survives_an_alter_in_every_kind_of_transaction(bus):
    await call(bus, "execute", sql="CREATE TABLE t (a int)")
    insert = {"sql": "INSERT INTO t VALUES (1) RETURNING *", "returning": ["a"]}
    for at in range(3):
        columns = {"a": 1, **{f"c{number}": None for number in range(at)}}
        begun = (await call(bus, "beginTransaction"))["transaction"]["id"]
        inside = await call(bus, "transactionExecute", transaction_id=begun, **insert)
        await call(bus, "commitTransaction", transaction_id=begun)
        assert inside["returned_rows"] == [columns]
        await call(bus, "execute", sql=f"ALTER TABLE t ADD c{at} int8")
        columns[f"c{at}"] = None
        assert (await call(bus, "execute", **insert))["returned_rows"] == [columns]
    assert await value(bus, "SELECT count(*) FROM t") == 6


async def test_isolation_is_what_was_asked_for(bus):
    show = "SELECT current_setting('transaction_isolation')"
    for level in ("read_committed", "repeatable_read", "serializable"):
        done = await call(bus, "transaction", statements=[show], isolation=level)
        assert done["results"][0]["rows"] == [[level.replace("_", " ")]]
        begun = (await call(bus, "beginTransaction", isolation=level))["transaction"]["id"]
        inside = await call(bus, "transactionQuery", transaction_id=begun, sql=show)
        assert inside["rows"] == [{"current_setting": level.replace("_", " ")}]
        await call(bus, "rollbackTransaction", transaction_id=begun)


async def test_a_failed_statement_takes_nothing_else_with_it(bus):
    await call(bus, "execute", sql="CREATE TABLE t (a int UNIQUE)")
    begun = (await call(bus, "beginTransaction"))["transaction"]["id"]
    inside = {"transaction_id": begun}
    for number in (1, 2, 3):
        await call(bus, "transactionExecute", **inside, sql="INSERT INTO t VALUES (?)", params=[number])
        error = await refused(bus, "transactionExecute", **inside, sql="INSERT INTO t VALUES (1)")
        assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "23505")
    assert (await refused(bus, "transactionQuery", **inside, sql="SELECT 1 / 0")).details["inner_code"] == "22012"
    await call(bus, "commitTransaction", **inside)
    assert await value(bus, "SELECT array_agg(a ORDER BY a) FROM t") == [1, 2, 3]


async def test_a_password_is_in_no_listing(postgres_url):
    password = postgres_url.partition("://")[2].partition("@")[0].partition(":")[2]
    async with of_one(postgres_url) as bus:
        assert password
        assert password not in str(await call(bus, "listDatabases"))


async def test_a_new_statement_runs_in_the_isolation_that_is_asked_for(postgres_url):
    async with running(postgres_url) as bus:
        for level in ("serializable", "repeatable_read"):
            statements = [f"SELECT current_setting('transaction_isolation') AS {level}"]
            answer = await call(bus, "transaction", statements=statements, isolation=level)
            assert answer["results"][0]["rows"] == [[level.replace("_", " ")]]
