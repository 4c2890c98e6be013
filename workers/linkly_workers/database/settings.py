"""Settings of the database worker."""

from __future__ import annotations

import msgspec

from linkly import Settings
from linkly_workers.database.backends import OneDatabase

LARGEST_RESULT_BYTES = 1_000_000_000


def _default_databases() -> dict[str, OneDatabase]:
    return {"primary": OneDatabase(url="sqlite:./data/iii.db")}


class DatabaseSettings(Settings):
    """Settings of the database worker.

    Attributes:
        databases: By name.
        max_result_bytes: A call whose rows are larger together fails; about the memory that they take.
    """

    databases: dict[str, OneDatabase] = msgspec.field(default_factory=_default_databases)
    max_result_bytes: int = 16_777_216

    def __post_init__(self) -> None:
        if not self.databases:
            raise ValueError("databases: declare at least one database")
        if not 1 <= self.max_result_bytes <= LARGEST_RESULT_BYTES:
            raise ValueError(f"max_result_bytes: {self.max_result_bytes}: must be from 1 to {LARGEST_RESULT_BYTES}")
