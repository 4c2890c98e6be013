"""What a connection to a server has to be, and whoever makes it."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from linkly_workers.database.backend import Result, Statement, Take


class ServerStatement(Statement, Protocol):
    """A statement that is run on a server."""

    @property
    def reads(self) -> bool:
        """Whether nobody cares whether it had an effect when it was stopped or its connection lost."""
        ...


R = TypeVar("R", bound=Result)
R_co = TypeVar("R_co", bound=Result, covariant=True)
S = TypeVar("S", bound=ServerStatement)
S_contra = TypeVar("S_contra", bound=ServerStatement, contravariant=True)


class Connection(Protocol[S_contra, R_co]):
    """A connection that one caller after another has; one statement at a time.

    A statement whose caller is cancelled is stopped on the server; what comes next waits for that. Every method but
    `allow` and `abort` may raise what its `Driver` calls failures.

    Attributes:
        fit: It may go to the next caller.
        left_bytes: What the answer of this caller may still take.
    """

    fit: bool
    left_bytes: int

    @property
    def is_usable(self) -> bool:
        """Whether it can go to a caller, as far as is known."""
        ...

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left of what the last caller has done, so that `reset` need not be called."""
        ...

    def allow(self, limit: int) -> None:
        """Let the next answer take so many bytes."""
        ...

    async def check(self, statement: S_contra) -> None:
        """Compile a statement without running it.

        Raises:
            DriverError: The server has no such statement, or its result cannot be read.
        """
        ...

    async def run(self, statement: S_contra, values: list[Any], *, last: bool = False) -> R_co:
        """Run a statement and read all of its result.

        `last`: no transaction is open, and `reset` comes next; so it may be begun already.

        Raises:
            DriverError: There are too many values or too few, or its result cannot be read.
            InvalidParam: A value does not fit.
            ResultTooLarge: The rows are larger than allowed; the statement was stopped.
        """
        ...

    async def stream(self, statement: S_contra, values: list[Any], take: Take) -> None:
        """Run a statement inside a transaction and hand its rows over in batches: see `Database.stream`.

        Raises:
            DriverError, InvalidParam, ResultTooLarge: As `run`.
        """
        ...

    async def begin(self, isolation: str | None, *, read_only: bool = False) -> None:
        """Begin a transaction, after rolling back what is open; `isolation` as for `Database.begin`."""
        ...

    async def commit(self) -> bool:
        """Commit the transaction; returns whether the server has done that, and not rolled it back."""
        ...

    async def savepoint(self, statement: S_contra) -> None:
        """Note where the transaction stands before a statement, which `go_back` undoes."""
        ...

    async def go_back(self) -> None:
        """Undo what has been done since the last savepoint; the transaction goes on from there."""
        ...

    async def only_reads(self) -> bool:
        """Ask whether the server takes no writes."""
        ...

    async def reset(self) -> None:
        """Undo what a caller has left; if that fails, nobody may have this connection any more."""
        ...

    async def close(self) -> None:
        """Disconnect; a server that does not answer is left."""
        ...

    def abort(self) -> None:
        """Disconnect without a word."""
        ...


C = TypeVar("C", bound=Connection[Any, Any])
C_co = TypeVar("C_co", bound=Connection[Any, Any], covariant=True)


class Connector(Protocol[C_co]):
    """Makes connections to one server, or to the first of several that answers.

    Attributes:
        url: Where it is, without a password.
    """

    url: str

    async def check_files(self) -> None:
        """Read the files that connections need; the server is not asked.

        Raises:
            OSError: One cannot be read.
        """
        ...

    async def connect(self) -> C_co:
        """Make one connection; it has a time limit of its own.

        Raises:
            OSError: The server cannot be reached; or what the driver raises where it lets nobody in.
        """
        ...
