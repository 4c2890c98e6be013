"""Channels: bounded pipes between two workers, each end opened once (docs/protocol.md 5).

An end may be a WebSocket (`linkly_engine.remote.server`) or an in-process worker (`linkly_engine.local.channels`); a
channel does not know which.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Literal

from linkly.channel import Channel, ChannelRef
from linkly.clock import Clock, TimerHandle
from linkly.errors import InvalidArguments, NotFound, Overloaded
from linkly_engine.core.pipe import Pipe

DEFAULT_BUFFER = 64
MAX_BUFFER = 1024
UNOPENED_S = 300.0
UNOPENED_LIMIT = 1024
"""Channels of one owner of which nobody has opened an end yet."""

SWEEP_S = 60.0

Direction = Literal["read", "write"]


class ChannelStore:
    """All channels of an engine."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pipes: dict[str, Pipe] = {}
        self._unopened: Counter[str] = Counter()
        self._timer: TimerHandle | None = None

    def __iter__(self) -> Iterator[Pipe]:
        return iter(list(self._pipes.values()))

    def __len__(self) -> int:
        return len(self._pipes)

    def start(self) -> None:
        """From now on, remove channels that nobody opens in time."""
        self._timer = self._clock.call_later(SWEEP_S, self._sweep)

    def stop(self) -> None:
        """Stop sweeping and end every channel."""
        if self._timer is not None:
            self._timer.cancel()
        for pipe in self:
            pipe.close_writer()
        self._pipes.clear()
        self._unopened.clear()

    def create(self, buffer_size: int | None = None, owner: str = "") -> Channel:
        """Make a channel; it outlives its owner (docs/protocol.md C66).

        Args:
            buffer_size: Messages that may wait for the reader, 1 to 1024; `None`: 64.
            owner: Whose it is, a worker id: how many may be unopened is counted for each.

        Raises:
            InvalidArguments: The size is out of range.
            Overloaded: The owner has made `UNOPENED_LIMIT` channels that nobody has opened yet.
        """
        size = DEFAULT_BUFFER if buffer_size is None else buffer_size
        if size < 1:
            raise InvalidArguments(f"buffer_size {size}: must be at least 1")
        if self._unopened[owner] >= UNOPENED_LIMIT:
            raise Overloaded(
                f"{UNOPENED_LIMIT} channels of this worker have not been opened by anybody; open them, or wait: one "
                f"that nobody opens is gone after {UNOPENED_S:.0f} s"
            )
        pipe = Pipe(min(size, MAX_BUFFER), self._clock.monotonic(), owner)
        self._unopened[owner] += 1
        pipe.on_end = partial(self._forget, pipe.id)
        self._pipes[pipe.id] = pipe
        return Channel(
            writer=ChannelRef(channel_id=pipe.id, access_key=pipe.key, direction="write"),
            reader=ChannelRef(channel_id=pipe.id, access_key=pipe.key, direction="read"),
        )

    def _forget(self, channel_id: str) -> None:
        pipe = self._pipes.pop(channel_id, None)
        if pipe is not None and not pipe.opened:
            self._count_opened(pipe)

    def _count_opened(self, pipe: Pipe) -> None:
        self._unopened[pipe.owner] -= 1
        if self._unopened[pipe.owner] <= 0:
            del self._unopened[pipe.owner]

    def open(self, channel_id: str, access_key: str, direction: Direction) -> Pipe | None:
        """Open one end; `None` if it has been opened before.

        Raises:
            NotFound: No such channel, or a wrong key; which of the two is not said.
        """
        pipe = self._pipes.get(channel_id)
        if pipe is None or not secrets.compare_digest(pipe.key.encode(), access_key.encode()):
            raise NotFound(f"there is no channel `{channel_id}` with this key")
        if direction in pipe.opened:
            return None
        if not pipe.opened:
            self._count_opened(pipe)
        pipe.opened.add(direction)
        return pipe

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        for pipe in self:
            if len(pipe.opened) < 2 and now - pipe.created >= UNOPENED_S:
                self._forget(pipe.id)
        self._timer = self._clock.call_later(SWEEP_S, self._sweep)
