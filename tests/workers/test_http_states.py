"""States of a connection: what may follow what, and that nothing else does."""

import asyncio
import socket

import pytest
from uvicorn.server import ServerState

from linkly_workers.http.protocol import Common, GatewayProtocol
from linkly_workers.http.proxies import Proxies
from linkly_workers.http.response import Reply
from linkly_workers.http.states import FOLLOWS, ConnectionLimits, ImpossibleTransition, State
from linkly_workers.http.status_lines import StatusLines
from linkly_workers.http.writes import Writes

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
LIMITS = ConnectionLimits(head_bytes=1000, target_bytes=100, head_s=10, body_s=10, idle_s=10)


@pytest.fixture
async def connection():
    """Make a connection whose requests are answered when `may_answer` is set; its client's end is `client`."""
    may_answer, changed = asyncio.Event(), asyncio.Event()

    async def answer(exchange):
        await may_answer.wait()
        exchange.answer(Reply(204, [], b""))

    loop = asyncio.get_running_loop()
    made = GatewayProtocol(
        Common(
            serve=lambda exchange: exchange.connection.run(answer(exchange)),
            limits=LIMITS,
            proxies=Proxies([]),
            monotonic=loop.time,
            lines=StatusLines(),
            writes=Writes(),
            changed=changed.set,
        ),
        server_state=ServerState(),
    )
    made.may_answer, made.answer_sent = may_answer, changed
    near, far = socket.socketpair()
    near.setblocking(False)
    with far:
        transport, _ = await loop.create_connection(lambda: made, sock=near)
        yield made
        may_answer.set()
        transport.abort()
        while made.state is not State.LOST:
            changed.clear()
            await changed.wait()


def test_the_table_has_every_state_and_each_may_be_lost_once():
    assert len(FOLLOWS) == len(State)
    for state, following in zip(State, FOLLOWS, strict=True):
        assert (State.LOST in following) is (state is not State.LOST)
        assert state not in following


async def test_a_request_passes_the_states_in_their_order(connection):
    seen = [connection.state]
    for part in (POST[:10], POST[10:], b"12", b"34"):
        connection.data_received(part)
        seen.append(connection.state)
    connection.may_answer.set()
    await connection.answer_sent.wait()
    seen.append(connection.state)
    assert [state.name for state in seen] == ["OPENED", "HEAD", "BODY", "BODY", "WAITING", "IDLE"]


async def test_a_body_that_comes_after_its_answer_is_discarded(connection):
    connection.may_answer.set()
    connection.data_received(POST)
    await connection.answer_sent.wait()
    assert connection.state is State.DISCARDING
    connection.data_received(b"1234")
    assert connection.state is State.IDLE


async def test_the_next_head_may_begin_before_the_answer(connection):
    connection.data_received(GET + GET[:10])
    assert connection.state is State.HEAD
    connection.may_answer.set()
    await connection.answer_sent.wait()
    assert connection.state is State.HEAD


async def test_what_is_no_http_is_refused_and_then_nothing_is_read(connection):
    connection.data_received(b"nonsense\r\n\r\n")
    assert connection.state is State.REFUSED
    connection.data_received(GET)
    assert connection.state is State.REFUSED


async def test_a_state_that_cannot_follow_raises(connection):
    with pytest.raises(ImpossibleTransition, match="a connection that is OPENED cannot become WAITING"):
        connection.on_message_complete()
