"""The end of a transaction that is made on a caller's behalf."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from linkly_workers.database.backend import Transaction


async def commit(transaction: Transaction[Any], committed: Callable[[], None]) -> None:
    """Commit, and call `committed` then; it goes on when the caller goes away, who hears of that behind it.

    Raises:
        LinklyError: As `Transaction.commit`.
    """
    task = asyncio.get_running_loop().create_task(transaction.commit(committed), name="commit")
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
