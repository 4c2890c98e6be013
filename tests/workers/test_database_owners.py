"""What a caller has opened in the database worker, when the caller goes; the caller is on a real socket."""

import asyncio
import itertools
import json
import sys
from contextlib import asynccontextmanager

import pytest
import websockets

from linkly import LinklyError, Worker, function
from linkly.testing import ManualClock, settle, wired
from linkly.worker import running
from linkly_workers.database.prepared import OWNERS_LIMIT, STATEMENTS_LIMIT, PreparedStatements
from support.database_calls import database_worker
from support.serving import serving as listening

WAIT_S = 20


class Caller:
    """A program of another kind: JSON over a WebSocket, frame by frame."""

    def __init__(self, socket):
        self.socket = socket
        self.numbers = itertools.count()

    async def call(self, function_id, data):
        invocation_id = f"00000000-0000-4000-8000-{next(self.numbers):012x}"
        frame = {"type": "invokefunction", "invocation_id": invocation_id, "function_id": function_id, "data": data}
        await self.socket.send(json.dumps(frame))
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = json.loads(await self.socket.recv())
                if answer.get("invocation_id") == invocation_id:
                    return answer["result"]

    async def begin(self, **options):
        return (await self.call("database::beginTransaction", options))["transaction"]["id"]

    async def announce(self):
        await self.call("engine::workers::register", {"name": "caller", "pid": 1})

    def cut(self):
        """End as a killed process does: without a goodbye."""
        self.socket.transport.abort()


class Serving:
    """An engine with a database, and what connects to it."""

    def __init__(self, engine, server, bus):
        self.engine, self.server, self.bus = engine, server, bus

    async def execute(self, sql):
        async with asyncio.timeout(WAIT_S):
            return await self.bus.trigger("database::execute", {"sql": sql})

    async def gone(self, stay=0):
        """Wait until the engine has noticed that callers have gone."""
        async with asyncio.timeout(WAIT_S):
            while sum(peer.record.name != "database" for peer in self.engine.peers.values()) > stay:
                await settle(1)

    @asynccontextmanager
    async def caller(self):
        async with websockets.connect(self.server.url, compression=None) as socket:
            yield Caller(socket)


@pytest.fixture(params=["in process", "native wire", "json wire"])
def serving(request, tmp_path):
    """Return what runs an engine with a database worker, inside it or as a remote one."""

    @asynccontextmanager
    async def start(clock=None, url=f"sqlite:{tmp_path}/a.db"):
        worker = database_worker(url)
        inside = [worker] if request.param == "in process" else []
        async with listening(*inside, clock=clock) as (engine, server):
            if inside:
                yield Serving(engine, server, engine.bus("test"))
                return
            native = request.param == "native wire"
            async with wired(engine, name="database", native=native) as remote, running(worker, remote):
                await settle()
                yield Serving(engine, server, engine.bus("test"))

    start.framing = request.param
    return start


async def test_a_transaction_ends_with_the_connection_of_the_worker_that_began_it(serving):
    async with serving() as serve:
        await serve.execute("CREATE TABLE t (a)")
        async with serve.caller() as caller:
            await caller.announce()
            name = await caller.begin(timeout_ms=300_000)
            insert = {"transaction_id": name, "sql": "INSERT INTO t VALUES (1)"}
            await caller.call("database::transactionExecute", insert)
            waiting = asyncio.create_task(serve.execute("INSERT INTO t VALUES (2)"))
            caller.cut()
            await waiting
        rows = await serve.bus.trigger("database::query", {"sql": "SELECT a FROM t"})
        assert rows["rows"] == [{"a": 2}]


async def test_whoever_uses_a_transaction_after_its_worker_is_told_why_it_is_over(serving):
    async with serving() as serve:
        async with serve.caller() as caller:
            await caller.announce()
            name = await caller.begin(isolation="serializable")
            caller.cut()
        await serve.execute("CREATE TABLE t (a)")  # it waits for the end of the transaction
        with pytest.raises(LinklyError, match="unknown or has ended"):
            await serve.bus.trigger("database::commitTransaction", {"transaction_id": name})


async def test_a_caller_that_never_named_itself_keeps_its_transaction_to_the_deadline(serving):
    clock = ManualClock()
    async with serving(clock) as serve:
        async with serve.caller() as caller:
            name = await caller.begin(timeout_ms=20_000)
        await serve.gone()
        async with serve.caller() as caller:
            await caller.call("database::transactionExecute", {"transaction_id": name, "sql": "CREATE TABLE t (a)"})
            waiting = asyncio.create_task(serve.execute("CREATE TABLE other (a)"))
            await settle(100)
            assert not waiting.done()
            await clock.advance(20.1)
            await waiting
        tables = await serve.bus.trigger("database::listTables", {})
        assert [table["name"] for table in tables["tables"]] == ["other"]


