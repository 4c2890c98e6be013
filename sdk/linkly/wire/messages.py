"""The messages of one conversation: one struct each, as iii's protocol has them (`docs/protocol.md` 2).

`Json` fields hold encoded JSON and are forwarded as they came; `ABSENT` marks a field that was not there. How a message
becomes a frame is said by `linkly.wire.json_frames` and `linkly.wire.native_frames`.

This module must never know sockets, tables or time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from linkly.enqueue import Enqueue
from linkly.errors import InvalidPayload, LinklyError
from linkly.invocation import Json
from linkly.outcome import ABSENT

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message either side accepts (docs/protocol.md 1.7)."""


if TYPE_CHECKING:
    CallId: TypeAlias = str | int
    """Names a call on one connection: a number in native frames, text in JSON ones, which are checked against this."""
else:
    CallId = str


class FrameError(LinklyError):
    """A frame is not one message of the protocol; it is dropped, the connection goes on."""

    code = "invalid_frame"


class Message(msgspec.Struct, tag_field="type", kw_only=True, omit_defaults=True):
    """Base of every message; the tag is iii's lower-case type name."""


class RegisterFunction(Message, tag="registerfunction"):
    """A worker serves `id` from now on."""

    id: str
    description: str | None = None
    request_format: Json = ABSENT
    response_format: Json = ABSENT
    metadata: Json = ABSENT
    invocation: Json = ABSENT


class UnregisterFunction(Message, tag="unregisterfunction"):
    """A worker no longer serves `id`."""

    id: str


class RegisterTriggerType(Message, tag="registertriggertype"):
    """A worker provides a trigger type. Node may leave the description out."""

    id: str
    description: str | None = None
    trigger_request_format: Json = ABSENT
    call_request_format: Json = ABSENT
    namespace: str | None = None


class UnregisterTriggerType(Message, tag="unregistertriggertype"):
    """A worker no longer provides a trigger type."""

    id: str = ""
    namespace: str | None = None


class RegisterTrigger(Message, tag="registertrigger"):
    """Worker to engine: bind. Engine to provider: there is a binding."""

    id: str
    trigger_type: str
    function_id: str
    config: Json = ABSENT
    metadata: Json = ABSENT
    namespace: str | None = None
    trigger_namespace: str | None = None


class UnregisterTrigger(Message, tag="unregistertrigger"):
    """Take a binding back. To a provider the engine sends it with what clients pass through (docs/protocol.md 4.4).

    Attributes:
        leaving: Worker to engine: the worker ends. iii's clients have no such member: their code takes it back.
        unregistered: Engine to provider: the binder's code has taken it back.
    """

    id: str
    trigger_type: str | None = None
    function_id: str | None = None
    config: Json = ABSENT
    metadata: Json = ABSENT
    leaving: bool = False
    unregistered: bool = False


class TriggerRegistrationResult(Message, tag="triggerregistrationresult"):
    """A provider's answer to a binding; towards the binder only with `error`."""

    id: str
    trigger_type: str
    function_id: str
    error: Json = ABSENT


class VoidAction(msgspec.Struct, tag_field="type", tag="void"):
    """Nobody waits."""


_Integer: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


class EnqueueAction(msgspec.Struct, tag_field="type", tag="enqueue", omit_defaults=True):
    """Through a queue. iii has `queue` alone; the rest is optional (`linkly.enqueue`). Times are text."""

    queue: str
    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    run_at: str | None = None
    priority: _Integer | None = None
    idempotency_key: str | None = None
    expires_at: str | None = None
    message_group: str | None = None

    @classmethod
    def of(cls, action: Enqueue) -> EnqueueAction:
        """Return an action as it travels.

        Raises:
            InvalidPayload: A value of it is of the wrong type, or out of range.
        """
        try:
            return msgspec.convert(msgspec.to_builtins(action), cls)
        except (msgspec.MsgspecError, TypeError) as error:
            raise InvalidPayload(f"an action Enqueue like this cannot be sent: {error}") from error


class InvokeFunction(Message, tag="invokefunction"):
    """A call. `data` absent means `null`.

    Only native frames have `caller_worker_id` (from the engine; iii's executors find it inside the payload),
    `timeout_ms`, how long the caller still waits, and `hops`, how many calls this one is nested in. `not_finite` is
    nothing that is sent: `read_json` says with it that it has made `NaN` or `Infinity` null.
    """

    function_id: str
    invocation_id: CallId | None = None
    data: Json = ABSENT
    traceparent: str | None = None
    baggage: str | None = None
    action: VoidAction | EnqueueAction | None = None
    metadata: Json = ABSENT
    namespace: str | None = None
    caller_worker_id: str | None = None
    timeout_ms: Annotated[int, msgspec.Meta(le=2**53)] | None = None
    hops: Annotated[int, msgspec.Meta(ge=0)] = 0
    not_finite: bool = False

    @property
    def awaited_id(self) -> CallId | None:
        """The id under which an answer is awaited, `None` if nobody waits for one."""
        return None if type(self.action) is VoidAction else self.invocation_id


class InvocationResult(Message, tag="invocationresult"):
    """The answer to a call: `error` wins over `result`, neither means `null`."""

    invocation_id: CallId
    function_id: str = ""
    result: Json = ABSENT
    error: Json = ABSENT
    traceparent: str | None = None
    baggage: str | None = None


class CancelInvocation(Message, tag="cancelinvocation"):
    """The caller no longer waits. Sent between native peers only: iii has no such message."""

    invocation_id: CallId


class WorkerRegistered(Message, tag="workerregistered"):
    """The engine's first frame: the id of this connection and what proves it later."""

    worker_id: str
    reattach_token: str | None = None


class Reattach(Message, tag="reattach"):
    """First frame of every connection after the first: end the old one before you read on."""

    previous_worker_id: str
    reattach_token: str | None = None


class RegistrationRejected(Message, tag="registrationrejected"):
    """Somebody else has that id or that name."""

    code: str
    namespace: str
    owner_worker_id: str
    worker_name: str | None = None
    function_id: str | None = None


class RegisterService(Message, tag="registerservice"):
    """Bookkeeping of old clients; accepted, without effect."""

    id: str
    name: str = ""


class Ping(Message, tag="ping"):
    """Asks for a `Pong`."""


class Pong(Message, tag="pong"):
    """Answers a `Ping`."""


class ErrorNotice(Message, tag="error"):
    """Said before a connection is refused."""

    error: Json = ABSENT


AnyMessage: TypeAlias = (
    RegisterFunction
    | UnregisterFunction
    | RegisterTriggerType
    | UnregisterTriggerType
    | RegisterTrigger
    | UnregisterTrigger
    | TriggerRegistrationResult
    | InvokeFunction
    | InvocationResult
    | CancelInvocation
    | WorkerRegistered
    | Reattach
    | RegistrationRejected
    | RegisterService
    | Ping
    | Pong
    | ErrorNotice
)
