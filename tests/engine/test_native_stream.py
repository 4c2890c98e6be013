"""Native frames on a real socket: what is well formed is dealt with however it comes, what is not harms nobody else."""

import asyncio
import json
import struct
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from linkly import Client, Function
from linkly.errors import InvalidResult, LinklyError
from linkly.testing import settle
from linkly.wire import native_stream
from linkly.wire.messages import MAX_MESSAGE_BYTES
from linkly_engine.core.changes import WorkerGone
from linkly_engine.remote.forwarding import PENDING_LIMIT
from support.raw_client import WAIT_S
from support.raw_native import (
    CALL,
    CANCEL,
    CLOSE,
    ERROR,
    MESSAGE,
    PING,
    PONG,
    REQUEST,
    RESULT,
    answer,
    call,
    frame,
    message,
    parts_of_call,
    raw_native,
    upgraded,
)
from support.serving import serving


async def echo(payload):
    return payload


@asynccontextmanager
async def pair(*function_ids, port=None):
    """Yield an engine, a caller and a callee that serves these functions."""
    async with serving() as (engine, server), raw_native(server.port) as caller, raw_native(server.port) as callee:
        await callee.register(*(function_ids or ("far::f",)), name="callee")
        yield engine, caller, callee


async def goes_on(client):
    """Return whether a connection is alive and answers."""
    return await client.call("engine::statistics") is not None


def number_of(body):
    return struct.unpack_from(">Q", body)[0]


async def test_frames_may_come_byte_by_byte():
    async with serving() as (engine, server):
        bus = engine.bus("near")
        bus.register_function(Function("near::echo", echo))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.transport.set_write_buffer_limits(high=0)
        for byte in REQUEST + b"\r\n" + call(7, "near::echo", b'{"a":1}') + frame(PING):
            writer.write(bytes((byte,)))
            await settle(2)
        async with asyncio.timeout(WAIT_S):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(answer(RESULT, 7, b'{"a":1}'))
        writer.close()


@pytest.mark.parametrize("cut", range(1, 60, 7))
async def test_frames_may_be_split_anywhere(cut):
    async with pair() as (_, caller, callee):
        data = call(1, "far::f", b'"' + b"x" * 60 + b'"') * 1 + call(2, "far::f", b"2")
        caller.write(data[:cut])
        await settle()
        caller.write(data[cut:])
        numbers = [parts_of_call((await callee.until(CALL))[1]) for _ in range(2)]
        for number, _, _, payload in numbers:
            callee.write(answer(RESULT, number, payload))
        answers = [(await caller.until(RESULT))[1] for _ in range(2)]
        assert [number_of(each) for each in answers] == [1, 2]


async def test_a_forwarded_call_has_the_callers_id_and_its_payload_as_it_came():
    async with pair() as (_, caller, callee):
        caller.write(call(2**64 - 1, "far::f", b'{ "a" : 1 }'))
        number, caller_id, function_id, payload = parts_of_call((await callee.until(CALL))[1])
        assert (caller_id, function_id, payload) == (caller.worker_id, "far::f", b'{ "a" : 1 }')
        callee.write(answer(RESULT, number, b" [2] "))
        assert (await caller.until(RESULT))[1] == struct.pack(">Q", 2**64 - 1) + b" [2] "


async def test_calls_that_come_together_arrive_in_order_whatever_stands_between_them():
    async with pair("far::f", "far::g") as (_, caller, callee):
        caller.write(
            call(1, "far::f", b"1")
            + call(2, "far::f", b"2")
            + call(3, "far::g", b"3")
            + call(2, "far::g", b"again")  # is being served
            + frame(PING)
            + call(4, "far::f", b"4", hops=65)  # refused
            + call(0, "far::f", b"5")  # nobody waits
            + call(6, "far::f", b"6", hops=1)
            + call(7, "far::nowhere", b"7")
            + message(type="invokefunction", invocation_id="a", function_id="far::f", data=8)
            + call(9, "far::g", b"9")
        )
        came = [parts_of_call((await callee.until(CALL))[1]) for _ in range(7)]
        assert [function_id + payload.decode() for _, _, function_id, payload in came] == [
            "far::f1",
            "far::f2",
            "far::g3",
            "far::f5",
            "far::f6",
            "far::f8",
            "far::g9",
        ]
        assert await callee.nothing_more() == []
        callee.write(b"".join(answer(RESULT, number, payload) for number, _, _, payload in came))
        await callee.nothing_more()
        answers = {number_of(body): kind for kind, body in await caller.nothing_more() if kind in (RESULT, ERROR)}
        assert answers == {4: ERROR, 7: ERROR, **dict.fromkeys((1, 2, 3, 6, 9), RESULT)}


