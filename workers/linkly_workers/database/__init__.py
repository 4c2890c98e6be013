"""The `database` worker: SQL over the bus."""

from linkly_workers.database.settings import DatabaseSettings
from linkly_workers.database.worker import DatabaseWorker

__all__ = ["DatabaseSettings", "DatabaseWorker"]
