"""Writes that wait until their store keeps them: batch by batch, one batch at a time.

A store that keeps values elsewhere takes a batch from here, computes what its writes make of the values, and answers
them when the batch is kept. What comes meanwhile waits for the next batch. Callers take turns (`_line`).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Iterator

from linkly.context import current_invocation
from linkly.errors import OutcomeUnknown
from linkly.invocation import Invocation
from linkly_workers._line import FairLine
from linkly_workers.state.errors import StoreError
from linkly_workers.state.stores.store import Change, Outcome, Written

log = logging.getLogger("linkly.state")


class Write:
    """One write that waits.

    Attributes:
        old: The value before it, once it is computed.
        new: The value after it; `None` for absent.
        lost: How often another engine was first, and it had to be computed again.
        invocation: The call that it is part of.
    """

    __slots__ = ("_change", "_future", "_written", "address", "invocation", "lost", "new", "old")

    def __init__(
        self,
        address: tuple[str, str],
        change: Change,
        written: Written,
        future: asyncio.Future[Outcome],
        invocation: Invocation | None,
    ) -> None:
        self.address = address
        self.invocation = invocation
        self._change = change
        self._written = written
        self._future = future
        self.old: bytes | None = None
        self.new: bytes | None = None
        self.lost = 0

    @property
    def caller(self) -> str | None:
        """Where the call entered that it is part of."""
        return None if self.invocation is None else self.invocation.origin

    @property
    def answered(self) -> bool:
        """Whether nobody waits for it any more: its caller has gone, or has its answer."""
        return self._future.done()

    def compute(self, old: bytes | None) -> bool:
        """Compute it on top of a value; `False`: its change raised, which its caller is told."""
        self.old = old
        try:
            self.new = self._change(old)
        except Exception as error:
            self.fail(error)
            return False
        return True

    def kept(self) -> None:
        """Note that it counts, and answer its caller."""
        self._written(self.old, self.new)
        if not self._future.done():
            self._future.set_result((self.old, self.new))

    def fail(self, error: Exception) -> None:
        """Tell its caller what is wrong."""
        if not self._future.done():
            self._future.set_exception(error)


class Waiting:
    """The writes that wait for one store.

    Args:
        whom: What they wait for, for the error of one who asks too much.
        serve: Keeps one batch: takes writes with `take` and answers them, or puts them back.
    """

    def __init__(self, whom: str, serve: Callable[[], Awaitable[None]]) -> None:
        self._whom = whom
        self._serve = serve
        self._line: FairLine[Write] = FairLine()
        self._taken: list[Write] = []
        self._serving: asyncio.Task[None] | None = None
        self._open = False

    def open(self) -> None:
        """Take writes."""
        self._open = True

    async def close(self) -> None:
        """Take no more writes, and wait until those that wait are answered."""
        self._open = False
        await self.idle()

    async def idle(self) -> None:
        """Wait until no write waits."""
        while self._serving is not None:
            await asyncio.wait([self._serving])

    @property
    def is_open(self) -> bool:
        """Whether it takes writes."""
        return self._open

    async def write(self, scope: str, key: str, change: Change, written: Written) -> Outcome:
        """Wait until a write is kept: see `Store.write`."""
        if not self._open:
            raise StoreError("the store is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        write = Write((scope, key), change, written, future, current_invocation.get())
        caller = write.caller
        self._line.check(caller, self._whom)
        self._line.append(caller, write)
        if self._serving is None:
            # An empty context: the task serves all writes, not only the call that came first.
            self._serving = loop.create_task(self._serve_all(), context=contextvars.Context())
        return await future

    def take(self) -> Iterator[Write]:
        """Take writes out of the line, as many as are asked for."""
        while self._line:
            write = self._line.popleft()
            if not write.answered:  # its caller has gone before anything was done for it
                self._taken.append(write)
                yield write

    def put_back(self, writes: list[Write]) -> None:
        """Let writes stand in front of their callers' others again, in this order."""
        for write in reversed(writes):
            self._line.appendleft(write.caller, write)

    async def _serve_all(self) -> None:
        try:
            while self._line:
                self._taken.clear()
                try:
                    await self._serve()
                except BaseException as error:  # a fault of the store's: nobody waits for ever
                    log.exception("a batch of writes has failed")
                    for write in self._taken:
                        write.fail(OutcomeUnknown(f"the store has failed, and it may be written or not: {error!r}"))
                    if not isinstance(error, Exception):
                        raise
        finally:
            self._taken.clear()
            self._serving = None
