"""A wire in memory: what a test puts in the place of a socket."""

from __future__ import annotations

import asyncio

from linkly.wire.connection import FramesReceiver


class MemoryStream:
    """One half of a wire in memory: frames arrive at the other half in a later turn of the loop, as from a socket."""

    blocked = False

    def __init__(self) -> None:
        self.receiver: FramesReceiver | None = None
        self.other: MemoryStream | None = None
        self._closed = False
        self._ended = asyncio.Event()

    def send(self, data: bytes, *, text: bool) -> None:  # noqa: D102
        if not self._closed and self.other is not None:
            asyncio.get_running_loop().call_soon(self.other._deliver, data, text)

    def send_many(self, frames: list[bytes], *, text: bool) -> None:  # noqa: D102
        for data in frames:
            self.send(data, text=text)

    def buffered_bytes(self) -> int:  # noqa: D102
        return 0

    def close(self, code: int, reason: str) -> None:  # noqa: D102
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        self._closed = True
        for end in (self, self.other):
            if end is not None:
                loop.call_soon(end._end, f"closed with {code} {reason}".strip())

    def abort(self) -> None:  # noqa: D102
        self.close(1006, "aborted")

    def _deliver(self, data: bytes, text: bool) -> None:
        if self.receiver is None:
            return
        if text:
            self.receiver.frame_received(data, text=True)
        else:
            self.receiver.frames_received([data])

    async def ended(self) -> None:  # noqa: D102
        await self._ended.wait()

    def _end(self, reason: str) -> None:
        self._closed = True
        self._ended.set()
        if self.receiver is not None:
            receiver, self.receiver = self.receiver, None
            receiver.stream_closed(reason)


def memory_pair() -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a wire in memory; set `receiver` on both before anything is sent."""
    near, far = MemoryStream(), MemoryStream()
    near.other, far.other = far, near
    return near, far