async def test_answers_that_come_together_reach_whoever_waits_for_each():
    async with serving() as (_, server), AsyncExitStack() as stack:
        callee, *callers = [await stack.enter_async_context(raw_native(server.port)) for _ in range(3)]
        await callee.register("far::f")
        for caller in callers:
            for number in range(1, 7):
                caller.write(call(number, "far::f", b"%d" % number))
            await caller.nothing_more()
        calls = [parts_of_call(body) for kind, body in await callee.nothing_more() if kind == CALL]
        assert len(calls) == 12
        order = sorted(calls, key=lambda each: each[3])  # each caller's in turn
        order[4:4] = [(99, "", "", b"nobody's")]
        callee.write(
            b"".join(answer(ERROR if value == b"6" else RESULT, number, value) for number, _, _, value in order)
        )
        await callee.nothing_more()
        for caller in callers:
            came = [(kind, number_of(body), body[8:]) for kind, body in await caller.nothing_more()]
            assert came == [(RESULT, number, b"%d" % number) for number in range(1, 6)] + [(ERROR, 6, b"6")]


async def test_what_a_caller_says_about_who_it_is_does_not_count():
    async with pair() as (_, caller, callee):
        route = b"\xff\xfffar::f"
        head = struct.pack(">QIBBHI", 1, 2**32 - 1, 0, 4, len(route), 0)
        caller.write(frame(CALL, head + b"fake" + route + b"1"))
        assert parts_of_call((await callee.until(CALL))[1])[1] == caller.worker_id


async def test_a_message_that_was_cut_off_by_the_end_ends_nobody_else():
    async with pair() as (engine, caller, callee):
        gone = asyncio.Event()
        engine.tables.observe(lambda change: gone.set(), WorkerGone)
        callee.write(answer(RESULT, 1)[:-3])
        callee.writer.write_eof()  # a half-close is an end
        assert await callee.end() == b""
        await gone.wait()
        kind, error = await caller.call("far::f")
        assert (kind, error["code"]) == (ERROR, "function_not_found")


@pytest.mark.parametrize(
    "head, code", [(struct.pack(">IB", MAX_MESSAGE_BYTES + 1, CALL), 1009), (struct.pack(">IB", 0, CALL), 1002)]
)
async def test_a_length_that_no_frame_has_ends_the_connection_with_a_code(head, code):
    async with pair() as (_, caller, callee):
        caller.write(head)
        kind, body = await caller.until(CLOSE)
        assert (kind, struct.unpack_from(">H", body)[0]) == (CLOSE, code)
        assert await caller.end() == b""
        assert await goes_on(callee)


ROUTE = b"\xff\xfffar::f"


@pytest.mark.parametrize(
    "hostile",
    [
        frame(200, b"unknown"),
        frame(CALL),
        frame(CALL, b"\0\0\0\0\0\0\0\1cut off"),
        frame(CALL, struct.pack(">QIBBHI", 0, 0, 0, 0, 60000, 2**32 - 1) + ROUTE),
        frame(CALL, struct.pack(">QIBBHI", 0, 0, 0, 0, len(ROUTE), 3) + ROUTE + b"\xc1\xc1\xc1"),
        frame(RESULT),
        frame(RESULT, b"\0"),
        frame(ERROR, b"\0\0\0\0\0\0\0\7{"),
        frame(CANCEL, b"\0\0"),
        answer(CANCEL, 2**63),
        answer(RESULT, 2**63, b"1"),
        frame(MESSAGE, b"no JSON"),
        frame(MESSAGE, b""),
        frame(MESSAGE, b'{"type":"nothing"}'),
        frame(PONG, b"more"),
        frame(PING, b"more"),
    ],
)
async def test_a_frame_that_says_nothing_is_dropped_and_the_connection_goes_on(hostile):
    async with pair() as (_, caller, callee):
        for client in (caller, callee):
            client.write(hostile * 2)
            assert await goes_on(client)


