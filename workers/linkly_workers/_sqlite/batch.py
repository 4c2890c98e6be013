"""What runs inside one commit: operations of callers, each of which must fail alone.

A single statement needs no savepoint: SQLite undoes a failing one by itself. (Nearly always: what it had changed before
its result could not be read stays, and so does what INSERT OR FAIL did; then the batch is undone and run again without
it.) An operation of several statements needs one only when it fails half-way, so on the loop's thread it runs without
(30-40 % of an insert's cost), and when one has failed the batch is undone and run again on the writing thread, where
each has a savepoint.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from time import perf_counter, thread_time
from typing import Any

from linkly.errors import OutcomeUnknown
from linkly_workers._sqlite.connection import Connection, is_final, is_locked
from linkly_workers._sqlite.data_file import DataFile
from linkly_workers._sqlite.operation import Operation
from linkly_workers._sqlite.text import ALONE
from linkly_workers._sqlite.turn import Inside

INTERPRETER_S = 0.010
"""So long a quick operation may wait on the writing thread for the interpreter that a busy loop holds: two turns."""


Done = tuple[list[Operation[Any]], Sequence[Operation[Any]]]
"""Who is finished, and who is not because another program holds the lock."""


class Undone(Exception):
    """The transaction has been rolled back, all of the batch with it; `guilty` is why."""

    def __init__(self, guilty: Operation[Any]) -> None:
        self.guilty = guilty


class Locked(Exception):
    """Another program holds the write lock: `left` have not run, everybody else is finished."""

    def __init__(self, left: Sequence[Operation[Any]]) -> None:
        self.left = left


class LostTransaction(OutcomeUnknown):
    """A statement that succeeded has ended the transaction.

    The authorizer refuses such statements; if one ever gets past it, part of the batch may be on disk, so the batch is
    never run again.
    """

    def __init__(self) -> None:
        super().__init__("the transaction was ended by a statement inside it; it is unknown what has been written")


def lose(batch: Sequence[Operation[Any]]) -> None:
    """The transaction has been ended by a statement inside it: answer that to everybody, and do not run them again."""
    for operation in batch:
        operation.error = operation.error or LostTransaction()


def failed_unsaved(connection: Connection, operation: Operation[Any], error: BaseException) -> None:
    """An operation has failed inside the open transaction, without a savepoint: the loop's thread.

    Raises:
        Undone: It could not be finished on the loop's thread; the transaction is gone, or has to be rolled back.
    """
    final = is_final(error)
    if final:
        operation.error = error
    if not (final and connection.in_transaction and not operation.several and not connection.left_rows):
        raise Undone(operation) from error


def run_saved(connection: Connection, operation: Operation[Any]) -> None:
    """Run an operation inside the open transaction; when it fails nothing of it is left."""
    if operation.unwanted:
        operation.error = asyncio.CancelledError()
        return
    operation.error = None
    began, began_cpu = perf_counter(), thread_time()
    try:
        if operation.several:
            connection.own("SAVEPOINT operation")
        operation.result = operation.run(connection)
        if not connection.in_transaction:
            raise LostTransaction()
        if operation.several:
            connection.own("RELEASE operation")
    except BaseException as error:
        operation.error = error
        if operation.several and connection.in_transaction:
            connection.own("ROLLBACK TO operation")
            connection.own("RELEASE operation")
    finally:
        operation.took_s = max(thread_time() - began_cpu, perf_counter() - began - INTERPRETER_S)


def run_and_commit(
    connection: Connection,
    batch: Sequence[Operation[Any]],
    started: Callable[[Operation[Any] | None], None],
    file: DataFile,
) -> None:
    """Run a batch, one operation that runs `ALONE` or any others, and commit it: each ends on disk or with an error.

    Raises:
        Locked: Another program writes, for longer than the connection's busy timeout.
    """
    if batch[0].place == ALONE:
        _run_alone(connection, batch[0], started, file)
        return
    left = list(batch)
    while left:
        try:
            connection.own("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.own("ROLLBACK")
            if is_locked(error):
                raise Locked(left) from error
            for operation in left:
                operation.error = error
            return
        try:
            for operation in left:
                started(operation)
                run_saved(connection, operation)
                started(None)
                if not connection.in_transaction:
                    if isinstance(operation.error, LostTransaction):
                        raise operation.error
                    # A full disk, an interrupt or ON CONFLICT ROLLBACK has undone everybody's work.
                    raise Undone(operation)
                if operation.error is not None and not operation.several and connection.left_rows:
                    raise Undone(operation)
            file.commit(connection)
        except Undone as undone:
            if connection.in_transaction:
                connection.own("ROLLBACK")
            left.remove(undone.guilty)
            continue
        except LostTransaction:
            lose(left)
        except OutcomeUnknown as unknown:
            for operation in left:
                operation.error = operation.error or unknown
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.own("ROLLBACK")
            if len(left) > 1:
                # Somebody's deferred constraint, or the disk: who can commit by himself does.
                for index, operation in enumerate(left):
                    try:
                        run_and_commit(connection, [operation], started, file)
                    except Locked as locked:
                        raise Locked(left[index:]) from locked
            else:
                left[0].error = left[0].error or error
        return


def _run_alone(
    connection: Connection,
    operation: Operation[Any],
    started: Callable[[Operation[Any] | None], None],
    file: DataFile,
) -> None:
    its_own = connection.in_transaction  # a turn's holder has begun it, and ends it himself
    started(operation)
    try:
        operation.result = operation.run(connection)
        if not its_own:
            file.committed()
    except BaseException as error:
        operation.error = error
        if connection.in_transaction and not its_own:
            connection.own("ROLLBACK")
        if is_locked(error) and not isinstance(operation, Inside):
            raise Locked([operation]) from error
        if isinstance(error, sqlite3.Error) and not its_own:
            _judge(connection, operation, error, file)
    finally:
        started(None)


def _judge(connection: Connection, operation: Operation[Any], error: sqlite3.Error, file: DataFile) -> None:
    """A statement that commits itself has failed: in its commit, perhaps."""
    file.refused(connection, error)
    if file.doubtful:
        try:
            file.resolve(connection)
        except sqlite3.Error:
            operation.error = file.unknown(error)
