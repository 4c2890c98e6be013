"""What the engine says about remote workers as they come, register and go: one line each, under the worker's name."""

from __future__ import annotations

import logging
from typing import Any, cast

import msgspec

from linkly.bus import Json
from linkly.errors import LinklyError
from linkly.wire import is_absent
from linkly_engine.core.triggers import BindingRecord
from linkly_engine.core.workers import WorkerRecord

log = logging.getLogger("linkly.engine")

TELLING = ("http_method", "api_path", "expression", "topic", "queue", "scope", "key")
"""Members of a trigger's config that say in a word or two when it fires."""


def worker_registered(worker: WorkerRecord) -> None:
    """A worker has said who it is, and its registrations are in force; one without a name only calls."""
    if worker.name:
        facts = {"name": worker.name, "id": worker.id, "address": worker.ip_address, "pid": worker.pid}
        _say(worker, "Worker registered", data={key: value for key, value in facts.items() if value is not None})


def worker_gone(worker: WorkerRecord, reason: str) -> None:
    """A connection has ended; that of one who only called, such as `linkly trigger`, is no news."""
    level = logging.INFO if worker.name else logging.DEBUG
    _say(worker, "Worker disconnected", level=level, data={"name": worker.name or worker.id, "reason": reason})


def function_registered(worker: WorkerRecord, function_id: str) -> None:
    """A function can be called from now on."""
    _say(worker, "[REGISTERED] Function %s", function_id)


def registration_refused(worker: WorkerRecord, error: LinklyError) -> None:
    """A function id is another worker's, or the worker has too much of all."""
    _say(worker, "%s", error.message, level=logging.WARNING)


def trigger_registered(worker: WorkerRecord, binding: BindingRecord) -> None:
    """A trigger is tied to a function."""
    words = (binding.trigger_type, *_telling(binding.config))
    _say(worker, "[REGISTERED] Trigger %s runs %s", " ".join(words), binding.function_id)


def unattended_failed(function_id: str, result: Json, error: Json) -> None:
    """A call that nobody waits for was answered: say so if it failed."""
    if not is_absent(error):
        log.warning("`%s`, called without waiting, failed: %s", function_id, bytes(error).decode("utf-8", "replace"))


def _say(worker: WorkerRecord, text: str, *arguments: object, level: int = logging.INFO, data: Any = None) -> None:
    log.log(level, text, *arguments, extra={"worker": worker.name or worker.id[:8], "data": data})


def _telling(config: object) -> list[str]:
    try:
        plain = msgspec.json.decode(config) if isinstance(config, Json) and bytes(config) else config
    except msgspec.DecodeError:
        return []
    if not isinstance(plain, dict):
        return []
    fields = cast("dict[str, Any]", plain)
    return [str(fields[name])[:100] for name in TELLING if fields.get(name)]
