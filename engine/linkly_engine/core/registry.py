"""The table of functions: (namespace, function id) -> who serves it and how to call it.

First come, first served: an id belongs to one live worker, until that worker retires. Others who offer the same id
stand in line (`wait`); when the owner goes, the first of them serves. `on_change` is called at once for every change
of the set of functions, which is how `functions-available` fires without polling.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from linkly.bus import DEFAULT_NAMESPACE, Endpoint
from linkly.errors import FunctionConflict
from linkly_engine.core.workers import WorkerRecord

BUILTIN_PREFIX = "engine::"


class FunctionRecord(msgspec.Struct, kw_only=True, eq=False):
    """One served function.

    Attributes:
        id: Function id.
        namespace: Where it is found.
        endpoint: How to call it.
        owner: Who serves it.
        description: For people.
        request_schema: JSON Schema or the older tree form, as its worker sent it.
        response_schema: Likewise.
        metadata: As its worker sent it.
    """

    id: str
    namespace: str
    endpoint: Endpoint
    owner: WorkerRecord
    description: str | None = None
    request_schema: Any = None
    response_schema: Any = None
    metadata: Any = None

    @property
    def alias(self) -> bool:
        """Whether it is an older id of another function."""
        return isinstance(self.metadata, dict) and "alias_of" in self.metadata

    @property
    def internal(self) -> bool:
        """Whether listings hide it by default."""
        if isinstance(self.metadata, dict) and self.metadata.get("internal") is True:
            return True
        return self.id.startswith(BUILTIN_PREFIX) and not self.id.startswith("engine::queue::")


class Registry:
    """Functions by (namespace, id)."""

    def __init__(self, on_change: Callable[[], None] | None = None) -> None:
        self._functions: dict[tuple[str, str], FunctionRecord] = {}
        self._waiting: dict[tuple[str, str], list[FunctionRecord]] = {}
        self._on_change = on_change or (lambda: None)
        self._before: dict[tuple[str, str], bool] = {}

    def __iter__(self) -> Iterator[FunctionRecord]:
        return iter(list(self._functions.values()))

    def __len__(self) -> int:
        return len(self._functions)

    def take_change(self) -> bool:
        """Tell whether the set of ids differs from that at the last call; costs what has changed, not what there is."""
        before, self._before = self._before, {}
        return any((key in self._functions) is not was for key, was in before.items())

    def find(self, namespace: str, function_id: str) -> FunctionRecord | None:
        """Return the function, `None` if nobody serves it."""
        return self._functions.get((namespace, function_id))

    def namespaces_with(self, function_id: str) -> list[str]:
        """Return every namespace that has this id, sorted."""
        return sorted(namespace for namespace, known in self._functions if known == function_id)

    def nearest(self, function_id: str, limit: int = 3) -> list[str]:
        """Return ids that look like a misspelt one, best first."""
        known = sorted({record.id for record in self._functions.values() if not record.internal})
        return difflib.get_close_matches(function_id, known, n=limit, cutoff=0.6)

    def add(self, record: FunctionRecord) -> None:
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
        if known is not None and known.owner is not record.owner and known.owner.alive and not known.owner.retiring:
            raise FunctionConflict(
                f"`{record.id}` is served in namespace `{record.namespace}` by worker "
                f"{known.owner.name or known.owner.id}; choose another id or stop that worker",
                details={
                    "owner_worker_id": known.owner.id,
                    "namespace": record.namespace,
                    "function_id": record.id,
                },
            )
        self._before.setdefault(key, known is not None)
        self._functions[key] = record
        self._leave_line(key, record.owner)
        self._on_change()

    def wait(self, record: FunctionRecord) -> bool:
        """Let a function that `add` has refused stand in line for its id; answer whether it does.

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
        return True

    def heir(self, namespace: str, function_id: str) -> FunctionRecord | None:
        """Return who would serve a function if its owner went now."""
        return next(iter(self._waiting.get((namespace, function_id), ())), None)

    def waits(self, namespace: str, function_id: str, owner: WorkerRecord) -> bool:
        """Tell whether a worker stands in line for an id."""
        return any(record.owner is owner for record in self._waiting.get((namespace, function_id), ()))

    @property
    def waiting(self) -> int:
        """Count the functions that stand in line."""
        return sum(len(line) for line in self._waiting.values())

    def remove(self, namespace: str, function_id: str, owner: WorkerRecord) -> list[FunctionRecord]:
        """Stop serving a function, or waiting for it; nothing happens if `owner` does neither.

        Returns:
            The function that is served instead from now on, if one stood in line.
        """
        key = (namespace, function_id)
        self._leave_line(key, owner)
        known = self._functions.get(key)
        if known is None or known.owner is not owner:
            return []
        return self._vacate([key])

    def drop_owner(self, owner: WorkerRecord) -> list[FunctionRecord]:
        """Remove everything a worker serves or waits for.

        Returns:
            The functions that are served instead from now on, because they stood in line.
        """
        self.leave_lines(owner)
        return self._vacate([key for key, record in self._functions.items() if record.owner is owner])

    def leave_lines(self, owner: WorkerRecord) -> None:
        """Remove everything a worker waits for."""
        for key in list(self._waiting):
            self._leave_line(key, owner)

    def _vacate(self, keys: list[tuple[str, str]]) -> list[FunctionRecord]:
        """Take ids from their owners and give them to those who wait."""
        promoted: list[FunctionRecord] = []
        for key in keys:
            line = self._waiting.get(key)
            if line:
                heir = self._functions[key] = line[0]
                self._leave_line(key, heir.owner)
                promoted.append(heir)
            else:
                self._before.setdefault(key, True)
                del self._functions[key]
        if keys:
            self._on_change()
        return promoted

    def _leave_line(self, key: tuple[str, str], owner: WorkerRecord) -> None:
        line = self._waiting.get(key)
        if line is None:
            return
        line[:] = [record for record in line if record.owner is not owner]
        if not line:
            del self._waiting[key]

    def count(self, owner: WorkerRecord) -> int:
        """Count the functions of a worker that a listing shows: neither internal ones nor older ids of one."""
        return sum(1 for record in self._functions.values() if record.owner is owner and not record.internal)
