"""What a connection makes the engine remember of its routes."""

import tracemalloc

from linkly.wire.messages import RegisterFunction
from linkly.wire.native_frames import (
    CALL,
    CANCEL,
    LENGTH_BYTES,
    NO_LIMIT,
    answer_frame,
    call_frame,
    route_of,
    write_native,
)
from linkly_engine.engine import Engine


class _Stream:
    blocked = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes, *, text: bool) -> None:
        self.sent.append(data)

    def send_many(self, frames: list[bytes], *, text: bool) -> None:
        self.sent += frames

    def buffered_bytes(self) -> int:
        return 0

    def close(self, code: int, reason: str) -> None: ...

    def abort(self) -> None: ...

    async def ended(self) -> None: ...


FUNCTION_ID = "f" * 10_000


async def test_a_worker_that_names_many_callers_has_no_routes_kept() -> None:
    async with Engine() as engine:
        target = _Stream()
        caller = engine.peers.connected(_Stream(), native=True)
        serving = engine.peers.connected(target, native=True)
        for peer in (caller, serving):
            peer.start()
            peer.fix_namespace("default")
        serving.receiver.frames_received([write_native(RegisterFunction(id=FUNCTION_ID))])
        calls: list[bytes] = []
        tracemalloc.start()
        for number in range(1, 51):
            call = call_frame(number, NO_LIMIT, 0, b"%d" % number, route_of(None, FUNCTION_ID), b"", b"1")
            caller.receiver.frames_received([call, answer_frame(CANCEL, number, b"")])
            calls += [frame for frame in target.sent if frame[LENGTH_BYTES] == CALL]
            target.sent.clear()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert len(calls) == 50
        assert all(caller.record.id.encode() in frame for frame in calls)
        assert not caller.connection.serving
        assert kept < 20 * len(FUNCTION_ID) + sum(map(len, calls))
