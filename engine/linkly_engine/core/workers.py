"""The table of workers: who is connected or lives in this process, under which id and name."""

from __future__ import annotations

from collections.abc import Iterator

from linkly.errors import WorkerConflict
from linkly_engine.core.records import WorkerRecord


class WorkerTable:
    """Workers by id, and by (namespace, name)."""

    def __init__(self) -> None:
        self._by_id: dict[str, WorkerRecord] = {}
        self._by_name: dict[tuple[str, str], list[WorkerRecord]] = {}
        self._names: dict[WorkerRecord, tuple[str, str]] = {}

    def __iter__(self) -> Iterator[WorkerRecord]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, worker_id: str) -> WorkerRecord | None:
        """Return the worker with this id."""
        return self._by_id.get(worker_id)

    def add(self, worker: WorkerRecord) -> None:
        """Enter a worker."""
        self._by_id[worker.id] = worker

    def holder(self, namespace: str, name: str) -> WorkerRecord | None:
        """Return the live worker that has this name; of several that share it the one that came first."""
        return next(iter(self._by_name.get((namespace, name), ())), None)

    def claim_name(self, worker: WorkerRecord, namespace: str, name: str, *, shared: bool = False) -> None:
        """Give `worker` a name.

        Args:
            shared: Take it although somebody has it: old clients default to host:pid, so that two in one process
                collide, and a refusal would leave them connected and deaf (docs/protocol.md 3.5).

        Raises:
            WorkerConflict: Another live worker has it, is not about to retire, and `shared` is off; `details` name
                the owner.
        """
        owner = self.holder(namespace, name)
        taken = owner is not None and owner is not worker and owner.alive and not owner.retiring
        if owner is not None and taken and not shared:
            raise WorkerConflict(
                f"worker name `{name}` is taken in namespace `{namespace}` by worker {owner.id}; "
                "give this worker another name",
                details={"owner_worker_id": owner.id, "namespace": namespace, "worker_name": name},
            )
        self._release_name(worker)
        holders = self._by_name.setdefault((namespace, name), [])
        holders.insert(len(holders) if taken else 0, worker)
        self._names[worker] = namespace, name
        worker.name = name

    def _release_name(self, worker: WorkerRecord) -> None:
        """Free the name this worker has, if it has one; others who share it keep it."""
        key = self._names.pop(worker, None)
        if key is not None:
            holders = self._by_name[key]
            holders.remove(worker)
            if not holders:
                del self._by_name[key]

    def remove(self, worker: WorkerRecord) -> None:
        """Remove a worker and free its name."""
        self._release_name(worker)
        self._by_id.pop(worker.id, None)
