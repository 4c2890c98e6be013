"""The values that programs written for iii's Python SDK pass around."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from linkly.bus import Enqueue, Void

DEFAULT_TIMEOUT_MS = 30_000


class InitOptions(msgspec.Struct, kw_only=True):
    """Options of `register_worker`.

    Attributes:
        worker_name: Default: host:pid.
        worker_description: One line for people.
        invocation_timeout_ms: How long `trigger` waits unless it is told.
        namespace: Where the worker's functions are found; default: `default`.
        headers: Sent with the handshake.
        otel: Accepted, without effect, as are telemetry, enable_metrics_reporting and reconnection_config.
    """

    worker_name: str | None = None
    worker_description: str | None = None
    invocation_timeout_ms: int = DEFAULT_TIMEOUT_MS
    namespace: str | None = None
    headers: dict[str, str] | None = None
    otel: Any = None
    telemetry: Any = None
    enable_metrics_reporting: bool = True
    reconnection_config: Any = None


class TriggerAction:
    """How a call is routed."""

    @staticmethod
    def Enqueue(*, queue: str, **options: Any) -> Enqueue:
        """Through a queue; answered with ``{"messageReceiptId": ...}``. iii has no options (`linkly.Enqueue`)."""
        return Enqueue(queue=queue, **options)

    @staticmethod
    def Void() -> Void:
        """Nobody waits."""
        return Void()


class InvocationError(Exception):
    """A call failed.

    Attributes:
        code: Stable identifier, for example `TIMEOUT` or `function_not_found`.
        message: What went wrong.
        function_id: What was called.
        stacktrace: Where the handler failed, if it said so.
    """

    def __init__(self, code: str, message: str, function_id: str | None = None, stacktrace: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.function_id = function_id
        self.stacktrace = stacktrace


class TriggerConfig(msgspec.Struct, kw_only=True):
    """One binding, as a trigger handler gets it."""

    id: str
    function_id: str
    config: Any = None
    metadata: Any = None


class FunctionRef:
    """A registered function or trigger.

    Attributes:
        id: Its id.
        unregister: Takes it back.
    """

    def __init__(self, registered_id: str, unregister: Callable[[], None]) -> None:
        self.id = registered_id
        self.unregister = unregister
