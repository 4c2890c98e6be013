"""Every error of the bus: one tree, one stable code per class.

On the wire an error is a body ``{"code": str, "message": str, "stacktrace"?: str, "details"?: object}``
(docs/protocol.md 3.3). `LinklyError.to_body` and `error_from_body` are inverse to one another for every class
below; a code nobody here knows becomes a `RemoteError` that keeps it. Foreign exceptions are translated at
the border of a function only, see `HandlerFailed.wrap`.

This module must never know sockets, workers or the engine.
"""

from __future__ import annotations

import traceback
from typing import Any, ClassVar


def escaped(value: object) -> str:
    """Return the text of `value` with half surrogate pairs, such as those of a file's name, written as escapes."""
    return str(value).encode("utf-8", "backslashreplace").decode()


class LinklyError(Exception):
    """Base of every error that crosses the bus.

    Attributes:
        code: Stable identifier, the same in every SDK and language.
        message: A sentence that names the offending value and the way out.
        details: Structured attributes, JSON values only.
        stacktrace: Where the handler failed, if the failing side sent it.
        error_id: Stands in the engine's log beside the failure, once it was logged. Not sent.
        failed_function_id: Whose handler failed, likewise.
    """

    code: str = "linkly_error"
    error_id: str | None = None
    failed_function_id: str | None = None
    registered: ClassVar[dict[str, type[LinklyError]]] = {}

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: dict[str, Any] | None = None,
        stacktrace: str | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.message = message
        self.details: dict[str, Any] = details or {}
        self.stacktrace = stacktrace

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        code = cls.__dict__.get("code")
        if isinstance(code, str):
            LinklyError.registered.setdefault(code, cls)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def to_body(self) -> dict[str, Any]:
        """Return the wire form: string ``code`` and ``message`` always, the rest only when there is any."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.stacktrace is not None:
            body["stacktrace"] = self.stacktrace
        if self.details:
            body["details"] = self.details
        return body


class FunctionNotFound(LinklyError):
    """No such function id in the requested namespace: the caller's mistake, or its worker is not up."""

    code = "function_not_found"


class FunctionNotInvokable(LinklyError):
    """The function is known, but nobody here can run it."""

    code = "function_not_invokable"


class InvalidPayload(LinklyError):
    """The payload does not fit the function's request type; the handler never saw it."""

    code = "deserialization_error"


class InvalidResult(LinklyError):
    """The handler returned something that has no JSON form: the worker's mistake."""

    code = "serialization_error"


class HandlerFailed(LinklyError):
    """The handler raised something that is not a `LinklyError`."""

    code = "invocation_failed"

    @classmethod
    def wrap(cls, error: BaseException) -> HandlerFailed:
        """Translate a foreign exception, keeping its text and its traceback."""
        try:
            message = escaped(error)
        except Exception:
            message = ""  # its `__str__` fails
        stacktrace = escaped("".join(traceback.format_exception(error)))
        return cls(message or type(error).__name__, stacktrace=stacktrace)


class InvocationStopped(LinklyError):
    """The worker that ran the function went away before it answered."""

    code = "invocation_stopped"


class CallTimeout(LinklyError):
    """Nobody answered within the caller's time; the call was cancelled."""

    code = "TIMEOUT"


class Overloaded(LinklyError):
    """A bounded buffer on the way is full; try again later."""

    code = "overloaded"


class TooManyHops(LinklyError):
    """Calls are nested too deeply: functions that call one another in a circle would do so without end."""

    code = "too_many_hops"


class OutcomeUnknown(LinklyError):
    """A change may have been made or not, and nobody can tell: the disk has failed, or its file is gone.

    Ask what is there before you repeat it, or make the repetition harmless (an idempotency key). `connection_lost`,
    `invocation_stopped` and `TIMEOUT` leave a caller as unsure.
    """

    code = "outcome_unknown"


class PayloadTooLarge(LinklyError):
    """The message is larger than the receiving side can take."""

    code = "payload_too_large"


class Forbidden(LinklyError):
    """The caller may not do this."""

    code = "FORBIDDEN"


class InvalidNamespace(LinklyError):
    """A namespace was given but is blank."""

    code = "INVALID_NAMESPACE"


class EnqueueFailed(LinklyError):
    """The call could not be put on a queue."""

    code = "enqueue_error"


class NotFound(LinklyError):
    """The thing that was asked for does not exist."""

    code = "NOT_FOUND"


class InvalidArguments(LinklyError):
    """Each argument is well formed but they do not go together, or one is out of range."""

    code = "INVALID_ARGUMENTS"


class TriggerRegistrationFailed(LinklyError):
    """The provider of a trigger type refused a binding."""

    code = "trigger_registration_failed"


class TriggerTypeNotFound(LinklyError):
    """A worker was asked to bind a trigger type it does not provide."""

    code = "trigger_type_not_found"


class FunctionConflict(LinklyError):
    """Another live worker owns this function id."""

    code = "FUNCTION_NAMESPACE_CONFLICT"


class WorkerConflict(LinklyError):
    """Another live worker has this name."""

    code = "WORKER_NAMESPACE_CONFLICT"


class ConnectionLost(LinklyError):
    """The connection to the engine ended and the call was not sent again (see `linkly.client`)."""

    code = "connection_lost"


class Shutdown(LinklyError):
    """This side is shutting down and takes no more calls."""

    code = "SHUTDOWN"


class ConfigError(LinklyError):
    """A configuration cannot be used; the message names file, path and what is allowed."""

    code = "config_error"


class RemoteError(LinklyError):
    """An error whose code no class here carries; `code` is the sender's."""

    code = "UNKNOWN"


def error_from_body(body: object) -> LinklyError:
    """Rebuild an error from the wire, tolerant of every shape clients have sent (docs/protocol.md 3.3)."""
    if not isinstance(body, dict):
        return RemoteError(str(body) if body else "the worker sent an error without a body")
    fields: dict[str, Any] = body
    code = fields.get("code")
    message = fields.get("message")
    details = fields.get("details")
    stacktrace = fields.get("stacktrace")
    cls = LinklyError.registered.get(code, RemoteError) if isinstance(code, str) else RemoteError
    # Built without the subclass's own __init__: a worker's error class may ask for other arguments.
    error = cls.__new__(cls)
    LinklyError.__init__(
        error,
        message if isinstance(message, str) else str(fields),
        code=code if isinstance(code, str) else None,
        details=details if isinstance(details, dict) else None,
        stacktrace=stacktrace if isinstance(stacktrace, str) else None,
    )
    return error
