"""A signal while a call is being served."""

import asyncio
import signal

from linkly import Client, Function


async def serve_slowly(client, started, may_finish):
    async def slow(payload):
        started.set()
        await may_finish.wait()
        return "finished"

    client.register_function(Function("slow::call", slow))
    # Frames of one connection are served in order: the answer says that the registration has arrived.
    await client.trigger("engine::workers::list")


async def test_a_call_in_flight_is_finished_before_the_engine_stops(linkly):
    linkly.start()
    url = linkly.url
    started, may_finish = asyncio.Event(), asyncio.Event()
    async with Client(url, name="worker") as worker, Client(url, name="caller") as caller:
        await serve_slowly(worker, started, may_finish)
        call = asyncio.create_task(caller.trigger("slow::call"))
        await asyncio.wait_for(started.wait(), 30)
        ending = asyncio.create_task(asyncio.to_thread(linkly.end, signal.SIGTERM))
        # The port closes first: when nobody can connect any more, the engine is draining.
        await until_refused(linkly.worker_port)
        assert not ending.done()
        may_finish.set()
        assert await asyncio.wait_for(call, 30) == "finished"
        assert await asyncio.wait_for(ending, 30) == 0


async def test_a_second_signal_forces_the_end(linkly):
    linkly.start()
    url = linkly.url
    started, never = asyncio.Event(), asyncio.Event()
    async with Client(url, name="worker") as worker, Client(url, name="caller") as caller:
        await serve_slowly(worker, started, never)
        call = asyncio.create_task(caller.trigger("slow::call"))
        await asyncio.wait_for(started.wait(), 30)
        linkly.send(signal.SIGTERM)
        await until_refused(linkly.worker_port)
        assert await asyncio.to_thread(linkly.end, signal.SIGTERM) == 130
        call.cancel()


async def test_a_write_behind_an_open_transaction_is_done_before_the_engine_stops(linkly):
    linkly.start()
    url = linkly.url
    async with Client(url, name="forgetful") as forgetful, Client(url, name="caller") as caller:
        await caller.trigger("database::execute", {"sql": "CREATE TABLE a (x TEXT)"})
        transaction = (await forgetful.trigger("database::beginTransaction"))["transaction"]["id"]
        insert = "INSERT INTO a VALUES (?)"
        left = {"transaction_id": transaction, "sql": insert, "params": ["left open"]}
        await forgetful.trigger("database::transactionExecute", left)
        waiting = asyncio.create_task(caller.trigger("database::execute", {"sql": insert, "params": ["waits"]}))
        await caller.trigger("engine::workers::list")  # answered in order: the insert has arrived
        assert not waiting.done()
        ending = asyncio.create_task(asyncio.to_thread(linkly.end, signal.SIGTERM))
        assert (await asyncio.wait_for(waiting, 30))["affected_rows"] == 1
        assert await asyncio.wait_for(ending, 30) == 0
    linkly.start()
    answer = linkly.trigger("database::query", "sql=SELECT x FROM a")
    assert "waits" in answer.stdout
    assert "left open" not in answer.stdout


async def until_refused(port):
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it was in the queue of the listener that closed
                continue
            writer.transport.abort()
