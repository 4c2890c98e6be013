"""`database::migrate`: numbered files, each once, whatever happens meanwhile."""

import asyncio
from pathlib import Path

import pytest

from linkly import Function, LinklyError, trigger
from linkly.testing import settle
from linkly_workers.database.backends import BACKENDS
from support.database_calls import call, running

URLS = {
    "sqlite file": "sqlite:{folder}/a.db",
    "sqlite memory": "sqlite::memory:",
    "scratch": "scratch:name",
    "postgres": "",
    "mariadb": "",
}
"""One of each backend; a new one gets a line here."""

NOTES = {"name": "0001_notes.sql", "sql": "CREATE TABLE notes (text VARCHAR(20));\nINSERT INTO notes VALUES ('a;b');\n"}
MORE = {"name": "0002_more.sql", "sql": "INSERT INTO notes VALUES ('two');"}
LAST = {"name": "0010_last.sql", "sql": "INSERT INTO notes VALUES ('last');"}

HOLD = {
    "postgres": "SELECT pg_advisory_xact_lock(hashtextextended('linkly ' || current_schema(), 0))",
    "mysql": "SELECT GET_LOCK(CONCAT('linkly ', SHA1(DATABASE())), 0)",
}
"""What keeps others from migrating where a transaction alone does not."""


@pytest.fixture(params=URLS)
def url(request, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "backends"))
    monkeypatch.setitem(BACKENDS, "scratch", "scratch_database")
    if request.param in ("postgres", "mariadb"):
        return request.getfixturevalue(f"{request.param}_url")
    return URLS[request.param].format(folder=tmp_path)


@pytest.fixture
async def bus(url):
    async with running(url) as bus:
        yield bus


async def migrate(bus, *files, **options):
    answer = await call(bus, "migrate", migrations=files, **options)
    return [each["name"] for each in answer["applied"]], answer["pending"]


async def refused(bus, *files, **options):
    with pytest.raises(LinklyError) as failure:
        await migrate(bus, *files, **options)
    return failure.value


async def query(bus, sql):
    return [tuple(row.values()) for row in (await call(bus, "query", sql=sql))["rows"]]


async def notes(bus):
    return [text for (text,) in await query(bus, "SELECT text FROM notes")]


async def tables(bus):
    return [table["name"] for table in (await call(bus, "listTables"))["tables"]]


async def test_files_run_in_the_order_of_their_numbers_and_once(bus):
    assert await migrate(bus, LAST, MORE, NOTES) == (["0001_notes.sql", "0002_more.sql", "0010_last.sql"], [])
    assert await notes(bus) == ["a;b", "two", "last"]
    assert await migrate(bus, NOTES, MORE, LAST) == ([], [])
    assert await notes(bus) == ["a;b", "two", "last"]
    kept = await query(bus, "SELECT id, name, length(checksum), length(applied_at) > 19 FROM linkly_migrations")
    assert [(int(number), *rest) for number, *rest in kept] == [
        (1, "0001_notes.sql", 64, 1),
        (2, "0002_more.sql", 64, 1),
        (10, "0010_last.sql", 64, 1),
    ]


async def test_a_new_file_runs_alone(bus):
    await migrate(bus, NOTES)
    assert await migrate(bus, NOTES, MORE) == (["0002_more.sql"], [])
    assert await notes(bus) == ["a;b", "two"]


async def test_what_would_run_is_listed_and_not_run(bus, url):
    # The table of what has run is made to be asked; on MySQL that commits by itself.
    before = ["linkly_migrations"] if url.startswith("mysql:") else await tables(bus)
    assert await migrate(bus, NOTES, MORE, dry_run=True) == ([], ["0001_notes.sql", "0002_more.sql"])
    assert await tables(bus) == before
    await migrate(bus, NOTES)
    assert await migrate(bus, NOTES, MORE, dry_run=True) == ([], ["0002_more.sql"])


