"""`linkly.atomic`: operations of a block that are sent as one call, and blocks that read in between."""

import asyncio
import contextvars

import pytest

import linkly
from linkly import Enqueue, LinklyError, Void
from linkly.atomic import ExpectationFailed, NotAtomic, WouldWaitForItself
from linkly.schema import read_settings
from linkly.testing import ManualClock, settle
from linkly_workers.state import StateSettings, StateWorker
from support.database_calls import WAIT_S, database_worker, execute, rows

SERVERS = {"postgres": "postgres_url", "mariadb": "mariadb_url"}
IDS = "SELECT id FROM t ORDER BY id"
INCREMENT = [{"type": "increment", "path": "n", "by": 1}]


@pytest.fixture(params=["sqlite", *SERVERS])
def url(request, tmp_path):
    return request.getfixturevalue(SERVERS[request.param]) if request.param in SERVERS else f"sqlite:{tmp_path}/a.db"


@pytest.fixture
async def bus(run, url):
    settings = {"adapter": {"name": "database", "config": {"db": "primary"}}}
    async with run(database_worker(url), StateWorker(read_settings(StateSettings, settings, "$"))) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        yield bus


async def ids(bus):
    return [row["id"] for row in await rows(bus, IDS)]


async def test_a_block_sends_its_operations_at_its_end_and_has_their_results(bus):
    async with linkly.atomic(bus) as tx:
        made = tx.execute("INSERT INTO t VALUES (?)", [1], expect_rows=1)
        count = tx.update_state("links", "count", INCREMENT)
        tx.set_state("links", "one", {"to": "world"})
        tx.delete_state("links", "none")
        assert await ids(bus) == []
        with pytest.raises(LookupError):
            _ = made.result
    assert made.result == {"affected_rows": 1, "rows": []}
    assert count.result["new_value"] == {"n": 1}
    assert await ids(bus) == [1]
    assert await bus.trigger("state::get", {"scope": "links", "key": "one"}) == {"to": "world"}


async def test_an_exception_inside_sends_nothing(bus):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with linkly.atomic(bus) as tx:
            tx.execute("INSERT INTO t VALUES (1)")
            _ = 1 / 0
    assert await ids(bus) == []


async def test_what_fails_is_raised_by_the_end_of_the_block(bus):
    with pytest.raises(ExpectationFailed) as failure:  # noqa: PT012
        async with linkly.atomic(bus, "primary") as tx:
            tx.execute("INSERT INTO t VALUES (1)")
            gone = tx.execute("DELETE FROM t WHERE id = 9", expect_rows=1)
    assert failure.value.details == {"expected": 1, "actual": 0, "failed_index": 1}
    assert await ids(bus) == []
    with pytest.raises(LookupError):
        _ = gone.result


async def test_a_block_that_is_repeated_under_its_key_has_the_first_results(bus):
    for repeated in (False, True):
        async with linkly.atomic(bus, idempotency_key="k") as tx:
            count = tx.update_state("links", "count", INCREMENT)
        assert tx.repeated is repeated
        assert count.result["new_value"] == {"n": 1}


async def test_a_block_without_operations_calls_nothing(bus):
    async with linkly.atomic(bus, "missing"):
        pass


async def test_a_job_is_an_operation_of_the_queue_and_void_is_none(bus):
    with pytest.raises(NotAtomic, match="queue::prepare"):  # noqa: PT012
        async with linkly.atomic(bus) as tx:
            tx.execute("INSERT INTO t VALUES (1)")
            tx.trigger("mail::send", {"order": 1}, action=Enqueue("mails", delay_ms=5))
    with pytest.raises(NotAtomic, match="use Enqueue"):
        async with linkly.atomic(bus) as tx:
            tx.trigger("mail::send", action=Void())
    assert await ids(bus) == []


async def test_an_interactive_block_reads_and_then_writes_all_or_nothing(bus):
    await execute(bus, "INSERT INTO t VALUES (4)")
    async with linkly.atomic(bus, interactive=True) as tx:
        [row] = await tx.query("SELECT max(id) AS id FROM t")
        made = tx.execute("INSERT INTO t VALUES (?)", [row["id"] + 1])
        count = tx.update_state("links", "count", INCREMENT)
    assert made.result["affected_rows"] == 1
    assert count.result["new_value"] == {"n": 1}
    assert await ids(bus) == [4, 5]


async def test_an_exception_in_an_interactive_block_leaves_nothing_and_holds_up_nobody(bus):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with linkly.atomic(bus, interactive=True) as tx:
            await tx.query("SELECT id FROM t")
            tx.execute("INSERT INTO t VALUES (1)")
            _ = 1 / 0
    await execute(bus, "INSERT INTO t VALUES (2)")
    assert await ids(bus) == [2]


async def test_a_failing_operation_rolls_an_interactive_block_back(bus):
    with pytest.raises(ExpectationFailed) as failure:  # noqa: PT012
        async with linkly.atomic(bus, interactive=True) as tx:
            await tx.query("SELECT id FROM t")
            tx.execute("INSERT INTO t VALUES (1)")
            tx.set_state("links", "one", 1)
            tx.execute("DELETE FROM t WHERE id = 9", expect_rows=1)
    assert failure.value.details["failed_index"] == 2
    await execute(bus, "INSERT INTO t VALUES (2)")
    assert await ids(bus) == [2]
    assert await bus.trigger("state::get", {"scope": "links", "key": "one"}) is None


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_call_inside_an_interactive_block_that_would_wait_for_it_fails_at_once(bus):
    insert = {"sql": "INSERT INTO t VALUES (1)"}
    place = {"scope": "links", "key": "one", "value": 1}
    async with asyncio.timeout(WAIT_S), linkly.atomic(bus, interactive=True, timeout_s=60) as tx:
        for function_id, payload in (
            ("database::execute", insert),
            ("database::query", insert),
            ("database::transaction", {"statements": [insert]}),
            ("database::atomic", {"operations": [insert]}),
            ("database::beginTransaction", {"isolation": "serializable"}),
            ("state::set", place),
        ):
            with pytest.raises(WouldWaitForItself, match="this call is made inside transaction"):
                await bus.trigger(function_id, payload)
        assert await bus.trigger("database::query", {"sql": "SELECT 1 AS one"}) is not None
        tx.execute("INSERT INTO t VALUES (2)")
    await bus.trigger("state::set", place)
    assert await ids(bus) == [2]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_calls_of_others_wait_for_an_interactive_block_and_do_not_fail(bus):
    async with asyncio.timeout(WAIT_S):
        async with linkly.atomic(bus, interactive=True, timeout_s=60) as tx:
            insert = execute(bus, "INSERT INTO t VALUES (1)")
            others = asyncio.get_running_loop().create_task(insert, context=contextvars.Context())
            await settle()
            assert not others.done()
            tx.execute("INSERT INTO t VALUES (2)")
        await others
    assert await ids(bus) == [1, 2]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_an_interactive_block_that_takes_too_long_is_rolled_back(run, url):
    clock = ManualClock()
    async with run(database_worker(url), clock=clock) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        with pytest.raises(LinklyError) as failure:  # noqa: PT012
            async with linkly.atomic(bus, interactive=True) as tx:
                await tx.query("INSERT INTO t VALUES (1)")
                await clock.advance(2.1)
        assert failure.value.code == "TRANSACTION_NOT_FOUND"
        await execute(bus, "INSERT INTO t VALUES (2)")
        assert await ids(bus) == [2]