@pytest.mark.parametrize(
    "broken",
    [
        call(5, "far::f", b"1")[:-8] + b"\0" * 7,  # the names are cut off
        frame(CALL, struct.pack(">QIBBHI", 5, 9, 0, 200, len(ROUTE), 0) + ROUTE),
        frame(CALL, struct.pack(">QIBBHI", 5, 9, 0, 0, len(ROUTE), 3) + ROUTE + b"\xc1\xc1\xc1"),
        frame(CALL, struct.pack(">QIBBHI", 5, 9, 0, 0, 5, 0) + b"\0\x09abc"),
        call(5, "engine::statistics", b'{"a":'),
        call(5, "engine::statistics", b'"\xff"'),
    ],
)
async def test_a_call_that_cannot_be_read_is_answered(broken):
    async with pair() as (_, caller, _):
        fixed = struct.pack(">I", len(broken) - 4) + broken[4:]
        caller.write(fixed)
        kind, body = await caller.until(ERROR)
        assert (kind, number_of(body)) == (ERROR, 5)


@pytest.mark.parametrize("number", [{"hops": -5}, {"timeout_ms": 10**400}])
async def test_a_call_as_a_message_with_a_number_that_means_nothing_is_answered(number):
    async with pair() as (_, caller, _):
        caller.write(message(type="invokefunction", invocation_id="a", function_id="far::f", **number))
        told = json.loads((await caller.until(MESSAGE))[1])
        assert (told["invocation_id"], told["error"]["code"]) == ("a", "invalid_frame")
        assert await goes_on(caller)


@pytest.mark.parametrize("value", [b'{"a":', b'"\xff"'])
async def test_a_broken_value_reaches_no_client_of_the_other_framing(value):
    async with pair() as (_, caller, callee), AsyncExitStack() as stack:
        server_url = f"ws://127.0.0.1:{caller.writer.get_extra_info('peername')[1]}"
        other = await stack.enter_async_context(_json_client(server_url))
        asked = asyncio.create_task(other.trigger("far::f", 1))
        number = parts_of_call((await callee.until(CALL))[1])[0]
        callee.write(answer(RESULT, number, value))
        with pytest.raises(LinklyError) as failed:
            await asked
        assert failed.value.code == "serialization_error"
        other.register_function(Function("other::f", echo))
        await other.trigger("engine::statistics")
        caller.write(call(9, "other::f", value))
        _kind, body = await caller.until(ERROR)
        assert number_of(body) == 9
        assert await other.trigger("engine::statistics")


@pytest.mark.parametrize("value", [b'{"a":', b'"\xff"', b"[" * 5000, b"1e999"])
@pytest.mark.parametrize("kind", ["native", "json", "in process"])
async def test_a_caller_is_told_that_an_answer_is_broken(kind, value):
    async with pair() as (engine, caller, callee), AsyncExitStack() as stack:
        url = f"ws://127.0.0.1:{caller.writer.get_extra_info('peername')[1]}"
        other = engine.bus("near")
        if kind != "in process":
            other = await stack.enter_async_context(Client(url) if kind == "native" else _json_client(url))
        asked = asyncio.create_task(other.trigger("far::f", 1))
        callee.write(answer(RESULT, parts_of_call((await callee.until(CALL))[1])[0], value))
        with pytest.raises(InvalidResult, match=r"answer .*cannot be read"):
            await asked


def _json_client(url):
    from linkly.wire.dialer import PortDialer

    return Client(url, name="other", dialer=PortDialer(url, native=False))


async def test_a_call_whose_id_is_being_served_is_taken_once():
    async with pair() as (_, caller, callee):
        caller.write(call(1, "far::f", b"1") * 3)
        first = parts_of_call((await callee.until(CALL))[1])[0]
        assert [kind for kind, _ in await callee.nothing_more()] == []
        callee.write(answer(RESULT, first, b"1") * 2)
        assert [kind for kind, _ in await caller.nothing_more()].count(RESULT) <= 1
        caller.write(call(1, "far::f", b"2"))  # the id is free again
        assert parts_of_call((await callee.until(CALL))[1])[3] == b"2"


async def test_a_cancellation_reaches_who_serves_the_call():
    async with pair() as (_, caller, callee):
        caller.write(call(1, "far::f"))
        number = parts_of_call((await callee.until(CALL))[1])[0]
        caller.write(answer(CANCEL, 1))
        assert number_of((await callee.until(CANCEL))[1]) == number
        callee.write(answer(RESULT, number, b"late"))
        assert await goes_on(callee)
        assert [kind for kind, _ in await caller.nothing_more()] == []