async def test_as_many_files_run_as_are_asked_for(bus):
    assert await migrate(bus, NOTES, MORE, LAST, steps=2) == (["0001_notes.sql", "0002_more.sql"], ["0010_last.sql"])
    assert await migrate(bus, NOTES, MORE, LAST, steps=2) == (["0010_last.sql"], [])


@pytest.mark.parametrize(
    "files, reason, sentence",
    [
        ([NOTES, {**MORE, "sql": "DELETE FROM notes"}], "edited", "`0002_more.sql` was edited after it was applied"),
        ([NOTES], "missing", "`0002_more.sql` was applied and is missing now"),
        ([NOTES, {**MORE, "name": "0002_other.sql"}], "renamed", "`0002_other.sql` was applied as `0002_more.sql`"),
        ([{**LAST, "name": "0000_x.sql"}, NOTES, MORE], "unordered", "`0000_x.sql` comes before `0002_more.sql`"),
        ([NOTES, MORE, {**LAST, "name": "2_x.sql"}], "number", "`2_x.sql` has the number of `0002_more.sql`"),
        ([NOTES, MORE, {**LAST, "name": "last.sql"}], "name", "`last.sql` is no name of a migration"),
        ([NOTES, MORE, {**LAST, "sql": "\n--linkly: fast\n"}], "directive", "`0010_last.sql` says `--linkly: fast`"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
async def test_files_that_do_not_fit_what_was_applied_are_named(bus, files, reason, sentence, dry_run):
    await migrate(bus, NOTES, MORE)
    error = await refused(bus, *files, dry_run=dry_run)
    assert (error.code, error.details["reason"]) == ("MIGRATION_ERROR", reason)
    assert error.message.startswith(sentence)
    assert error.details["migration"] in sentence
    assert await notes(bus) == ["a;b", "two"]


async def test_other_line_ends_and_a_byte_order_mark_are_no_edit(bus):
    await migrate(bus, NOTES)
    again = {**NOTES, "sql": "\ufeff" + NOTES["sql"].replace("\n", "\r\n")}
    assert await migrate(bus, again) == ([], [])


async def test_a_file_that_fails_leaves_nothing_and_those_before_it_stay(bus, url):
    wrong = {"name": "3_wrong.sql", "sql": "CREATE TABLE other (a INT);\n\n-- Here:\nINSERT INTO missing VALUES (1);"}
    error = await refused(bus, NOTES, MORE, wrong, LAST)
    assert error.code == "DRIVER_ERROR"
    assert error.message.startswith("3_wrong.sql, line 4: ")
    assert error.details["migration"] == "3_wrong.sql"
    assert error.details["line"] == 4
    assert error.details["applied"] == ["0001_notes.sql", "0002_more.sql"]
    if url.startswith("mysql:"):  # where CREATE TABLE commits by itself
        await call(bus, "execute", sql="DROP TABLE other")
    assert "other" not in await tables(bus)
    right = {**wrong, "sql": "CREATE TABLE other (a INT);"}
    assert await migrate(bus, NOTES, MORE, right) == (["3_wrong.sql"], [])


@pytest.mark.parametrize("dry_run", [True, False])
async def test_transaction_control_is_refused_before_anything_runs(bus, dry_run):
    control = {"name": "2_control.sql", "sql": "INSERT INTO notes VALUES ('x');\nCOMMIT;"}
    error = await refused(bus, NOTES, control, dry_run=dry_run)
    assert error.code == "INVALID_PARAM"
    assert error.message.startswith("2_control.sql, line 2: ")
    assert "notes" not in await tables(bus)


async def test_callers_at_the_same_time_run_each_file_once(bus):
    files = [NOTES, MORE, LAST]
    answers = await asyncio.gather(*(migrate(bus, *files) for _ in range(5)))
    assert sorted(name for applied, _ in answers for name in applied) == [each["name"] for each in files]
    assert await notes(bus) == ["a;b", "two", "last"]


async def test_whoever_migrates_meanwhile_is_waited_for_so_long(bus, url):
    begun = await call(bus, "beginTransaction", isolation="serializable")
    hold = HOLD.get(url.partition(":")[0], "SELECT 1")
    await call(bus, "transactionExecute", transaction_id=begun["transaction"]["id"], sql=hold)
    error = await refused(bus, NOTES, lock_timeout_ms=20)
    assert (error.code, error.details["db"]) == ("LOCK_TIMEOUT", "primary")
    waiting = asyncio.create_task(migrate(bus, NOTES))
    await settle()
    await call(bus, "rollbackTransaction", transaction_id=begun["transaction"]["id"])
    assert await waiting == (["0001_notes.sql"], [])


async def test_rows_that_a_migration_changes_are_told(bus):
    told = asyncio.Queue()

    async def tell(event):
        told.put_nowait(event)

    await migrate(bus, NOTES)
    bus.register_function(Function("test::tell", tell))
    bus.register_trigger("test::tell", trigger("database::row-changed", {"db": "primary", "table": "notes"}))
    await settle()
    await migrate(bus, NOTES, MORE)
    event = await told.get()
    assert (event["op"], event["table"], event["affected_rows"]) == ("insert", "notes", 1)


# --- without transaction ------------------------------------------------------------------------------------

OUTSIDE = {"name": "2_outside.sql", "sql": "-- Big.\n\n-- linkly: no-transaction\nINSERT INTO notes VALUES ('out');"}


async def test_a_file_may_be_run_without_a_transaction(bus):
    assert await migrate(bus, NOTES, OUTSIDE, LAST) == (["0001_notes.sql", "2_outside.sql", "0010_last.sql"], [])
    assert await notes(bus) == ["a;b", "out", "last"]
    assert await migrate(bus, NOTES, OUTSIDE, LAST) == ([], [])


async def test_a_file_without_transaction_that_fails_runs_again_from_its_beginning(bus):
    wrong = {**OUTSIDE, "sql": OUTSIDE["sql"] + "INSERT INTO missing VALUES (1)"}
    error = await refused(bus, NOTES, wrong)
    assert error.message.startswith("2_outside.sql, line 4: ")
    assert await notes(bus) == ["a;b", "out"]
    assert await migrate(bus, NOTES, OUTSIDE) == (["2_outside.sql"], [])
    assert await notes(bus) == ["a;b", "out", "out"]


async def test_a_file_without_transaction_that_was_killed_is_named_until_somebody_has_looked(bus):
    await migrate(bus, NOTES, OUTSIDE)
    await call(bus, "execute", sql="UPDATE linkly_migrations SET applied_at = NULL WHERE id = 2")
    error = await refused(bus, NOTES, OUTSIDE, LAST, lock_timeout_ms=500)
    assert (error.code, error.details["reason"]) == ("MIGRATION_ERROR", "unfinished")
    assert "delete the row 2 of linkly_migrations" in error.message
    await call(bus, "execute", sql="DELETE FROM linkly_migrations WHERE id = 2")
    assert await migrate(bus, NOTES, OUTSIDE, LAST) == (["2_outside.sql", "0010_last.sql"], [])


async def test_a_file_without_transaction_is_waited_for(bus):
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)"
    slow = {**OUTSIDE, "sql": f"-- linkly: no-transaction\nINSERT INTO notes {many} SELECT 'n' FROM n WHERE i < 3"}
    await migrate(bus, NOTES)
    answers = await asyncio.gather(*(migrate(bus, NOTES, slow, LAST) for _ in range(3)))
    assert sorted(name for applied, _ in answers for name in applied) == ["0010_last.sql", "2_outside.sql"]
    assert await notes(bus) == ["a;b", "n", "n", "last"]


# --- SQLite -------------------------------------------------------------------------------------------------


@pytest.fixture
async def sqlite(tmp_path):
    async with running(f"sqlite:{tmp_path}/a.db") as bus:
        yield bus


async def test_triggers_and_vacuum_on_sqlite(sqlite):
    made = """
    CREATE TRIGGER twice AFTER INSERT ON notes WHEN NEW.text = 'two' BEGIN
        INSERT INTO notes SELECT CASE WHEN NEW.text = 'two' THEN 'twice' END;
        DELETE FROM notes WHERE text = 'a;b';
    END;
    INSERT INTO notes VALUES ('two');
    """
    vacuum = {"name": "3_vacuum.sql", "sql": "-- linkly: no-transaction\nVACUUM;"}
    assert (await refused(sqlite, NOTES, {**vacuum, "sql": "VACUUM"})).code == "DRIVER_ERROR"
    await migrate(sqlite, NOTES, {"name": "2_trigger.sql", "sql": made}, vacuum)
    assert await notes(sqlite) == ["two", "twice"]


async def test_a_caller_that_goes_away_leaves_nothing_of_the_file_that_runs(sqlite):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    await migrate(sqlite, NOTES)
    files = [NOTES, {"name": "2_endless.sql", "sql": f"CREATE TABLE other (a);\n{endless}"}]
    running = asyncio.create_task(migrate(sqlite, *files))
    writing = []
    while not (await call(sqlite, "listDatabases"))["databases"][0]["waiting_writes"]:
        # Waits as soon as the file has begun.
        writing.append(asyncio.create_task(call(sqlite, "execute", sql="INSERT INTO notes VALUES ('later')")))
        await settle()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    await asyncio.gather(*writing)
    assert "other" not in await tables(sqlite)
    assert await migrate(sqlite, *files, dry_run=True) == ([], ["2_endless.sql"])


# --- PostgreSQL ---------------------------------------------------------------------------------------------


@pytest.fixture
async def postgres(postgres_url):
    async with running(postgres_url) as bus:
        yield bus


async def test_functions_and_concurrent_indexes_on_postgres(postgres):
    made = """
    CREATE FUNCTION twice(text) RETURNS text LANGUAGE plpgsql AS $body$
    BEGIN
        RETURN $1 || '; ' || $1;
    END;
    $body$;
    INSERT INTO notes VALUES (twice('x'));
    """
    index = {"name": "3_index.sql", "sql": "-- linkly: no-transaction\nCREATE INDEX CONCURRENTLY i ON notes (text)"}
    error = await refused(postgres, NOTES, {**index, "sql": "CREATE INDEX CONCURRENTLY i ON notes (text)"})
    assert error.details["inner_code"] == "25001"
    applied, _ = await migrate(postgres, NOTES, {"name": "2_function.sql", "sql": made}, index)
    assert applied == ["2_function.sql", "3_index.sql"]
    assert await notes(postgres) == ["a;b", "x; x"]
    assert [each["name"] for each in (await call(postgres, "describeTable", table="notes"))["indexes"]] == ["i"]


async def test_engines_that_share_a_server_run_each_file_once(postgres, postgres_url):
    index = {"name": "3_index.sql", "sql": "-- linkly: no-transaction\nCREATE INDEX CONCURRENTLY i ON notes (text)"}
    files = [NOTES, MORE, index, LAST]
    async with running(postgres_url) as other:
        answers = await asyncio.gather(*(migrate(bus, *files) for bus in (postgres, other) * 3))
    assert sorted(name for applied, _ in answers for name in applied) == sorted(each["name"] for each in files)
    assert await notes(postgres) == ["a;b", "two", "last"]


async def test_a_table_that_somebody_uses_is_waited_for_so_long_on_postgres(postgres):
    await migrate(postgres, NOTES)
    inside = {"transaction_id": (await call(postgres, "beginTransaction"))["transaction"]["id"]}
    await call(postgres, "transactionQuery", **inside, sql="SELECT * FROM notes")
    alter = {"name": "2_alter.sql", "sql": "ALTER TABLE notes ADD more INT"}
    error = await refused(postgres, NOTES, alter, lock_timeout_ms=50)
    assert (error.details["inner_code"], error.details["migration"]) == ("55P03", "2_alter.sql")
    await call(postgres, "rollbackTransaction", **inside)
    assert await migrate(postgres, NOTES, alter) == (["2_alter.sql"], [])
    # The limit ended with the transaction.
    assert await query(postgres, "SHOW lock_timeout") == [("0",)]
