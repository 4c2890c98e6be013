"""What the engine says about remote workers as they come, register and go: one line each, under the worker's name."""

from __future__ import annotations

import logging
from typing import Any, cast

import msgspec

from linkly.bus import Json
from linkly.errors import LinklyError
from linkly.wire.messages import is_absent
from linkly_engine.core.registry import FunctionRecord
from linkly_engine.core.triggers import BindingRecord, TypeRecord
from linkly_engine.core.workers import WorkerRecord
from linkly_engine.remote.function import UrlFunction

log = logging.getLogger("linkly.engine")

TELLING = ("http_method", "api_path", "expression", "topic", "queue", "scope", "key")
"""Members of a trigger's config that say in a word or two when it fires."""


def worker_registered(worker: WorkerRecord) -> None:
    """A worker has said who it is, and its registrations are in force; one without a name only calls."""
    if worker.name:
        facts = {"name": worker.name, "id": worker.id, "address": worker.ip_address, "pid": worker.pid}
        _say(worker, "Worker registered", data={key: value for key, value in facts.items() if value is not None})


def name_refused(worker: WorkerRecord, error: LinklyError) -> None:
    """A worker's name is another's: it is let go, and nothing that it registers is served."""
    who = {"id": worker.id, "address": worker.ip_address, "pid": worker.pid}
    data = {key: value for key, value in who.items() if value is not None}
    name = str(error.details.get("worker_name") or worker.id[:8])
    pid = f" (process {worker.pid})" if worker.pid is not None else ""
    _say(worker, "refused a second `%s`%s: %s", name, pid, error.message, level=logging.WARNING, data=data)


def worker_gone(worker: WorkerRecord, reason: str) -> None:
    """A connection has ended; that of one who only called, such as `linkly trigger`, is no news."""
    level = logging.INFO if worker.name else logging.DEBUG
    if worker.retiring:
        reason = "it was stopped or replaced"
    _say(worker, "Worker disconnected", level=level, data={"name": worker.name or worker.id, "reason": reason})


def function_registered(worker: WorkerRecord, function: FunctionRecord) -> None:
    """A function can be called from now on, or is registered in a way that cannot be called: that is an error."""
    if isinstance(function.endpoint, UrlFunction):
        _say(worker, "%s", function.endpoint.reason, level=logging.ERROR)
    else:
        _say(worker, "[REGISTERED] Function %s", function.id)


def registration_refused(worker: WorkerRecord, error: LinklyError) -> None:
    """A function id is another worker's, or the worker has too much of all."""
    text = "%s" if not error.details.get("owner_worker_id") else "%s; it is served from here when that one is gone"
    _say(worker, text, error.message, level=logging.WARNING)


def function_handed_on(function: FunctionRecord) -> None:
    """A function that waited for its id is served from now on: whoever served it is gone."""
    _say(function.owner, "[REGISTERED] Function %s: the worker that served it is gone", function.id)


def trigger_not_theirs(worker: WorkerRecord, binding: BindingRecord | None) -> None:
    """A worker wanted to take back a trigger; nothing happens if it is another's, or if there is none."""
    if binding is not None and binding.owner is not None:
        owner = binding.owner.name or binding.owner.id
        _say(worker, "trigger `%s` belongs to worker %s and stays", binding.id, owner, level=logging.WARNING)


def trigger_registered(worker: WorkerRecord, binding: BindingRecord, waits: str | None) -> None:
    """A trigger is tied to a function; `waits` says why it does not fire yet."""
    words = " ".join((binding.trigger_type, *_telling(binding.config)))
    if waits is not None:
        _say(worker, "[WAITING] Trigger %s of %s: %s", words, binding.function_id, waits, level=logging.WARNING)
        return
    # That somebody watches a caller while it keeps something for it is no news.
    level = logging.DEBUG if binding.trigger_type == "engine::worker-gone" else logging.INFO
    _say(worker, "[REGISTERED] Trigger %s runs %s", words, binding.function_id, level=level)


def triggers_live(kind: TypeRecord, count: int) -> None:
    """Triggers that waited for their type fire from now on."""
    _say(kind.owner, "[REGISTERED] Trigger type %s: %d waiting trigger(s) fire from now on", kind.id, count)


def unattended_failed(function_id: str, result: Json, error: Json) -> None:
    """A call that nobody waits for was answered: say so if it failed."""
    if not is_absent(error):
        log.warning("`%s`, called without waiting, failed: %s", function_id, bytes(error).decode("utf-8", "replace"))


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