async def test_a_cancellation_that_crosses_the_answer_is_nothing_to_a_later_call_with_that_id():
    async with pair() as (_, caller, callee):
        for _ in range(2):
            caller.write(call(1, "far::f"))
            callee.write(answer(RESULT, parts_of_call((await callee.until(CALL))[1])[0], b'"mine"'))
            while (await caller.until(RESULT))[1] != struct.pack(">Q", 1) + b'"mine"':
                pass
            waiting = b"".join(call(number, "engine::workers::list") for number in range(2, 300))
            caller.write(waiting + answer(CANCEL, 1))  # overtakes those that wait for their turn
            await caller.nothing_more()


async def test_a_caller_that_goes_cancels_its_calls():
    async with pair() as (_, caller, callee):
        caller.write(call(1, "far::f") + call(2, "far::f"))
        numbers = {parts_of_call((await callee.until(CALL))[1])[0] for _ in range(2)}
        caller.writer.close()
        assert {number_of((await callee.until(CANCEL))[1]) for _ in range(2)} == numbers


async def test_a_callee_that_goes_ends_its_calls():
    async with pair() as (_, caller, callee):
        caller.write(call(1, "far::f"))
        await callee.until(CALL)
        callee.writer.transport.abort()
        _kind, body = await caller.until(ERROR)
        assert (number_of(body), json.loads(body[8:])["code"]) == (1, "invocation_stopped")


async def test_a_function_that_changes_hands_is_called_where_it_is():
    async with pair() as (engine, caller, callee):
        served = asyncio.create_task(caller.call("far::f"))
        number = parts_of_call((await callee.until(CALL))[1])[0]
        callee.write(answer(RESULT, number, b'"before"'))
        assert (await served)[1] == "before"
        callee.write(message(type="unregisterfunction", id="far::f"))
        await callee.nothing_more()
        assert (await caller.call("far::f"))[1]["code"] == "function_not_found"
        engine.bus("near").register_function(Function("far::f", echo))
        assert await caller.call("far::f", b'"after"') == (RESULT, "after")


async def test_a_call_nested_too_deeply_and_one_whose_time_is_over_are_refused():
    async with pair() as (_, caller, callee):
        assert (await caller.call("far::f", hops=65))[1]["code"] == "too_many_hops"
        assert (await caller.call("far::f", left_ms=0))[1]["code"] == "TIMEOUT"
        assert await callee.nothing_more() == []


async def test_a_connection_waits_for_so_many_answers_of_a_function_and_no_more():
    async with pair("far::f", "far::g") as (_, caller, callee):
        caller.write(b"".join(call(number, "far::f") for number in range(1, PENDING_LIMIT + 2)))
        _kind, body = await caller.until(ERROR)
        assert (number_of(body), json.loads(body[8:])["code"]) == (PENDING_LIMIT + 1, "overloaded")
        first = parts_of_call((await callee.until(CALL))[1])[0]
        callee.write(answer(RESULT, first))
        await caller.until(RESULT)
        caller.write(call(1, "far::f") + call(PENDING_LIMIT + 5, "far::g"))
        await caller.nothing_more()
        came = [parts_of_call(body)[2] for _, body in await callee.nothing_more()]
        assert came.count("far::f") == PENDING_LIMIT
        assert came.count("far::g") == 1


async def test_calls_of_a_worker_that_does_not_read_are_refused_and_it_is_cut(monkeypatch):
    monkeypatch.setattr("linkly.wire.connection.BUSY_BYTES", 1024 * 1024)
    monkeypatch.setattr("linkly.wire.connection.STUCK_BYTES", 32 * 1024 * 1024)
    async with serving() as (engine, server), raw_native(server.port) as callee, raw_native(server.port) as caller:
        await callee.register("far::f")
        callee.writer.transport.pause_reading()
        payload = b'"' + b"x" * 1024 * 1024 + b'"'
        number = 0
        while True:
            number += 1
            caller.write(call(number, "far::f", payload))
            await caller.writer.drain()
            caller.write(message(type="ping"))
            kind, body = await caller.until(ERROR, MESSAGE)
            if kind == ERROR:
                break
        assert json.loads(body[8:])["code"] == "overloaded"
        peer = engine.peers[callee.worker_id]
        monkeypatch.setattr("linkly.wire.connection.STUCK_BYTES", 1024)
        callee_gone = asyncio.Event()
        engine.tables.observe(lambda change: callee_gone.set(), WorkerGone)
        peer.connection.send(_notice())
        async with asyncio.timeout(WAIT_S):
            await callee_gone.wait()
        assert await goes_on(caller)


