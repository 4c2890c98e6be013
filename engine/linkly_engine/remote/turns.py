"""Shares the turns of the event loop among connections: what a flooding one sends is handled in slices, one a turn.

`Inbox` stands between a stream and the receiver of its frames. A turn hands over at most a slice of what has come; the
rest waits in order, and when much waits the socket is left unread, so that the flooder waits and memory is bounded.
Nothing is lost: the end of a stream stands in line behind its frames.

Slices adapt to what their frames cost: after a turn of the loop that took long, a connection with more frames than its
slice gets half of it next time, else twice as much.

A connection that waits for very many answers gets one frame a millisecond beside as many as have been answered: calls
in flight take memory, and the garbage collector looks at all of it (20,000 inserts: 280 ms at a time). Never none: an
answer may depend on what comes next.

This module must never know what is in a frame.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from linkly.wire.connection import FrameReceiver

log = logging.getLogger("linkly.engine")

LONG_TURN_S = 0.001
"""A turn that takes longer makes the slices smaller."""

FIRST_SLICE, LARGEST_SLICE = 64, 512
"""Frames."""

MANY_CALLS, MANY_CALLS_STEP_S = 500, 0.001
"""A connection that waits for more answers than this gets so much time between two slices. Well below the pending
calls of one function at which further ones are `overloaded` (`forwarding.PENDING_LIMIT`): a refusal is an answer, so a
flooder of one function would never reach this limit, and be refused as fast as it can send."""

SLICE_BYTES = 1024 * 1024
"""A slice ends with the frame that goes beyond."""

FRAME_BYTES = 64
"""What a waiting frame takes beside its content."""

FULL_BYTES = 128 * 1024
"""When more waits than this the socket is left unread, until half of it has been handled."""

_NONE: deque[tuple[bytes, bool]] = deque()
"""The frames of all inboxes in which none waits; nothing is ever put in. An empty deque of its own takes 624 bytes."""


class Turns:
    """The turns of one loop, counted while anybody has frames.

    Attributes:
        number: Changes with every turn.
        frames_waiting: Of all connections together.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], object]], object] | None = None,
        call_later: Callable[[float, Callable[[], object]], object] | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.number = 0
        self.took_s = 0.0
        self._call_soon = call_soon or _call_soon
        self._call_later = call_later or _call_later
        self._clock = clock
        self._asked = False
        self._began = 0.0
        self._waiting: list[Inbox] = []

    @property
    def frames_waiting(self) -> int:  # noqa: D102
        return sum(len(inbox) for inbox in self._waiting)

    def begin(self) -> None:
        """Note that a turn has begun in which a connection has frames."""
        if not self._asked:
            self._asked = True
            self._began = self._clock()
            self._call_soon(self._next)

    def wait(self, inbox: Inbox) -> None:
        """Let an inbox hand over a slice in the next turn; called once each time that it begins to fill."""
        self._waiting.append(inbox)
        self.begin()

    def wait_longer(self, inbox: Inbox) -> None:
        """Hand over a slice after `MANY_CALLS_STEP_S`."""
        self._call_later(MANY_CALLS_STEP_S, lambda: self.wait(inbox))

    def _next(self) -> None:
        self.took_s = self._clock() - self._began
        self.number += 1
        self._asked = False
        if self._waiting:
            self.begin()
            waiting, self._waiting = self._waiting, []
            self._waiting += [inbox for inbox in waiting if self._hand_over(inbox)]

    @staticmethod
    def _hand_over(inbox: Inbox) -> bool:
        """Let one hand over its slice; a fault ends its connection and takes no turn from the others."""
        try:
            return inbox.hand_over()
        except Exception:
            log.exception("frames could not be handled; their connection is ended")
            inbox.abort()
            return len(inbox) > 0


class PausableStream(Protocol):
    """A stream that can be left unread."""

    def abort(self) -> None:
        """End now."""
        ...

    def pause_reading(self) -> None:
        """Take no more from the socket until `resume_reading`."""
        ...

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        ...


