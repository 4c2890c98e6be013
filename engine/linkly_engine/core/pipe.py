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
    """One channel."""

    def __init__(self, buffer_size: int, created: float, owner: str = "") -> None:
        self.id = str(uuid.uuid4())
        self.key = str(uuid.uuid4())
        self.created = created
        self.owner = owner
        self.opened: set[str] = set()
        self.ended = False
        self.on_end: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.on_reader_gone: Callable[[], None] | None = None
        self._buffer_size = buffer_size
        self._messages: deque[bytes | str] = deque()
        self._bytes = 0
        self._sink: Callable[[bytes | str], None] | None = None
        self._on_writer_closed: Callable[[], None] | None = None
        self._writer_closed = False
        self._reader_gone = False
        self._reader_full = False

    @property
    def full(self) -> bool:
        """Whether a writer behind a socket should wait."""
        return self._reader_full or (len(self._messages) >= self._buffer_size and self._bytes >= PAUSE_BYTES)

    @property
    def buffered_bytes(self) -> int:
        """Count what waits for the reader."""
        return self._bytes

    @property
    def buffered_messages(self) -> int:
        """Count the messages that wait for the reader."""
        return len(self._messages)

    @property
    def at_limit(self) -> bool:
        """Whether an in-process writer should wait: it has no pings to answer, so the count alone decides."""
        return self._reader_full or len(self._messages) >= self._buffer_size

    def reader_is_full(self, full: bool) -> None:
        """A reader that is pushed to says that its own buffer is full, or no longer."""
        self._reader_full = full
        if not full and self.on_writable is not None:
            self.on_writable()

    def put(self, message: bytes | str) -> None:
        """Take one message from the writer.

        Raises:
            ConnectionLost: The reader is gone.
        """
        if self._reader_gone:
            raise ConnectionLost("the reader of this channel is gone")
        if self._sink is not None:
            self._sink(message)
            return
        self._messages.append(message)
        self._bytes += len(message)

    def take(self) -> bytes | str | None:
        """Give the next waiting message to a reader that pulls."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._bytes -= len(message)
        if self.on_writable is not None and not self.at_limit:
            self.on_writable()
        return message

    def attach_sink(self, sink: Callable[[bytes | str], None], on_writer_closed: Callable[[], None]) -> None:
        """Push everything, waiting and future, to a reader that is pushed to."""
        while self._messages:
            message = self._messages.popleft()
            self._bytes -= len(message)
            sink(message)
        self._sink = sink
        self._on_writer_closed = on_writer_closed
        if self.on_writable is not None:
            self.on_writable()
        if self._writer_closed:
            on_writer_closed()

    def attach_wakeup(self, wakeup: Callable[[], None]) -> None:
        """Wake a reader that pulls whenever there is something new."""

        def push(message: bytes | str) -> None:
            self._messages.append(message)
            self._bytes += len(message)
            wakeup()

        self._sink = push
        self._on_writer_closed = wakeup

    @property
    def writer_closed(self) -> bool:
        """Whether the writer has ended the stream."""
        return self._writer_closed

    def close_writer(self) -> None:
        """The writer has ended, orderly or not: the reader gets what is left, then its end."""
        if self._writer_closed:
            return
        self._writer_closed = True
        if self._on_writer_closed is not None:
            self._on_writer_closed()

    def close_reader(self) -> None:
        """The reader is gone: the channel is over."""
        self._reader_gone = True
        self._reader_full = False
        self._messages.clear()
        self._bytes = 0
        if self.on_writable is not None:
            self.on_writable()
        if self.on_reader_gone is not None:
            self.on_reader_gone()
        self.ended = True
        if self.on_end is not None:
            self.on_end()
