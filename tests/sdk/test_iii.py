"""`linkly.iii`: a program written for iii's Python SDK."""

import asyncio
import logging
import subprocess
import sys
import threading

import pytest

from linkly import Client, Function, trigger
from linkly.bus import Invocation
from linkly.context import current_invocation
from linkly.iii import InitOptions, InvocationError, Logger, TriggerAction, register_worker
from support.serving import serving


@pytest.fixture
async def url():
    async with serving() as (_, server):
        yield server.url


async def in_thread(url, program):
    """Run a program as its author wrote it: blocking, beside the engine's loop."""

    def run():
        worker = register_worker(url, InitOptions(worker_name="written-for-iii"))
        try:
            return program(worker)
        finally:
            worker.shutdown()

    return await asyncio.to_thread(run)


async def test_plain_and_async_handlers_are_called_with_the_payload(url):
    def program(worker):
        worker.register_function("math::add", lambda data: data["a"] + data["b"])

        async def nested(data: dict[str, int]):
            return await worker.trigger_async({"function_id": "math::add", "payload": data})

        worker.register_function("math::nested", nested)
        request = {"payload": {"a": 1, "b": 2}}
        return [worker.trigger({"function_id": f"math::{name}", **request}) for name in ("add", "nested")]

    assert await in_thread(url, program) == [3, 3]


async def test_a_plain_handler_may_trigger_and_wait(url):
    def program(worker):
        worker.register_function("a::inner", lambda data: "inner")
        worker.register_function("a::outer", lambda data: worker.trigger({"function_id": "a::inner", "payload": {}}))
        return worker.trigger({"function_id": "a::outer", "payload": {}})

    assert await in_thread(url, program) == "inner"


async def test_metadata_reaches_a_handler_that_asks_for_it(url):
    def program(worker):
        def handler(data, metadata=None):
            return metadata

        worker.register_function("a::meta", handler)
        return worker.trigger({"function_id": "a::meta", "payload": {}, "metadata": {"k": 1}})

    assert await in_thread(url, program) == {"k": 1}


async def test_errors_have_iiis_attributes(url):
    def program(worker):
        def broken(data):
            raise RuntimeError("on purpose")

        worker.register_function("a::broken", broken)
        errors = []
        for function_id in ("a::broken", "no::such"):
            with pytest.raises(InvocationError) as caught:
                worker.trigger({"function_id": function_id, "payload": {}})
            errors.append(caught.value)
        return errors

    broken, missing = await in_thread(url, program)
    assert (broken.code, broken.message, broken.function_id) == ("invocation_failed", "on purpose", "a::broken")
    assert "RuntimeError" in broken.stacktrace
    assert missing.code == "function_not_found"


async def test_a_call_times_out_after_timeout_ms(url):
    released = threading.Event()

    def program(worker):
        worker.register_function("a::slow", lambda data: released.wait(10))
        with pytest.raises(InvocationError) as caught:
            worker.trigger({"function_id": "a::slow", "payload": {}, "timeout_ms": 50})
        released.set()
        return caught.value.code

    assert await in_thread(url, program) == "TIMEOUT"


async def test_void_and_enqueue_actions(url):
    def program(worker):
        called, queued = threading.Event(), []
        worker.register_function("a::note", lambda data: called.set())
        worker.register_function("engine::queue::enqueue", lambda data: queued.append(data))
        assert worker.trigger({"function_id": "a::note", "payload": {}, "action": TriggerAction.Void()}) is None
        assert called.wait(10)
        receipt = worker.trigger(
            {"function_id": "a::note", "payload": {"x": 1}, "action": TriggerAction.Enqueue(queue="q")}
        )
        return receipt, queued[0]

    receipt, queued = await in_thread(url, program)
    assert receipt == {"messageReceiptId": queued["messageReceiptId"]}
    assert (queued["queue"], queued["function_id"], queued["data"]) == ("q", "a::note", {"x": 1})


@pytest.mark.parametrize(
    "action", [{"type": "enqueue", "queue": "q", "delay_ms": 5}, TriggerAction.Enqueue(queue="q", delay_ms=5)]
)
async def test_an_enqueue_may_have_linklys_options(url, action):
    def program(worker):
        queued = []
        worker.register_function("engine::queue::enqueue", lambda data: queued.append(data))
        worker.trigger({"function_id": "a::note", "payload": {}, "action": action})
        return queued[0]["delay_ms"]

    assert await in_thread(url, program) == 5


async def test_a_trigger_type_is_bound_and_unbound(url):
    def program(worker):
        told = []
        bound, unbound = threading.Event(), threading.Event()

        class Handler:
            async def register_trigger(self, config):
                told.append((config.function_id, config.config))
                bound.set()

            async def unregister_trigger(self, config):
                told.append("unbound")
                unbound.set()

        worker.register_trigger_type({"id": "tick", "description": "d"}, Handler())
        trigger = worker.register_trigger({"type": "tick", "function_id": "a::b", "config": {"n": 1}})
        assert bound.wait(10)
        trigger.unregister()
        assert unbound.wait(10)
        return told

    assert await in_thread(url, program) == [("a::b", {"n": 1}), "unbound"]