async def test_a_transaction_of_a_worker_that_has_gone_is_not_kept(serving):
    async with serving() as serve:
        await serve.execute("CREATE TABLE t (a)")
        holder = (await serve.bus.trigger("database::beginTransaction", {"isolation": "serializable"}))["transaction"]
        async with serve.caller() as caller:
            await caller.announce()
            frame = {
                "type": "invokefunction",
                "function_id": "database::beginTransaction",
                "data": {"isolation": "serializable", "timeout_ms": 300_000},
                "action": {"type": "void"},
            }
            await caller.socket.send(json.dumps(frame))
            await caller.call("engine::workers::list", {})  # the engine has taken the frame before
            caller.cut()
        await serve.bus.trigger("database::rollbackTransaction", {"transaction_id": holder["id"]})
        await serve.execute("INSERT INTO t VALUES (1)")


async def test_transactions_of_others_go_on_when_a_worker_goes(serving):
    async with serving() as serve:
        await serve.execute("CREATE TABLE t (a)")
        async with serve.caller() as staying, serve.caller() as leaving:
            await staying.announce()
            name = await staying.begin()
            await leaving.call("engine::workers::register", {"name": "leaving", "pid": 2})
            await leaving.begin()
            leaving.cut()
            await serve.gone(stay=1)
            await settle(50)
            insert = {"transaction_id": name, "sql": "INSERT INTO t VALUES (1)"}
            await staying.call("database::transactionExecute", insert)
            assert await staying.call("database::commitTransaction", {"transaction_id": name}) == {"committed": True}


async def test_nobody_is_watched_once_his_transactions_have_ended(serving):
    async with serving() as serve, serve.caller() as caller:
        await caller.announce()
        for _ in range(3):
            await caller.call("database::rollbackTransaction", {"transaction_id": await caller.begin()})
        await settle(50)
        watches = [each for each in serve.engine.tables.triggers.bindings if each.trigger_type == "engine::worker-gone"]
        assert watches == []


async def test_nobody_else_can_say_that_a_worker_is_gone(serving):
    async with serving() as serve, serve.caller() as caller:
        await caller.announce()
        name = await caller.begin()
        peer = next(iter(each for each in serve.engine.tables.workers if each.name == "caller"))
        await serve.bus.trigger("database::caller_gone", {"worker_id": peer.id}, metadata={"token": "x"})
        assert await caller.call("database::rollbackTransaction", {"transaction_id": name}) == {"rolled_back": True}


async def test_a_stopped_in_process_worker_takes_its_transactions_along(serving):
    class Holder(Worker):
        name = "holder"

        @function("holder::begin")
        async def begin(self) -> str:
            answer = await self.bus.trigger("database::beginTransaction", {"isolation": "serializable"})
            return answer["transaction"]["id"]

    if serving.framing == "json wire":
        pytest.skip("the JSON wire names remote callers only (docs/protocol.md 3.1)")
    async with serving() as serve:
        holder = Holder()
        await serve.engine.host.start(holder)
        await serve.bus.trigger("holder::begin")
        waiting = asyncio.create_task(serve.execute("CREATE TABLE t (a)"))
        await serve.engine.host.stop(holder)
        await waiting


async def test_a_killed_program_holds_up_nobody(serving):
    program = (
        "import asyncio, sys\n"
        "from linkly import Client\n"
        "async def main():\n"
        "    async with Client(sys.argv[1], name='victim') as bus:\n"
        "        await bus.trigger('database::beginTransaction', {'isolation': 'serializable', 'timeout_ms': 300000})\n"
        "        print('begun', flush=True)\n"
        "        await asyncio.Event().wait()  # it is killed\n"
        "asyncio.run(main())\n"
    )
    async with serving() as serve:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, serve.server.url, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), WAIT_S) == b"begun\n"
            waiting = asyncio.create_task(serve.execute("CREATE TABLE t (a)"))
        finally:
            process.kill()
            await process.wait()
        await waiting


def test_only_an_owner_of_too_many_statements_is_refused():
    statements = PreparedStatements()
    for _ in range(OWNERS_LIMIT):
        statements.add("greedy", None, "SELECT 1", 86_400, now=0)
    with pytest.raises(LinklyError, match="this worker has 1000 prepared statements"):
        statements.add("greedy", None, "SELECT 1", 86_400, now=0)
    handle = statements.add("modest", None, "SELECT 2", 10, now=0)
    assert statements.find(handle.id, now=9).sql == "SELECT 2"


def test_expired_statements_make_room_for_their_owner():
    statements = PreparedStatements()
    for _ in range(OWNERS_LIMIT):
        statements.add("greedy", None, "SELECT 1", 10, now=0)
    assert statements.add("greedy", None, "SELECT 2", 10, now=10).sql == "SELECT 2"


def test_whoever_has_the_most_statements_loses_his_oldest():
    statements = PreparedStatements()
    handles = [statements.add(f"many {n % 10}", None, "SELECT 1", 86_400, now=0) for n in range(STATEMENTS_LIMIT)]
    handle = statements.add("modest", None, "SELECT 2", 10, now=0)
    assert statements.find(handle.id, now=1).sql == "SELECT 2"
    with pytest.raises(LinklyError, match="prepare it again"):
        statements.find(handles[0].id, now=1)
