"""What the errors of a driver and its server mean."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from linkly.errors import LinklyError


class Driver(msgspec.Struct, frozen=True, kw_only=True):
    """One driver, and the codes of its server.

    Attributes:
        name: What `database::listDatabases` and `details.driver` call it.
        failures: What it raises.
        outdated: Of these, what says that the schema has been altered since a statement was compiled: the server has
            not run it.
        unreachable: The code for a server that cannot be reached.
        rolled_back: The code for a transaction that the server has rolled back in place of committing it.
        alone: Codes of statements that do not run inside a transaction.
        ends_transaction: Whether an error leaves nothing of the transaction in which it happened.
        code_of: Returns the server's code of an error.
        is_lost: Whether the connection is gone with an error.
        is_final: Whether no connection can be made until somebody changes something: waiting does not help.
        only_reads: Whether the server takes no writes, and another one may.
        writes: Whether a transaction that only reads refused a statement that writes.
        translated: Returns the error that a caller gets.
        described: Returns an error in one clause, with the server's code if it has one; without user or password.
    """

    name: str
    failures: tuple[type[BaseException], ...]
    outdated: tuple[type[BaseException], ...] = ()
    unreachable: str
    rolled_back: str
    alone: frozenset[str] = frozenset()
    ends_transaction: Callable[[BaseException], bool]
    code_of: Callable[[BaseException], str | None]
    is_lost: Callable[[BaseException], bool]
    is_final: Callable[[BaseException], bool]
    only_reads: Callable[[BaseException], bool]
    writes: Callable[[BaseException], bool]
    translated: Callable[[BaseException], LinklyError]
    described: Callable[[BaseException], str]
