"""The invocation that is being handled right now, for code that does not get it as an argument.

Set by `linkly.function` around every handler; read by the bus for nested calls (trace, deadline, origin), by stores
that share their capacity fairly among callers (`current_origin`), and by handlers through `linkly.current()`.
"""

from __future__ import annotations

from contextvars import ContextVar

from linkly.invocation import Invocation

current_invocation: ContextVar[Invocation | None] = ContextVar("linkly_current_invocation", default=None)


def current() -> Invocation:
    """Return the invocation whose handler is running: caller, metadata, trace, deadline.

    Raises:
        LookupError: The caller does not run inside a handler.
    """
    invocation = current_invocation.get()
    if invocation is None:
        raise LookupError("linkly.current() works only inside a function that the bus called")
    return invocation


def current_origin() -> str | None:
    """Return where the call entered whose handler is running; `None` outside of one, and where that is unknown."""
    invocation = current_invocation.get()
    return None if invocation is None else invocation.origin
