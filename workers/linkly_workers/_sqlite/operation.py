"""One caller's part of a batch: what it runs, where it may run, and what it is answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from linkly.errors import OutcomeUnknown
from linkly_workers._sqlite.connection import Connection
from linkly_workers._sqlite.text import ANYWHERE

T = TypeVar("T")

log = logging.getLogger("linkly.sqlite")


class Operation(msgspec.Struct, Generic[T], eq=False):
    """One caller's part of a batch; a Struct because one is made for every write.

    Attributes:
        run: What to do with the connection. It may be called again when a neighbour's failure undoes everything.
        future: The caller's answer.
        several: It is more than one statement, so that a failure can leave half of it behind.
        place: Where it may run: `ANYWHERE`, `THREAD` or `ALONE` (VACUUM: in no transaction of others).
        key: What to remember it by if it takes long.
        caller: Among whom the writer's time is shared out.
        on_commit: Told the result, in the order of the commits.
        waits: Where it stands among those whose time will be over; taken out of it, it has all the time it needs.
        expired: Its time is over.
        taken: It is in a batch; from here on it is answered with what really happened.
        took_s: Seconds it ran on the writing thread, commit and waiting for the interpreter not included.
    """

    run: Callable[[Connection], T]
    future: asyncio.Future[T]
    several: bool = False
    place: int = ANYWHERE
    key: object = None
    on_commit: Callable[[T], None] | None = None
    caller: str | None = None
    waits: dict[Operation[Any], float] | None = None
    expired: bool = False
    taken: bool = False
    took_s: float = 0.0
    result: Any = None
    error: BaseException | None = None

    @property
    def unwanted(self) -> bool:
        """Whether the caller has gone or its time is over; it stops where it still can."""
        return self.expired or self.future.cancelled()

    def expire(self) -> None:
        """Its time is over: it stops where it waits or runs; what has run is answered by its commit."""
        self.expired = True
        if not self.taken and not self.future.done():
            self.future.set_exception(TimeoutError())

    def disarm(self) -> None:
        """Its time does not count any longer."""
        if self.waits is not None:
            self.waits.pop(self, None)

    def answer(self, path: str) -> None:
        """Answer the caller; if it is committed to `path`, call `on_commit` before."""
        if self.waits is not None:
            self.waits.pop(self, None)
        error = self.error
        if error is None and self.on_commit is not None:
            try:
                self.on_commit(self.result)
            except Exception:
                log.exception("what follows a commit to %s failed", path)
        if self.future.done():
            return
        if error is None:
            self.future.set_result(self.result)
        elif self.expired and not isinstance(error, OutcomeUnknown):
            self.future.set_exception(TimeoutError())
        else:
            self.future.set_exception(error)
