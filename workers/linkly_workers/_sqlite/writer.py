"""Group commit: one writer per file; callers that wait at the same time share one transaction.

An answer comes after the commit, never before. What that means is the durability: `power` (synchronous=FULL, the
write survives a power cut) or `process` (NORMAL, it survives kill -9).

Statements run on the loop's thread, because a hop to another one costs more than they do; the commit, which waits for
the disk, runs on it too when that is a small part of a large batch (see `disk`), else on the writing thread, while the
next batch gathers. An operation that is long or has to wait (a large statement, another process's lock, VACUUM)
is undone, run on the writing thread, and remembered.

Callers take turns, see `line`. A failing operation fails its own caller alone, see `batch`. Whoever needs to write over
several calls asks for a `turn`: it comes in order, and the writes behind it wait, neither failing nor part of it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from linkly.clock import Clock, SystemClock
from linkly.context import current_invocation
from linkly.errors import LinklyError, Overloaded
from linkly_workers._line import SHARED_FROM, FairLine
from linkly_workers._sqlite.batch import Done, lose
from linkly_workers._sqlite.checkpoint import CHECKPOINT, LOG_BYTES, LOOK_EVERY, Checkpointer
from linkly_workers._sqlite.commits import Commits
from linkly_workers._sqlite.connection import OWN_BYTES, Budget, Connection, Durability, connect, is_too_large
from linkly_workers._sqlite.data_file import DataFile
from linkly_workers._sqlite.disk import Disk
from linkly_workers._sqlite.execution import StatementResult, execute, run_statement
from linkly_workers._sqlite.lock import HOLDERS_PATIENCE_MS, Lock
from linkly_workers._sqlite.loop_batch import LOOP_STATEMENT_S, LoopBatch
from linkly_workers._sqlite.operation import Operation
from linkly_workers._sqlite.slow import SAVED_AFTER_FAILURE, SlowOperations
from linkly_workers._sqlite.statement import Statement, Statements
from linkly_workers._sqlite.states import MAY_FOLLOW, State
from linkly_workers._sqlite.text import ALONE
from linkly_workers._sqlite.thread import WritingThread
from linkly_workers._sqlite.turn import Asking, Inside, Turn, asking
from linkly_workers._sqlite.waits import Waits

T = TypeVar("T")

STANDSTILL_S = 3.0
"""A writer for which somebody waits and that has finished nothing for so long has stood still."""


class GroupCommitWriter:
    """The one writer of one SQLite file, `async with` it.

    Args:
        path: File, made with its folder on first use; `:memory:` for tests.
        durability: What an answered write survives.
        lock_patience_s: How long writes wait for another program that has locked the file.
        value_bytes: Larger values are written on the writing thread.
        max_result_bytes: A statement whose result is larger fails; `None`: no limit.
        clock: For time-outs and `standing_still_s`; by default the system's.
        disk: What is known of the disk; by default nothing.

    Attributes:
        batches: Commits so far.
        operations: Operations so far; divided by `batches`, how much is shared.
        file: What is known of the file.
        statements: What is known of the statements that run on it.
    """

    def __init__(
        self,
        path: str,
        *,
        durability: Durability = "power",
        lock_patience_s: float = 5,
        value_bytes: int = OWN_BYTES,
        max_result_bytes: int | None = None,
        clock: Clock | None = None,
        disk: Disk | None = None,
    ) -> None:
        self.path = path
        self.max_result_bytes = max_result_bytes
        self._value_bytes = value_bytes
        self.file = DataFile(path)
        self.statements = Statements()
        clock = clock or SystemClock()
        self._monotonic = clock.monotonic
        self._moved = 0.0
        self._lock = Lock(path, lock_patience_s)
        self.durability: Durability = durability
        self._waits_for_disk = path != ":memory:" and durability == "power"
        self._disk = Disk() if disk is None else disk
        self._queue: FairLine[Operation[Any]] = FairLine()
        self._state = State.CLOSED
        self._turn: Turn | None = None
        self._closing = False
        self._idle: asyncio.Future[None] | None = None
        self._slow = SlowOperations(LOOP_STATEMENT_S)
        self._saving = 0
        self._checkpointer: Checkpointer | None = None
        self._waits = Waits(clock)
        self.batches = 0
        self.operations = 0

    # --- lifetime ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> GroupCommitWriter:
        self._loop = asyncio.get_running_loop()
        # On the loop's thread nobody waits for another process's lock; the writing thread does.
        self._connection = connect(
            self.path,
            durability=self.durability,
            busy_timeout_ms=0,
            max_result_bytes=self.max_result_bytes,
            statements=self.statements,
        )
        self._rows = self._connection.total_changes
        self._budget = Budget(self._connection, self._value_bytes)
        self._loop_batch = LoopBatch(self._connection, self._budget, self._queue, self._slow)
        self._commits = Commits(self._connection, self._budget, self.file)
        if self.path != ":memory:":
            self._connection.own("PRAGMA wal_autocheckpoint = 0")
            self._connection.own("PRAGMA journal_size_limit = ", LOG_BYTES)
            try:
                self.file.opened(self._connection)
                self._checkpointer = Checkpointer(self.path, self.durability, self._finish_checkpoint)
            except BaseException:
                self._connection.close()
                raise
        self._thread = WritingThread(f"writer of {self.path}")
        self._enter(State.IDLE)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closing = True
        if self._turn is not None:
            self._turn.end()
        while self._queue or self._state is State.ON_THREAD:
            self._idle = self._loop.create_future()
            await self._idle
        self._turn = None
        self._enter(State.CLOSED)
        if self._checkpointer is not None:
            await self._checkpointer.close()
        await self._thread.stop()
        self._waits.close()
        self._connection.close()

    @property
    def waiting(self) -> int:
        """Count the operations that wait for their turn."""
        return len(self._queue)

    @property
    def standing_still_s(self) -> float:
        """Return for how long no operation has ended although some wait: for a turn's holder, a lock or the disk."""
        return self._monotonic() - self._moved if self._queue or self._state is State.ON_THREAD else 0.0

    def trouble(self) -> str | None:
        """Return in one clause why writes do not go through now; `None` if nothing is known against it."""
        if not self.file.is_there():
            return "its file was deleted or replaced"
        if self.file.doubtful:
            return "the disk refuses to write"
        seconds = self.standing_still_s
        return f"no write has ended for {seconds:.0f} s, {self.waiting} wait" if seconds >= STANDSTILL_S else None

    # --- what callers want ---------------------------------------------------------------------------------

    def run(
        self,
        operation: Callable[[Connection], T],
        *,
        on_commit: Callable[[T], None] | None = None,
        timeout_s: float | None = None,
        key: object = None,
    ) -> asyncio.Future[T]:
        """Run several statements as one: all of them or none, answered after the commit.

        Args:
            operation: Does it, on this or another thread. It may be run a second time when another operation of
                the same batch takes the transaction down, so it must not act on anything but the connection.
            on_commit: Told the result on the loop's thread, in the order of the commits, also when the caller has
                been cancelled meanwhile: what is on disk has happened.
            timeout_s: How long it may wait and run. Once it has run it is answered with what became of it.
            key: Equal for operations that take equally long, to remember the long ones.

        Raises:
            Overloaded: Too many operations wait.
            TimeoutError: It took longer than `timeout_s`; nothing was written.
            Exception: What `operation` raised; nothing of it was written.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        return self._submit(Operation(operation, future, several=True, key=key, on_commit=on_commit), timeout_s)

    def execute(
        self,
        sql: str | Statement,
        parameters: Sequence[Any] | dict[str, Any] = (),
        *,
        on_commit: Callable[[StatementResult], None] | None = None,
        timeout_s: float | None = None,
    ) -> asyncio.Future[StatementResult]:
        """Run one statement, or the one of a text, answered after the commit.

        Raises:
            Overloaded: Too many operations wait.
            TimeoutError: It took longer than `timeout_s`; nothing was written.
            sqlite3.Error: The statement failed, or another program has locked the file for `lock_patience_s`.
        """
        future: asyncio.Future[StatementResult] = self._loop.create_future()
        statement = sql if isinstance(sql, Statement) else self.statements.of(sql)
        place = statement.place
        run = execute if place == ALONE else run_statement
        operation = Operation(
            lambda connection: run(connection, statement, parameters), future, False, place, statement.text, on_commit
        )
        return self._submit(operation, timeout_s)

    async def turn(self) -> Turn:
        """Wait, in order, until nobody writes; the others wait until the turn is ended.

        Raises:
            Overloaded: Too many operations wait.
        """
        future: asyncio.Future[Turn] = self._loop.create_future()
        try:
            return await self._submit(asking(future), None)
        except asyncio.CancelledError:
            # It may have been given in the very moment in which its caller was cancelled.
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().end()
            raise

    def _submit(self, operation: Operation[T], timeout_s: float | None) -> asyncio.Future[T]:
        if self._closing or self.file.lost is not None:
            raise self._refusal()
        invocation, queue = current_invocation.get(), self._queue
        operation.caller = caller = None if invocation is None else invocation.origin
        if queue.size >= SHARED_FROM:
            queue.check(caller, self.path)
        if not (queue.size or self._state is State.ON_THREAD):
            self._moved = self._monotonic()
        queue.append(caller, operation)
        if timeout_s is not None:
            self._waits.add(operation, timeout_s)
        if self._state is State.IDLE:
            self._start()
        return operation.future

    # --- the loop's thread ---------------------------------------------------------------------------------

    def _enter(self, state: State) -> None:
        assert state in MAY_FOLLOW[self._state], f"{state!r} may not follow {self._state!r}"
        self._state = state

    def _start(self) -> None:
        # At the end of this turn of the loop: whoever has just been answered writes again before that. Measured: 53k
        # inserts/s for 64 callers, against 37k when a batch starts with whoever comes first.
        self._enter(State.SCHEDULED)
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Take from the queue what can share a commit."""
        if self._state is not State.SCHEDULED:
            return  # closed meanwhile
        queue = self._queue
        if self.file.lost is not None:
            self._refuse_all()
        while queue and queue.head.unwanted:
            queue.popleft().disarm()
        if not queue:
            self._enter(State.IDLE)
            self._go_on()
            return
        if isinstance(queue.head, Asking):
            self._enter(State.HELD)
            self._turn = Turn(self._run_in_turn, self._end_turn)
            queue.popleft().future.set_result(self._turn)
        elif self.file.doubtful or self._slow.has(queue.head) or (queue.head.several and self._saving):
            self._hand_over(self._threaded())
        else:
            self._run_on_loop()

    def _run_on_loop(self) -> None:
        try:
            batch, undone = self._loop_batch.run()
        except sqlite3.Error:
            self._hand_over(self._threaded())
            return
        self._lock.since = None
        if undone is not None:
            self._undo(batch, undone.guilty, undone.__cause__)
        elif not self._connection.in_transaction:
            lose(batch)
            self._done(batch)
        elif self._waits_for_disk and not self._disk.is_quick_for(self._changed(len(batch))):
            self._enter(State.ON_THREAD)
            self._thread.put(lambda: self._commits.on_thread(batch, self._disk), self._done_on_thread)
        else:
            refused = self._commits.commit(batch, self._disk)
            if refused is None:
                self._done(batch)
            else:
                self._hand_over(batch, refused)

    def _undo(self, batch: list[Operation[Any]], guilty: Operation[Any], cause: BaseException | None) -> None:
        if self._connection.in_transaction:
            self._connection.own("ROLLBACK")
        if is_too_large(cause):
            self._slow.gather(self._queue, batch)  # it need not be slow, so others can share its commit
        elif guilty.error is None:
            self._slow.stopped(guilty)
        elif guilty.several:
            self._saving = SAVED_AFTER_FAILURE
        else:
            batch.remove(guilty)
            self._answer(guilty)
        (self._hand_over if batch else self._done)(batch)

    def _threaded(self) -> list[Operation[Any]]:
        """Take a batch for the writing thread: something slow by itself, or what needs savepoints or patience."""
        batch = self._slow.take(self._queue)
        self._saving = max(0, self._saving - len(batch))
        return batch

    def _hand_over(self, batch: list[Operation[Any]], refused: sqlite3.Error | None = None) -> None:
        for operation in batch:
            operation.taken = True
        self._enter(State.ON_THREAD)
        self._thread.put(lambda: self._commits.run(batch, refused=refused), self._done_on_thread)

    def _done_on_thread(self, done: Done) -> None:
        finished, locked_out = done
        for operation in self._lock.met(self._queue, locked_out, self._loop.time()):
            self._answer(operation)
        self._done(finished)

    def _done(self, batch: list[Operation[Any]]) -> None:
        self._enter(State.IDLE)
        if batch:
            self._moved = self._monotonic()
            self.batches += 1
        self.operations += len(batch)
        for operation in batch:
            self._answer(operation)
        self._note_changes(len(batch))
        self._go_on()

    def _note_changes(self, least: int) -> None:
        if self._checkpointer is not None:
            self._checkpointer.committed(self._changed(least))
        self._rows = self._connection.total_changes

    def _changed(self, least: int) -> int:
        """Count the rows that have changed since the last commit: at least one for each operation of a batch."""
        return max(least, self._connection.total_changes - self._rows)

    def _refusal(self) -> LinklyError:
        if self.file.lost is not None:
            return self.file.error()
        return Overloaded(f"{self.path} is being closed; nothing was written")

    def _refuse_all(self) -> None:
        while self._queue:
            operation = self._queue.popleft()
            operation.disarm()
            if not operation.future.done():
                operation.future.set_exception(self.file.error())

    def _go_on(self) -> None:
        if self._queue:
            if self._state is State.IDLE:
                self._start()
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _answer(self, operation: Operation[Any]) -> None:
        if operation.took_s:
            self._slow.ran(operation)
        operation.answer(self.path)

    async def _run_in_turn(self, operation: Callable[[Connection], Any]) -> Any:
        future: asyncio.Future[Any] = self._loop.create_future()
        inside = Inside(operation, future, place=ALONE)
        self._thread.put(lambda: self._commits.run([inside], HOLDERS_PATIENCE_MS), lambda _: self._answer(inside))
        return await future

    def _end_turn(self, turn: Turn) -> None:
        if self._turn is turn:
            self._turn, self._moved = None, self._monotonic()
            self._note_changes(LOOK_EVERY)  # its holder may have another connection: how many it were, the log tells
            self._enter(State.IDLE)
            self._go_on()

    def _finish_checkpoint(self) -> asyncio.Future[Any] | None:
        if self._closing:
            return None
        future: asyncio.Future[Any] = self._loop.create_future()
        checkpoint = Operation(lambda connection: connection.own(CHECKPOINT).fetchall(), future, place=ALONE)
        self._queue.append(None, checkpoint)
        if self._state is State.IDLE:
            self._start()
        return future
