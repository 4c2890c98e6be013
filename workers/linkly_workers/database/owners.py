"""Which workers have transactions open, so that these end with their worker.

The engine tells when a worker is gone (`engine::worker-gone`), wherever this worker runs. It is asked before a
transaction is begun, and answers at once for a worker that is gone already; so none is begun for nobody and kept. A
caller that never named itself (`linkly trigger`) only came to call: it goes with its answer, and what it has begun
stays for its next call, until the deadline.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, cast

import msgspec

from linkly import Bus, WorkerGone, worker_gone
from linkly.bus import Registration

CALLER_GONE = "because the worker that began it has gone"


class Owner(msgspec.Struct, eq=False):
    """One worker that has transactions open, or is about to.

    Attributes:
        worker_id: Its id, `""` for whoever the engine does not name.
        token: What the engine brings back, so that nobody else can say that it is gone.
        transactions: Their ids.
        watch: The binding of `engine::worker-gone` that tells when it has left.
        gone: It has left.
    """

    worker_id: str
    token: str
    transactions: set[str]
    watch: Registration | None = None
    gone: bool = False


class Owners:
    """Owners by worker id, each from its first open transaction to the end of its last; `function_id` calls `gone`."""

    def __init__(self, bus: Bus, function_id: str, end: Callable[[str, str], None]) -> None:
        self._bus = bus
        self._function_id = function_id
        self._end = end
        self._owners: dict[str, Owner] = {}

    def enter(self, worker_id: str, transaction_id: str) -> Owner:
        """A transaction is about to be begun."""
        owner = self._owners.get(worker_id)
        if owner is None:
            owner = self._owners[worker_id] = Owner(worker_id, secrets.token_hex(16), set())
            if worker_id:
                trigger = worker_gone(worker_id, metadata={"token": owner.token})
                owner.watch = self._bus.register_trigger(self._function_id, trigger)
        owner.transactions.add(transaction_id)
        return owner

    def leave(self, owner: Owner, transaction_id: str) -> None:
        """A transaction has ended, or was not begun after all."""
        owner.transactions.discard(transaction_id)
        if not owner.transactions:
            self._forget(owner)

    def gone(self, event: WorkerGone, metadata: object) -> None:
        """A worker is gone, says whoever has brought the token back."""
        owner = self._owners.get(event.worker_id)
        given = cast("dict[str, Any]", metadata).get("token") if isinstance(metadata, dict) else None
        if owner is None or given != owner.token:
            return
        if event.announced:
            owner.gone = True
            for transaction_id in list(owner.transactions):
                self._end(transaction_id, CALLER_GONE)
        self._forget(owner)

    def _forget(self, owner: Owner) -> None:
        if self._owners.get(owner.worker_id) is owner:
            del self._owners[owner.worker_id]
        watch, owner.watch = owner.watch, None
        if watch is not None:
            watch.unregister()
