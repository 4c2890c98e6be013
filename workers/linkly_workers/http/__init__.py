"""The `http` worker: the gateway that turns requests into calls."""

from linkly_workers.http.worker import HttpSettings, HttpWorker

__all__ = ["HttpSettings", "HttpWorker"]