async def test_registering_again_after_unregistering_works(url):
    def program(worker):
        reference = worker.register_function("a::x", lambda data: 1)
        reference.unregister()
        with pytest.raises(InvocationError, match="function_not_found"):
            worker.trigger({"function_id": "a::x", "payload": {}})
        worker.register_function("a::x", lambda data: 2)
        return worker.trigger({"function_id": "a::x", "payload": {}})

    assert await in_thread(url, program) == 2


async def test_waiting_inside_an_async_handler_is_refused_with_the_way_out(url):
    def program(worker):
        async def wrong(data):
            return worker.trigger({"function_id": "a::x", "payload": {}})

        worker.register_function("a::wrong", wrong)
        with pytest.raises(InvocationError, match="_async twin"):
            worker.trigger({"function_id": "a::wrong", "payload": {}})

    await in_thread(url, program)


def test_log_lines_carry_their_data(caplog):
    caplog.set_level("DEBUG", "shop")
    logger = Logger(service_name="shop")
    logger.info("order", {"id": 1})
    logger.warn("w")
    logger.error("e")
    logger.debug("d")
    assert [record.message for record in caplog.records] == ['order {"id":1}', "w", "e", "d"]


async def test_log_lines_of_a_handler_reach_the_engine_with_their_context(url):
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    logged = asyncio.Event()

    async def note(payload):
        if payload["body"] == "order":
            logged.set()

    async with Client(url, name="reader") as reader:
        reader.register_function(Function("reader::note", note))
        reader.register_trigger("reader::note", trigger("log", {"level": "warn"}))
        await reader.trigger("engine::functions::list")  # the engine has dealt with both

        def program(worker):
            worker.register_function("shop::buy", lambda data: Logger().warn("order", {"id": data["id"]}))
            worker.trigger({"function_id": "engine::functions::list"})  # the engine knows it now, whoever asks
            asyncio.run_coroutine_threadsafe(call(), loop).result(10)

        async def call():
            token = current_invocation.set(Invocation(function_id="test", traceparent=f"00-{trace}-{span}-01"))
            await reader.trigger("shop::buy", {"id": 7})
            current_invocation.reset(token)

        loop = asyncio.get_running_loop()
        await in_thread(url, program)
        async with asyncio.timeout(10):
            await logged.wait()
        (line,) = (await reader.trigger("engine::logs::list", {"trace_id": trace}))["logs"]
    assert (line["severity_text"], line["body"], line["attributes"]) == ("WARN", "order", {"log.data": {"id": 7}})
    assert (line["service_name"], line["trace_id"]) == ("written-for-iii", trace)


def test_a_line_that_reaches_the_engine_is_not_printed_here_as_well(capsys, monkeypatch):
    taken = []
    monkeypatch.setattr("linkly.iii.logger.senders", [lambda level, line: not taken.append((level, line))])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    Logger(service_name="shop", trace_id="t").error("no stock", {"left": object})
    data = {"log.data": {"left": "<class 'object'>"}}
    line = {"message": "no stock", "data": data, "trace_id": "t", "span_id": None}
    assert taken == [("error", {**line, "service_name": "shop"})]
    assert capsys.readouterr().err == ""


# --- the end of a program -----------------------------------------------------------------------------------

LINGERS = """
import sys
from linkly.iii import InitOptions, register_worker

worker = register_worker(sys.argv[1], InitOptions(worker_name="lingers"))

async def hello(data):
    return await worker.trigger_async({"function_id": "test::name", "payload": {}})

worker.register_function("lingers::hello", hello)
"""


async def there(engine, bus, function_id):
    """Wait until a function is registered; `engine::functions-available` says when it may be."""
    changed = asyncio.Event()

    async def note(payload):
        changed.set()

    noting = bus.register_function(Function("test::note", note))
    bus.register_trigger("test::note", trigger("engine::functions-available"))
    async with asyncio.timeout(30):
        while engine.tables.functions.find("default", function_id) is None:
            await changed.wait()
            changed.clear()
    noting.unregister()


async def test_a_program_that_ends_behind_its_registrations_goes_on_serving():
    async with serving() as (engine, server):
        url = server.url.replace("127.0.0.1", "localhost")  # a name: it has to be looked up again after the end
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", LINGERS, url, stderr=subprocess.PIPE)
        try:
            bus = engine.bus("test")

            async def name(payload):
                return "Ann"

            bus.register_function(Function("test::name", name))
            await there(engine, bus, "lingers::hello")
            assert await bus.trigger("lingers::hello") == "Ann"
            # A connection that is cut comes back although the program's own code has ended long ago.
            (peer,) = [peer for peer in engine.peers.values() if peer.record.name == "lingers"]
            peer.cut("on purpose")
            assert engine.tables.functions.find("default", "lingers::hello") is None
            await there(engine, bus, "lingers::hello")
            assert await bus.trigger("lingers::hello") == "Ann"
            assert process.returncode is None
        finally:
            process.terminate()
            await process.communicate()
