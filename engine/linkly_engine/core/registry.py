"""The table of functions: (namespace, function id) -> who serves it and how to call it.

First come, first served: an id belongs to one live worker, until that worker retires. Others who offer the same id
stand in line (`wait`); when the owner goes, the first of them serves.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import msgspec

from linkly.bus import DEFAULT_NAMESPACE, Endpoint
from linkly.errors import FunctionConflict
from linkly_engine.core.changes import FunctionGone, FunctionHandedOn, FunctionServed
from linkly_engine.core.records import BUILTIN_PREFIX, FunctionRecord, WorkerRecord

Key: TypeAlias = tuple[str, str]
"""Namespace and function id."""

EndpointOf: TypeAlias = Callable[[Endpoint], Endpoint]


class Registry:
    """Functions by (namespace, id)."""

    def __init__(self) -> None:
        self._functions: dict[Key, FunctionRecord] = {}
        self._waiting: dict[Key, list[FunctionRecord]] = {}
        self._owned: dict[WorkerRecord, dict[Key, None]] = {}
        """The ids that each worker serves or waits for: what leaves with it is found without a look at the others."""

    def __iter__(self) -> Iterator[FunctionRecord]:
        return iter(list(self._functions.values()))

    def __len__(self) -> int:
        return len(self._functions)

    def find(self, namespace: str, function_id: str) -> FunctionRecord | None:
        """Return the function, `None` if nobody serves it."""
        return self._functions.get((namespace, function_id))

    def of(self, owner: WorkerRecord) -> list[FunctionRecord]:
        """Return what a worker serves."""
        found = [self._functions.get(key) for key in self._owned.get(owner, ())]
        return [record for record in found if record is not None and record.owner is owner]

    def namespaces_with(self, function_id: str) -> list[str]:
        """Return every namespace that has this id, sorted."""
        return sorted(namespace for namespace, known in self._functions if known == function_id)

    def nearest(self, function_id: str, limit: int = 3) -> list[str]:
        """Return ids that look like a misspelt one, best first."""
        known = sorted({record.id for record in self._functions.values() if not record.internal})
        return difflib.get_close_matches(function_id, known, n=limit, cutoff=0.6)

    def add(self, record: FunctionRecord) -> FunctionServed:
        """Serve a function from now on; its owner may say it again with other words.

        Raises:
            FunctionConflict: Another live worker owns the id, or the id is `engine::...` outside `default`;
                `details.owner_worker_id` is the owner, `""` in the second case.
        """
        key = (record.namespace, record.id)
        if record.id.startswith(BUILTIN_PREFIX) and record.namespace != DEFAULT_NAMESPACE:
            raise FunctionConflict(
                f"`{record.id}`: ids that start with `{BUILTIN_PREFIX}` exist in namespace `default` only",
                details={"owner_worker_id": "", "namespace": record.namespace, "function_id": record.id},
            )
        known = self._functions.get(key)
        if known is not None and known.owner is not record.owner:
            if known.owner.alive and not known.owner.retiring:
                raise FunctionConflict(
                    f"`{record.id}` is served in namespace `{record.namespace}` by worker "
                    f"{known.owner.name or known.owner.id}; choose another id or stop that worker",
                    details={
                        "owner_worker_id": known.owner.id,
                        "namespace": record.namespace,
                        "function_id": record.id,
                    },
                )
            self._disown(key, known.owner)
        self._leave_line(key, record.owner)
        self._functions[key] = record
        self._owned.setdefault(record.owner, {})[key] = None
        return FunctionServed(record, known is None)

    def wait(self, record: FunctionRecord) -> bool:
        """Let a function that `add` has refused stand in line for its id; return whether it does.

        Its owner may say it again with other words, without losing its place. One that retires gets no place, and
        nothing waits for an id that nobody owns.
        """
        key = (record.namespace, record.id)
        if key not in self._functions or record.owner.retiring:
            return False
        line = self._waiting.setdefault(key, [])
        for place, known in enumerate(line):
            if known.owner is record.owner:
                line[place] = record
                return True
        line.append(record)
        self._owned.setdefault(record.owner, {})[key] = None
        return True

    def waits(self, namespace: str, function_id: str, owner: WorkerRecord) -> bool:
        """Return whether a worker stands in line for an id."""
        return any(record.owner is owner for record in self._waiting.get((namespace, function_id), ()))

    @property
    def waiting(self) -> int:
        """Count the functions that stand in line."""
        return sum(len(line) for line in self._waiting.values())

    def remove(self, namespace: str, function_id: str, owner: WorkerRecord) -> list[FunctionHandedOn | FunctionGone]:
        """Stop serving a function, or waiting for it; nothing happens if `owner` does neither."""
        key = (namespace, function_id)
        self._leave_line(key, owner)
        known = self._functions.get(key)
        return self._vacate([key]) if known is not None and known.owner is owner else []

    def drop_owner(self, owner: WorkerRecord) -> list[FunctionHandedOn | FunctionGone]:
        """Remove everything a worker serves or waits for."""
        self.leave_lines(owner)
        return self._vacate(list(self._owned.get(owner, ())))

    def leave_lines(self, owner: WorkerRecord) -> None:
        """Remove everything a worker waits for."""
        for key in list(self._owned.get(owner, ())) if self._waiting else ():
            self._leave_line(key, owner)

    def give_way(self, owner: WorkerRecord) -> list[FunctionHandedOn | FunctionGone]:
        """Stop serving what others wait for."""
        served = self._owned.get(owner, ())
        return self._vacate([key for key in served if key in self._waiting]) if self._waiting else []

    def stand_in(self, before: WorkerRecord, owner: WorkerRecord, endpoint_of: EndpointOf) -> list[FunctionServed]:
        """Let `owner` serve all that `before` serves, by the endpoint that `endpoint_of` makes of the earlier one."""
        changes: list[FunctionServed] = []
        for record in self.of(before):
            key = (record.namespace, record.id)
            successor = msgspec.structs.replace(record, owner=owner, endpoint=endpoint_of(record.endpoint))
            self._functions[key] = successor
            self._disown(key, before)
            self._owned.setdefault(owner, {})[key] = None
            changes.append(FunctionServed(successor, False))
        return changes

    def _vacate(self, keys: Iterable[Key]) -> list[FunctionHandedOn | FunctionGone]:
        """Take ids from their owners and give them to those who wait."""
        changes: list[FunctionHandedOn | FunctionGone] = []
        for key in keys:
            before = self._functions[key]
            self._disown(key, before.owner)
            line = self._waiting.get(key)
            if line:
                heir = self._functions[key] = line[0]
                self._leave_line(key, heir.owner)
                self._owned.setdefault(heir.owner, {})[key] = None
                changes.append(FunctionHandedOn(heir))
            else:
                del self._functions[key]
                changes.append(FunctionGone(before))
        return changes

    def _leave_line(self, key: Key, owner: WorkerRecord) -> None:
        line = self._waiting.get(key)
        if line is None:
            return
        left = [record for record in line if record.owner is not owner]
        if len(left) == len(line):
            return
        self._disown(key, owner)
        if left:
            self._waiting[key] = left
        else:
            del self._waiting[key]

    def _disown(self, key: Key, owner: WorkerRecord) -> None:
        owned = self._owned[owner]
        del owned[key]
        if not owned:
            del self._owned[owner]

    def count(self, owner: WorkerRecord) -> int:
        """Count the functions of a worker that a listing shows: neither internal ones nor older ids of one."""
        return sum(1 for record in self.of(owner) if not record.internal)
