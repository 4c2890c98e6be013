"""A call that a task waits for: answered, given up, or over time.

This module must never know how a call becomes a frame.
"""

from __future__ import annotations

import asyncio

import msgspec

from linkly.deadline import Wait, timed_out
from linkly.invocation import Json
from linkly.outcome import is_absent, read_error
from linkly.wire.connection import Connection
from linkly.wire.messages import CallId


class Awaited(msgspec.Struct, eq=False):
    """A call that a task waits for.

    Attributes:
        answer: JSON text, `b""` for none.
        queue: Where it waits for its time to be over.
    """

    connection: Connection
    answer: asyncio.Future[bytes]
    function_id: str
    call_id: CallId = 0
    timeout_s: float = 0.0
    queue: dict[Wait, float] | None = None

    async def outcome(self) -> bytes:
        """Wait for the answer.

        Raises:
            CallTimeout: It took longer; the engine is told that nobody waits.
            LinklyError: What the other side answered, or that it went away.
        """
        try:
            return await self.answer
        except asyncio.CancelledError:
            self.give_up()
            raise
        finally:
            self.disarm()

    def give_up(self) -> None:
        """Say that nobody waits."""
        self.connection.abandon_call(self.call_id)

    def disarm(self) -> None:
        """Take it out of the line of those whose time will be over."""
        if self.queue is not None:
            self.queue.pop(self, None)

    def __call__(self, result: Json, error: Json) -> None:
        """Take the outcome (`Done`)."""
        if self.answer.done():
            return
        if is_absent(error):
            self.answer.set_result(bytes(result))
        else:
            self.answer.set_exception(read_error(error))

    def expire(self) -> None:
        """Its time is over (`Wait`)."""
        self.give_up()
        if not self.answer.done():
            self.answer.set_exception(timed_out(self.function_id, self.timeout_s))
