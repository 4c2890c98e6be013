"""Rows of the `engine::*` listings (docs/protocol.md 8.1), read from the engine's tables."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from linkly.errors import NotFound
from linkly_engine.core.missing import why_it_waits
from linkly_engine.core.provider import plain
from linkly_engine.core.records import BUILTIN_PREFIX, BindingRecord, FunctionRecord, TypeRecord, WorkerRecord
from linkly_engine.core.tables import Tables

Row = dict[str, Any]
T = TypeVar("T", WorkerRecord, FunctionRecord)

SUMMARY_CHARACTERS = 80


def _present(**fields: Any) -> Row:
    """Leave out what is unset."""
    return {name: value for name, value in fields.items() if value is not None}


def owner_name(owner: WorkerRecord | None, fallback_id: str) -> str:
    """Name a worker, by the first part of an id if it has not said its name."""
    return owner.name if owner is not None and owner.name else fallback_id.split("::", 1)[0]


def function_summary(record: FunctionRecord) -> Row:
    """Return a FunctionSummary."""
    return {
        "function_id": record.id,
        "namespace": record.namespace,
        "worker_name": owner_name(record.owner, record.id),
        **_present(description=record.description, metadata=record.metadata),
    }


def function_detail(tables: Tables, record: FunctionRecord) -> Row:
    """Return a FunctionDetail."""
    bound = [
        {"id": binding.id, "trigger_type": binding.trigger_type, "config": plain(binding.config)}
        for binding in tables.triggers.bindings
        if binding.function_id == record.id and binding.namespace == record.namespace and binding.live_at
    ]
    return {
        **function_summary(record),
        **_present(request_schema=record.request_schema, response_schema=record.response_schema),
        "registered_triggers": bound,
    }


def type_summary(record: TypeRecord) -> Row:
    """Return a TriggerTypeSummary."""
    return {
        "id": record.id,
        "namespace": record.namespace,
        "worker_name": owner_name(record.owner, record.id),
        "description": record.description,
    }


def type_detail(tables: Tables, record: TypeRecord) -> Row:
    """Return a TriggerTypeDetail."""
    instances = sum(1 for binding in tables.triggers.bindings if binding.live_at is record)
    return {
        **type_summary(record),
        **_present(configuration_schema=record.config_schema, request_schema=record.payload_schema),
        "instance_count": instances,
    }


def binding_summary(binding: BindingRecord, *, with_status: bool = False) -> Row:
    """Return a RegisteredTriggerSummary; with its status, and why it waits if it does, when that is asked for."""
    config = plain(binding.config)
    summary = json.dumps(config, separators=(",", ":"), ensure_ascii=False)
    if len(summary) > SUMMARY_CHARACTERS:
        summary = summary[:SUMMARY_CHARACTERS] + "…"
    return {
        "id": binding.id,
        "trigger_type": binding.trigger_type,
        "function_id": binding.function_id,
        "worker_name": owner_name(binding.owner, binding.function_id),
        "config": config,
        "config_summary": summary,
        **(_present(status=binding.state.value, reason=why_it_waits(binding)) if with_status else {}),
    }


def binding_detail(tables: Tables, binding: BindingRecord) -> Row:
    """Return a RegisteredTriggerDetail."""
    function = tables.functions.find(binding.namespace, binding.function_id)
    summary = binding_summary(binding, with_status=True)
    del summary["config_summary"]
    return {
        **summary,
        **_present(metadata=plain(binding.metadata) if binding.metadata is not None else None),
        "trigger": type_detail(tables, binding.live_at) if binding.live_at is not None else None,
        "function": function_detail(tables, function) if function is not None else None,
    }


def worker_summary(tables: Tables, worker: WorkerRecord, active: int) -> Row:
    """Return a WorkerSummary; `active` counts the calls that it serves."""
    return {
        "name": worker.name or None,
        "description": worker.description,
        "version": worker.version,
        "id": worker.id,
        "namespace": worker.home,
        "runtime": worker.runtime,
        "os": worker.os,
        "status": "available" if worker.in_process else "connected",
        "function_count": tables.functions.count(worker),
        "connected_at_ms": worker.connected_at_ms,
        "active_invocations": active,
        "isolation": worker.isolation,
        "ip_address": worker.ip_address,
    }


def worker_detail(tables: Tables, worker: WorkerRecord, summary: Row, metrics: Any) -> Row:
    """Return a WorkerDetail with all it serves, provides and has bound."""
    return {
        "worker": {
            **summary,
            **_present(pid=worker.pid, latest_metrics=metrics),
            "internal": worker.internal,
        },
        "functions": [function_summary(record) for record in tables.functions.of(worker)],
        "trigger_types": [type_summary(record) for record in tables.triggers.types_of(worker)],
        "registered_triggers": [binding_summary(binding) for binding in tables.triggers.bindings_of(worker)],
    }


def listed_workers(tables: Tables) -> list[WorkerRecord]:
    """Return the workers a listing shows: no sockets without a pid, such as browser tabs; sorted by name."""
    shown = [
        worker for worker in tables.workers if (worker.in_process and not worker.internal) or worker.pid is not None
    ]
    return sorted(shown, key=lambda worker: (worker.name, worker.connected_at_ms, worker.id))


def ranked(rows: Iterable[Row], key: str, search: str | None) -> list[Row]:
    """Sort rows by id; with a search text: ids that start with it, then ids that contain it, then descriptions."""
    ordered = sorted(rows, key=lambda row: str(row[key]))
    if not search:
        return ordered
    needle = search.lower()

    def rank(row: Row) -> int:
        name = str(row[key]).lower()
        if name.startswith(needle):
            return 0
        if needle in name:
            return 1
        return 2 if needle in str(row.get("description") or "").lower() else 3

    return sorted((row for row in ordered if rank(row) < 3), key=rank)


def only_one(found: list[T], kind: str, name: str) -> T:
    """Return the single match of a bare id: the one in `default`, else the only one.

    Raises:
        NotFound: None, or several and none of them in `default`.
    """
    if not found:
        raise NotFound(f"there is no {kind} `{name}`")
    spaces = [each.home if isinstance(each, WorkerRecord) else each.namespace for each in found]
    if "default" in spaces:
        return found[spaces.index("default")]
    if len(found) == 1:
        return found[0]
    raise NotFound(
        f"{kind} `{name}` exists in several namespaces ({', '.join(sorted(spaces))}); say which with `namespace`"
    )


def is_internal_type(type_id: str) -> bool:
    """Return whether listings hide a trigger type by default."""
    return type_id.startswith(BUILTIN_PREFIX)
