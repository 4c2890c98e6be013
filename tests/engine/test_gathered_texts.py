"""The text messages of one read of a WebSocket are handed over together."""

import picows
import pytest
import websockets

from linkly.wire.websocket import WebSocketStream
from linkly_engine.remote.small_reads import bound_reads


class Gathering(WebSocketStream):
    def __init__(self, take):
        super().__init__()
        self._take = take
        self.receiver = self

    def on_ws_connected(self, transport):
        super().on_ws_connected(transport)
        self.gather_texts(self._take)
        bound_reads(transport.underlying_transport, self.read_ended)

    def frame_received(self, data, *, text):
        self._take([data])

    def stream_closed(self, reason):
        self._take([b"closed"])


async def connected_to(take):
    """Return a server of such WebSockets, and a client of it."""
    server = await picows.ws_create_server(lambda request: Gathering(take), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return server, await websockets.connect(f"ws://127.0.0.1:{port}", compression=None)


async def test_messages_of_every_kind_are_handed_over_in_order_before_the_end():
    taken = []
    server, client = await connected_to(taken.extend)
    for message in ("1", "2", b"binary", "3", ["in ", "pieces"], "4"):
        await client.send(message)
    await client.close()
    assert taken[:6] == [b"1", b"2", b"binary", b"3", b"in pieces", b"4"]
    server.close()


async def test_messages_that_come_in_one_read_are_handed_over_together():
    taken = []
    server, client = await connected_to(taken.append)
    for message in (b"1", b"2", b"3"):
        client.protocol.send_text(message)
    client.transport.write(b"".join(client.protocol.data_to_send()))
    await client.close()
    assert taken[0] == [b"1", b"2", b"3"]
    server.close()


async def test_a_fault_in_who_takes_them_closes_their_websocket(caplog):
    def fail(texts):
        raise RuntimeError("a fault")

    server, client = await connected_to(fail)
    await client.send("1")
    with pytest.raises(websockets.ConnectionClosed):
        await client.recv()
    assert client.close_code == 1011
    assert "a fault" in caplog.text
    caplog.clear()
    server.close()
