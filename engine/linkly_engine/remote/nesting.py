"""Which call a call is nested in, for workers whose wire has no field for it.

iii's JSON wire carries neither deadline nor hops. SDKs that hand baggage on with nested calls (Node's) bring back a
member of ours, and with it we find the call in whose handler they were made: a circle of calls is cut, and a handler
whose caller has given up calls nobody any more. Calls that a handler leaves behind
when it has answered are nested in nothing.

This module must never know sockets, sessions or tasks.
"""

from __future__ import annotations

import itertools

import msgspec

from linkly.baggage import member, with_member
from linkly.invocation import Invocation

MEMBER = "linkly.call"
OVER = float("-inf")
"""The deadline of a call that nobody waits for."""

GIVEN_UP_LIMIT = 10_000
"""How many calls that nobody waits for are remembered; the oldest are forgotten first."""


class _Call(msgspec.Struct):
    hops: int
    deadline: float | None


class Nesting:
    """The trace-carrying calls that one worker serves."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}
        self._given_up: dict[str, None] = {}
        self._tokens = itertools.count(1)

    def __len__(self) -> int:
        """Count the calls that are remembered."""
        return len(self._calls)

    def begin(self, invocation: Invocation) -> str | None:
        """Mark a call before it is sent; return its token, `None` if it carries no trace."""
        if invocation.baggage is None:
            return None
        token = f"{next(self._tokens):x}"
        self._calls[token] = _Call(invocation.hops, invocation.deadline)
        invocation.baggage = with_member(invocation.baggage, MEMBER, token)
        return token

    def end(self, token: str) -> None:
        """The worker has answered."""
        self._calls.pop(token, None)

    def give_up(self, token: str) -> None:
        """Nobody waits for the answer any more, the worker does not know."""
        call = self._calls.get(token)
        if call is None:
            return
        call.deadline = OVER
        self._given_up[token] = None
        if len(self._given_up) > GIVEN_UP_LIMIT:
            oldest = next(iter(self._given_up))
            del self._given_up[oldest]
            self._calls.pop(oldest, None)

    def place(self, invocation: Invocation) -> None:
        """Give a call of the worker the hops and the deadline of the call that it is nested in."""
        call = self._calls.get(member(invocation.baggage, MEMBER) or "")
        if call is not None:
            invocation.hops, invocation.deadline = call.hops + 1, call.deadline
