"""What is missing, and where to get it: sentences for errors and log lines.

A recommendation is looked up in what ships with this version, so that no error recommends what the next one refuses.
This module knows names only; it loads, starts and asks nobody.

* `how_to_get(worker)`: the way to a worker, or that linkly does not have it yet;
* `not_there_yet(worker)`: whether it is one of iii's that linkly does not have yet;
* `why_it_waits(binding)`: why a trigger does not fire.
"""

from __future__ import annotations

from functools import cache

from linkly_engine.core.records import BindingRecord, BindingState
from linkly_engine.shipped import not_there_yet, shipped_names

PROVIDERS = {
    "http": "http",
    "state": "state",
    "cron": "cron",
    "queue": "queue",
    "durable:subscriber": "queue",
    "subscribe": "pubsub",
    "stream": "stream",
    "stream:join": "stream",
    "stream:leave": "stream",
    "database::row-changed": "database",
}
"""Trigger type -> the worker that provides it, in iii and in linkly (docs/workers.md)."""


@cache  # said for every trigger that waits, of a flood of them too; looking costs 0.1 ms
def how_to_get(worker: str) -> str:
    """Say how to get a worker."""
    if worker in shipped_names():
        return f"`linkly worker add {worker}` adds it (`- name: {worker}` in config.yaml)"
    return not_there_yet(worker) or f"is the worker `{worker}` connected?"


def why_it_waits(binding: BindingRecord) -> str | None:
    """Say why a trigger does not fire; `None` if it does."""
    state = binding.state
    if state is BindingState.LIVE:
        return None
    if state is BindingState.WAITS_FOR_ID:
        return f"another worker has a trigger with the id `{binding.id}`: this one waits until that one is gone"
    if state is BindingState.WAITS_FOR_FUNCTION:
        return f"another worker serves `{binding.function_id}`: it waits until this worker serves it"
    if state is BindingState.REFUSED:
        return f"the provider of trigger type `{binding.trigger_type}` has refused it"
    where = f" in namespace `{binding.trigger_namespace}`" if binding.trigger_namespace is not None else ""
    worker = PROVIDERS.get(binding.trigger_type) if not where else None
    advice = how_to_get(worker) if worker is not None else "is the worker that provides it connected?"
    return f"it waits for trigger type `{binding.trigger_type}`, which nobody provides{where}: {advice}"
