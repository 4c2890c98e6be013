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
"""How many failures are remembered, to recognise one that a caller's handler passes on."""


class Failures:
    """Logs failures of handlers, each once."""

    def __init__(self) -> None:
        self._recent: deque[_Logged] = deque(maxlen=RECENT)

    def failed(self, worker: WorkerRecord, invocation: Invocation, error: LinklyError) -> None:
        """Log an error of a handler, unless the error is an answer or was logged before.

        The error gets an `error_id`, which the line contains, so that whoever answers the call can name it.
        """
        if not isinstance(error, (HandlerFailed, InvalidResult)) or error.error_id is not None:
            return
        logged = self._logged_before(worker, invocation.function_id, error)
        if logged is not None:
            error.error_id, error.failed_function_id = logged.error_id, logged.function_id
            return
        error.error_id, error.failed_function_id = secrets.token_hex(6), invocation.function_id
        caller = invocation.caller.worker_id if invocation.caller is not None else None
        self._recent.append(_Logged(error.error_id, invocation.function_id, caller, error.message, error.stacktrace))
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

    def _logged_before(self, worker: WorkerRecord, function_id: str, error: LinklyError) -> _Logged | None:
        """Return the logged failure of a function that this worker called and whose error its handler passes on.

        linkly's clients raise the error that they got; iii's raise one of their own, whose text is `code: message`.
        """
        for logged in reversed(self._recent):
            if logged.caller != worker.id or logged.function_id == function_id:
                continue
            if error.message == f"{error.code}: {logged.message}":
                return logged
            if error.stacktrace is not None and (error.message, error.stacktrace) == (
                logged.message,
                logged.stacktrace,
            ):
                return logged
        return None


class _Logged(NamedTuple):
    """A failure that was logged.

    Attributes:
        function_id: Whose handler failed.
        caller: Id of the worker that called it.
    """

    error_id: str
    function_id: str
    caller: str | None
    message: str
    stacktrace: str | None
