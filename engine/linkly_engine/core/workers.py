"""The table of workers: who is here, under which id and name.

One `WorkerRecord` is one lifetime of one worker (one connection, or one start inside the engine). Everything a
worker owns points at its record, so that a late clean-up can never remove what a newer lifetime registered.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import msgspec

from linkly.bus import DEFAULT_NAMESPACE, Caller
from linkly.errors import WorkerConflict


class WorkerRecord(msgspec.Struct, kw_only=True, eq=False):
    """One lifetime of one worker.

    Attributes:
        id: Random UUID, new for every lifetime.
        name: `""` until the worker has said one.
        namespace: Where its registrations go; `None` until that is known.
        in_process: Whether it lives in the engine's process.
        connected_at_ms: Since the epoch.
        announced: It has named itself, or lives in this process; not one that only came to call.
        alive: False from the moment its teardown begins.
        program: Name of the entry in config.yaml that started it; `None` for one that came by itself.
        retiring: Its program is being replaced: the next generation may take its ids and its name, it takes none.
    """

    id: str = msgspec.field(default_factory=lambda: str(uuid.uuid4()))
    name: str = ""
    namespace: str | None = None
    description: str | None = None
    version: str | None = None
    runtime: str | None = None
    os: str | None = None
    pid: int | None = None
    isolation: str | None = None
    features: list[str] = []
    telemetry: dict[str, Any] | None = None
    ip_address: str | None = None
    in_process: bool = False
    internal: bool = False
    connected_at_ms: int = 0
    announced: bool = False
    alive: bool = True
    program: str | None = None
    retiring: bool = False

    @property
    def caller(self) -> Caller:
        """This worker as the maker of a call."""
        return Caller(worker_id=self.id, worker_name=self.name)

    @property
    def shown_name(self) -> str:
        """What people know it by: its entry in config.yaml, the name it gave itself, the beginning of its id."""
        return self.program or self.name or self.id[:8]

    @property
    def home(self) -> str:
        """Its namespace, `default` while unknown."""
        return self.namespace or DEFAULT_NAMESPACE


class WorkerTable:
    """Workers by id, and by (namespace, name)."""

    def __init__(self) -> None:
        self._by_id: dict[str, WorkerRecord] = {}
        self._by_name: dict[tuple[str, str], list[WorkerRecord]] = {}

    def __iter__(self) -> Iterator[WorkerRecord]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, worker_id: str) -> WorkerRecord | None:
        """Return the worker with this id."""
        return self._by_id.get(worker_id)

    def add(self, worker: WorkerRecord) -> None:
        """A lifetime begins."""
        self._by_id[worker.id] = worker

    def holder(self, namespace: str, name: str) -> WorkerRecord | None:
        """Return the live worker that has this name; of several that share it the one that came first."""
        return next(iter(self._by_name.get((namespace, name), ())), None)

    def claim_name(self, worker: WorkerRecord, namespace: str, name: str, *, shared: bool = False) -> None:
        """Give `worker` a name.

        Args:
            worker: Who wants it.
            namespace: Where the name has to be unique.
            name: The name.
            shared: Take it although somebody has it: old clients default to host:pid, so that two in one process
                collide, and a refusal would leave them connected and deaf (protocol.md 3.5).

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
        self.release_name(worker)
        holders = self._by_name.setdefault((namespace, name), [])
        holders.insert(len(holders) if taken else 0, worker)
        worker.name = name

    def release_name(self, worker: WorkerRecord) -> None:
        """Free the name this worker has, if it has one; others who share it keep it."""
        for key in [key for key, holders in self._by_name.items() if worker in holders]:
            holders = self._by_name[key]
            holders.remove(worker)
            if not holders:
                del self._by_name[key]

    def remove(self, worker: WorkerRecord) -> None:
        """A lifetime is over."""
        self.release_name(worker)
        self._by_id.pop(worker.id, None)