def _notice():
    from linkly.wire.messages import Pong

    return Pong()


async def test_a_ping_is_answered():
    async with pair() as (_, caller, _):
        caller.write(frame(PING))
        assert await caller.until(PONG) == (PONG, b"")


async def test_pings_of_a_peer_that_reads_nothing_are_not_answered():
    async with pair() as (engine, caller, _):
        stream = engine.peers[caller.worker_id].connection.stream
        stream.pause_writing()
        caller.write(frame(PING) * 1000)
        assert await caller.nothing_more() == []
        stream.resume_writing()
        caller.write(frame(PING))
        assert await caller.until(PONG) == (PONG, b"")


async def test_a_silent_peer_is_pinged_and_cut_when_it_says_nothing(monkeypatch):
    monkeypatch.setattr(native_stream, "PING_IDLE_S", 0.02)
    async with serving() as (_, server), raw_native(server.port) as client:
        await client.until(PING)
        assert set(await client.end()) <= set(frame(PING))


async def test_a_peer_that_answers_pings_is_not_cut(monkeypatch):
    monkeypatch.setattr(
        native_stream, "PING_IDLE_S", 0.2
    )  # longer than a busy machine takes for three turns of the loop
    async with serving() as (_, server), raw_native(server.port) as client:
        for _ in range(3):
            await client.until(PING)
            client.write(frame(PONG))
        assert await goes_on(client)


# --- the upgrade -------------------------------------------------------------------------------------------


async def test_a_request_may_bring_its_first_frames_along():
    async with serving() as (engine, server):
        engine.bus("near").register_function(Function("near::echo", echo))
        head, client = await upgraded(server.port, REQUEST + b"\r\n" + call(1, "near::echo", b"5"))
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: linkly-native/1\r\n")
        assert (await client.until(RESULT))[1][8:] == b"5"
        client.writer.close()


async def test_a_web_page_that_is_not_listed_gets_no_native_frames():
    async with serving(allowed_origins=["http://good.example"]) as (_, server):
        head, client = await upgraded(server.port, REQUEST + b"Origin: http://evil.example\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403")
        await client.end()
        head, client = await upgraded(server.port, REQUEST + b"Origin: http://good.example\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        client.writer.close()


@pytest.mark.parametrize(
    "request_head, status",
    [
        (REQUEST.replace(b"GET / ", b"GET /otel ") + b"\r\n", b"400"),
        (REQUEST.replace(b"GET / ", b"POST / ") + b"\r\n", b"400"),
        (REQUEST.replace(b"linkly-native/1", b"linkly-native/9") + b"\r\n", b"400"),
        (b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET //[ HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
    ],
)
async def test_any_other_request_is_answered_as_one_for_a_websocket(request_head, status):
    async with serving() as (_, server):
        head, client = await upgraded(server.port, request_head)
        assert head.split()[1] == status
        await client.end()


async def test_a_client_that_sends_no_request_is_let_go():
    async with serving(handshake_timeout_s=0.05) as (_, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        async with asyncio.timeout(WAIT_S):
            assert await reader.read() == b""
        writer.close()


async def test_a_client_speaks_json_where_native_frames_cannot_be_had():
    async with serving() as (engine, server):

        async def pass_on(reader, writer):
            """A proxy that knows WebSockets only."""
            head = await reader.readuntil(b"\r\n\r\n")
            if b"linkly-native" in head:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                writer.close()
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", server.port)
            up_writer.write(head)

            async def copy(source, sink):
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer), return_exceptions=True)

        proxy = await asyncio.start_server(pass_on, "127.0.0.1", 0)
        async with Client(f"ws://127.0.0.1:{proxy.sockets[0].getsockname()[1]}", name="behind") as client:
            client.register_function(Function("behind::echo", echo))
            assert await client.trigger("behind::echo", {"a": 1}) == {"a": 1, "_caller_worker_id": client.worker_id}
            assert [peer.connection.native for peer in engine.peers.values()] == [False]
        proxy.close()


async def test_a_client_speaks_natively_by_itself():
    async with serving() as (engine, server), Client(server.url, name="near") as client:
        client.register_function(Function("near::echo", echo))
        big = {"text": "ü" * 3_000_000}
        assert await client.trigger("near::echo", big) == big
        assert [peer.connection.native for peer in engine.peers.values()] == [True]
