"""One channel: a bounded pipe between two workers.

Its bound is in messages *and* bytes: it asks its writer to pause only when both are passed, because a writer whose
socket is not read stops answering pings and is lost after 20 s.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable

from linkly.errors import ConnectionLost

PAUSE_BYTES = 16 * 1024 * 1024


class Pipe:
    """One channel.

    Attributes:
        opened: Ends that somebody has opened, `read` and `write`.
        buffered_bytes: What waits for the reader.
        writer_closed: The writer has ended the stream.
        reader_gone: Nobody will read.
        on_end: Told that the channel is over.
        on_writable: Told that the writer need not wait any more.
        on_readable: Told that there is a message for a reader that pulls, or the end.
        on_reader_gone: Told that nobody will read.
    """

    def __init__(self, buffer_size: int, created: float, owner: str = "") -> None:
        self.id = str(uuid.uuid4())
        self.key = str(uuid.uuid4())
        self.created = created
        self.owner = owner
        self.opened: set[str] = set()
        self.buffered_bytes = 0
        self.writer_closed = False
        self.on_end: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.on_readable: Callable[[], None] | None = None
        self.on_reader_gone: Callable[[], None] | None = None
        self._buffer_size = buffer_size
        self._messages: deque[bytes | str] = deque()
        self._sink: Callable[[bytes | str], None] | None = None
        self.reader_gone = False
        self._reader_full = False

    @property
    def buffered_messages(self) -> int:
        """Count the messages that wait for the reader."""
        return len(self._messages)

    @property
    def at_limit(self) -> bool:
        """Whether an in-process writer should wait: it has no pings to answer, so the count alone decides."""
        return self._reader_full or len(self._messages) >= self._buffer_size

    @property
    def full(self) -> bool:
        """Whether a writer behind a socket should wait."""
        return self._reader_full or (self.at_limit and self.buffered_bytes >= PAUSE_BYTES)

    def reader_is_full(self, full: bool) -> None:
        """Note whether the buffer of a reader that is pushed to is full."""
        self._reader_full = full
        if not full:
            _call(self.on_writable)

    def put(self, message: bytes | str) -> None:
        """Take one message from the writer.

        Raises:
            ConnectionLost: The reader is gone.
        """
        if self.reader_gone:
            raise ConnectionLost("the reader of this channel is gone")
        if self._sink is not None:
            self._sink(message)
            return
        self._messages.append(message)
        self.buffered_bytes += len(message)
        _call(self.on_readable)

    def take(self) -> bytes | str | None:
        """Give the next waiting message to a reader that pulls."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self.buffered_bytes -= len(message)
        if not self.at_limit:
            _call(self.on_writable)
        return message

    def attach_sink(self, sink: Callable[[bytes | str], None], on_writer_closed: Callable[[], None]) -> None:
        """Push everything, waiting and future, to a reader that is pushed to."""
        while self._messages:
            sink(self._messages.popleft())
        self.buffered_bytes = 0
        self._sink, self.on_readable = sink, on_writer_closed
        _call(self.on_writable)
        if self.writer_closed:
            on_writer_closed()

    def close_writer(self) -> None:
        """Note that the writer has ended, orderly or not: the reader gets what is left, then its end."""
        if not self.writer_closed:
            self.writer_closed = True
            _call(self.on_readable)

    def close_reader(self) -> None:
        """Note that the reader is gone: the channel is over."""
        self.reader_gone = True
        self._reader_full = False
        self._messages.clear()
        self.buffered_bytes = 0
        for told in (self.on_writable, self.on_reader_gone, self.on_end):
            _call(told)


def _call(told: Callable[[], None] | None) -> None:
    if told is not None:
        told()
