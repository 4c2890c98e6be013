"""Log lines about remote workers that connect, register and leave, one for each event, under the worker's name."""

from __future__ import annotations

import logging
from typing import Any, cast

import msgspec

from linkly.bus import Json
from linkly.errors import LinklyError
from linkly_engine.core.changes import BindingRefused, FunctionHandedOn, TypeProvided
from linkly_engine.core.records import BindingRecord, WorkerRecord

log = logging.getLogger("linkly.engine")

TELLING = ("http_method", "api_path", "expression", "topic", "queue", "scope", "key")
"""Members of a trigger's config that say in a word or two when it fires."""


def function_handed_on(change: FunctionHandedOn) -> None:
    """Log that a function has another worker now: an observer of the tables."""
    function = change.function
    _say(function.owner, "[REGISTERED] Function %s: the worker that served it is gone", function.id)


def type_provided(change: TypeProvided) -> None:
    """Log that waits for a trigger type have ended: an observer of the tables."""
    # Counted for remote workers only: of in-process ones, which start one after another, no wait was logged.
    if change.ended_waits:
        text = "[REGISTERED] Trigger type %s: %d waiting trigger(s) fire from now on"
        _say(change.type.owner, text, change.type.id, change.ended_waits)


def binding_refused(change: BindingRefused) -> None:
    """Log that the provider of a trigger has refused it: an observer of the tables."""
    binding = change.binding
    if binding.owner is None or binding.owner.in_process:  # a remote one is told itself
        log.error(
            "trigger `%s` of function `%s` was refused: %s",
            binding.trigger_type,
            binding.function_id,
            bytes(change.error).decode("utf-8", "replace"),
        )


def worker_registered(worker: WorkerRecord) -> None:
    """Log that a worker has named itself and its registrations are in force; one without a name only calls."""
    if worker.name:
        facts = {"name": worker.name, "id": worker.id, "address": worker.ip_address, "pid": worker.pid}
        _say(worker, "Worker registered", data={key: value for key, value in facts.items() if value is not None})


def name_refused(worker: WorkerRecord, error: LinklyError) -> None:
    """Log that a worker's name is taken: the connection is closed, and none of its registrations is applied."""
    who = {"id": worker.id, "address": worker.ip_address, "pid": worker.pid}
    data = {key: value for key, value in who.items() if value is not None}
    name = str(error.details.get("worker_name") or worker.id[:8])
    pid = f" (process {worker.pid})" if worker.pid is not None else ""
    _say(worker, "refused a second `%s`%s: %s", name, pid, error.message, level=logging.WARNING, data=data)


def worker_gone(worker: WorkerRecord, reason: str) -> None:
    """Log that a connection has ended, at DEBUG if it only called, as `linkly trigger` does."""
    level = logging.INFO if worker.name else logging.DEBUG
    if worker.retiring:
        reason = "it was stopped or replaced"
    _say(worker, "Worker disconnected", level=level, data={"name": worker.name or worker.id, "reason": reason})


def function_registered(worker: WorkerRecord, function_id: str) -> None:
    """Log that a remote worker's function can be called."""
    _say(worker, "[REGISTERED] Function %s", function_id)


def function_not_callable(worker: WorkerRecord, reason: str) -> None:
    """Log why a registered function cannot be called."""
    _say(worker, "%s", reason, level=logging.ERROR)


def registration_refused(worker: WorkerRecord, error: LinklyError) -> None:
    """Log that a function id is taken, or that the connection has reached its limit of registrations."""
    text = "%s" if not error.details.get("owner_worker_id") else "%s; it is served from here when that one is gone"
    _say(worker, text, error.message, level=logging.WARNING)


def trigger_not_theirs(worker: WorkerRecord, binding: BindingRecord | None) -> None:
    """Log that a worker asked to take back a trigger of another worker; an unknown id is not logged."""
    if binding is not None and binding.owner is not None:
        owner = binding.owner.name or binding.owner.id
        _say(worker, "trigger `%s` belongs to worker %s and stays", binding.id, owner, level=logging.WARNING)


def trigger_registered(worker: WorkerRecord, binding: BindingRecord, waits: str | None) -> None:
    """Log that a trigger is bound; `waits` says why it does not fire yet."""
    words = " ".join((binding.trigger_type, *_telling(binding.config)))
    if waits is not None:
        _say(worker, "[WAITING] Trigger %s of %s: %s", words, binding.function_id, waits, level=logging.WARNING)
        return
    # Workers watch their callers as a matter of course.
    level = logging.DEBUG if binding.trigger_type == "engine::worker-gone" else logging.INFO
    _say(worker, "[REGISTERED] Trigger %s runs %s", words, binding.function_id, level=level)


def _say(worker: WorkerRecord, text: str, *arguments: object, level: int = logging.INFO, data: Any = None) -> None:
    log.log(level, text, *arguments, extra={"worker": worker.shown_name, "data": data})


def _telling(config: object) -> list[str]:
    try:
        plain = msgspec.json.decode(config) if isinstance(config, Json) and bytes(config) else config
    except msgspec.DecodeError:
        return []
    if not isinstance(plain, dict):
        return []
    fields = cast("dict[str, Any]", plain)
    return [str(fields[name])[:100] for name in TELLING if fields.get(name)]
