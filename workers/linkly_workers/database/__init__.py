"""The `database` worker: SQL over the bus."""

from linkly_workers.database.worker import DatabaseSettings, DatabaseWorker

__all__ = ["DatabaseSettings", "DatabaseWorker"]
