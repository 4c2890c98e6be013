"""What a client says when it has connected: who it is and what it serves."""

from __future__ import annotations

import os
import platform

from linkly.function import Function
from linkly.invocation import Json
from linkly.outcome import ABSENT
from linkly.schema import as_json
from linkly.trigger import TriggerType
from linkly.version import __version__
from linkly.wire.messages import RegisterFunction, RegisterTriggerType

FEATURES = ["large-messages.v1"]


def metadata(name: str, namespace: str | None, description: str | None) -> Json:
    """Return the payload of `engine::workers::register`."""
    return as_json(
        {
            "runtime": "python",
            "version": __version__,
            "name": name,
            "description": description,
            "os": f"{platform.system()} {platform.release()} ({platform.machine()})",
            "pid": os.getpid(),
            "namespace": namespace,
            "features": FEATURES,
            "telemetry": {"language": "python", "framework": "linkly"},
        }
    )


def function_message(function: Function) -> RegisterFunction:
    """Return the registration of a function."""
    return RegisterFunction(
        id=function.id,
        description=function.description or None,
        request_format=_optional(function.request_schema),
        response_format=_optional(function.response_schema),
        metadata=_optional(function.metadata),
    )


def type_message(kind: TriggerType) -> RegisterTriggerType:
    """Return the registration of a trigger type."""
    return RegisterTriggerType(
        id=kind.id,
        description=kind.description,
        trigger_request_format=_optional(kind.config_schema),
        call_request_format=_optional(kind.payload_schema),
    )


def _optional(value: object) -> Json:
    return ABSENT if value is None else as_json(value)