class Inbox:
    """The frames of one connection that wait for its next turn: a `FrameReceiver`.

    Args:
        owed: Counts the calls of this connection that have not been answered.
        overtake: Takes a frame ahead of those that wait, if it may be; returns whether it has.
        caught_up: Told when no frame waits any more that another has overtaken.
        many: Takes frames, many at a time.
        text: Whether those that come many at a time are text.
    """

    def __init__(
        self,
        receiver: FrameReceiver,
        stream: PausableStream,
        turns: Turns,
        owed: Callable[[], int] = int,
        overtake: Callable[..., bool] | None = None,
        many: Callable[[list[bytes]], None] | None = None,
        caught_up: Callable[[], object] | None = None,
        *,
        text: bool = False,
    ) -> None:
        self._receiver = receiver
        self._stream = stream
        self._turns = turns
        self._count_owed = owed
        self._overtake = overtake
        self._many = many
        self._text = text
        self._caught_up = caught_up
        self._owed = 0  # unanswered calls when the last slice had been handed over
        self._turn = -1
        self._slice = FIRST_SLICE
        self._left = 0  # of this turn's slice
        self._left_bytes = 0
        self._frames = _NONE
        self._bytes = 0
        self._paused = False
        self._closed: str | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def frame_received(self, data: bytes, *, text: bool) -> None:
        """Hand a frame over in this turn if the slice has room, else put it into line."""
        if not self._frames:
            if self._turn != self._turns.number:
                self._begin_turn()
                self._turns.begin()
            if self._left > 0 and self._left_bytes > 0:
                self._left -= 1
                self._left_bytes -= len(data)
                self._receiver.frame_received(data, text=text)
                return
            self._turns.wait(self)
        elif self._overtake is not None and self._overtake(data, text=text):
            return
        if self._frames is _NONE:
            self._frames = deque()
        self._frames.append((data, text))
        self._bytes += len(data) + FRAME_BYTES
        if self._bytes > FULL_BYTES and not self._paused:
            self._paused = True
            self._stream.pause_reading()

    def frames_received(self, frames: list[bytes]) -> None:
        """Hand over, together, those frames that this turn's slice has room for; the others are put into line."""
        if not self._frames:
            if self._turn != self._turns.number:
                self._begin_turn()
                self._turns.begin()
            if self._left > 0 and self._left_bytes > 0:
                now, frames = (
                    (frames, []) if len(frames) <= self._left else (frames[: self._left], frames[self._left :])
                )
                self._left -= len(now)
                self._left_bytes -= sum(map(len, now))
                self._hand_over_many(now)
        for data in frames:
            self.frame_received(data, text=self._text)

    def stream_closed(self, reason: str) -> None:
        """The stream has ended: said when its frames have been handed over."""
        if self._frames:
            self._closed = reason
        else:
            self._receiver.stream_closed(reason)

    def hand_over(self) -> bool:
        """Hand over this turn's slice; return whether there is more for the next turn."""
        # The turn that has just ended had a full slice of this connection in it.
        if self._turns.took_s > LONG_TURN_S:
            self._slice = max(1, self._slice // 2)
        else:
            self._slice = min(LARGEST_SLICE, self._slice * 2)
        self._begin_turn()
        owed = self._count_owed()
        if owed > MANY_CALLS:
            self._left = min(self._left, max(0, self._owed - owed) + 1)
        frames, receiver = self._frames, self._receiver
        together: list[bytes] = []
        try:
            while frames and self._left > 0 and self._left_bytes > 0:
                data, text = frames.popleft()
                self._left -= 1
                self._left_bytes -= len(data)
                self._bytes -= len(data) + FRAME_BYTES
                if text is self._text:
                    together.append(data)
                    continue
                self._hand_over_many(together)
                together = []
                receiver.frame_received(data, text=text)
            self._hand_over_many(together)
        except Exception:
            log.exception("a frame could not be handled; its connection is ended")
            self._stream.abort()
        if self._paused and self._bytes < FULL_BYTES // 2 and self._closed is None:
            self._paused = False
            self._stream.resume_reading()
        self._owed = self._count_owed()
        if frames:
            if self._owed <= MANY_CALLS or self._closed is not None:
                return True
            self._turns.wait_longer(self)
            return False
        self._frames = _NONE
        if self._caught_up is not None:
            self._caught_up()
        if self._closed is not None:
            receiver.stream_closed(self._closed)
        return False

    def abort(self) -> None:
        """End the stream now."""
        self._stream.abort()

    def _hand_over_many(self, frames: list[bytes]) -> None:
        if self._many is None:
            for data in frames:
                self._receiver.frame_received(data, text=self._text)
        elif frames:
            self._many(frames)

    def _begin_turn(self) -> None:
        self._turn = self._turns.number
        self._left, self._left_bytes = self._slice, SLICE_BYTES


def _call_soon(callback: Callable[[], object]) -> object:
    return asyncio.get_running_loop().call_soon(callback)


def _call_later(delay_s: float, callback: Callable[[], object]) -> object:
    return asyncio.get_running_loop().call_later(delay_s, callback)
