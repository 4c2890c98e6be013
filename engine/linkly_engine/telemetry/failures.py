"""Logs handlers that failed: one line for each failure, in process and remote, whether or not a caller waits.

An error that a handler raised with a code of its own is an answer to its caller and is not logged. Neither is a failure
that a handler passes on from a function it has called: that one was logged already.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from typing import NamedTuple

from linkly.bus import Invocation
from linkly.errors import HandlerFailed, InvalidResult, LinklyError
from linkly.http import HttpRequest
from linkly_engine.core.records import WorkerRecord
from linkly_engine.telemetry.lines import trace_of

log = logging.getLogger("linkly.worker")

RECENT = 64
"""How many failures are remembered, to know one that comes by again."""


class Failures:
    """Logs failures of handlers, each once."""

    def __init__(self) -> None:
        self._recent: deque[_Said] = deque(maxlen=RECENT)

    def failed(self, worker: WorkerRecord, invocation: Invocation, error: LinklyError) -> None:
        """Log an error of a handler, unless the error is an answer or was logged before.

        The error gets an `error_id`, which the line contains, so that whoever answers the call can name it.
        """
        if not isinstance(error, (HandlerFailed, InvalidResult)) or error.error_id is not None:
            return
        said = self._said_before(worker, invocation.function_id, error)
        if said is not None:
            error.error_id, error.failed_function_id = said.error_id, said.function_id
            return
        error.error_id, error.failed_function_id = secrets.token_hex(6), invocation.function_id
        caller = invocation.caller.worker_id if invocation.caller is not None else None
        self._recent.append(_Said(error.error_id, invocation.function_id, caller, error.message, error.stacktrace))
        trace_id, span_id = trace_of(invocation.traceparent)
        data = {"function": invocation.function_id, "error_id": error.error_id}
        if isinstance(invocation.payload, HttpRequest):
            data["route"] = f"{invocation.payload.method} {invocation.payload.path}"
        if invocation.caller is not None and invocation.caller.worker_name:
            data["caller"] = invocation.caller.worker_name
        text = f"`{invocation.function_id}` failed: {error.message}"
        log.error(
            "%s %s",
            error.error_id,
            text,
            extra={
                "body": text,
                "worker": worker.shown_name,
                "data": data,
                "trace_id": trace_id,
                "span_id": span_id,
                "stacktrace": error.stacktrace,
            },
        )

    def _said_before(self, worker: WorkerRecord, function_id: str, error: LinklyError) -> _Said | None:
        """Return what was said of a function that this worker has called, and whose failure its handler lets pass.

        linkly's clients raise the error that they got; iii's raise one of their own, whose text is `code: message`.
        """
        for said in reversed(self._recent):
            if said.caller != worker.id or said.function_id == function_id:
                continue
            if error.message == f"{error.code}: {said.message}":
                return said
            if error.stacktrace is not None and (error.message, error.stacktrace) == (said.message, said.stacktrace):
                return said
        return None


class _Said(NamedTuple):
    """A failure that was said.

    Attributes:
        function_id: Whose handler failed.
        caller: Id of the worker that called it.
    """

    error_id: str
    function_id: str
    caller: str | None
    message: str
    stacktrace: str | None
