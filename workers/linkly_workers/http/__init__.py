"""The `http` worker: the gateway that turns requests into calls."""

from linkly_workers.http.settings import HttpSettings
from linkly_workers.http.worker import HttpWorker

__all__ = ["HttpSettings", "HttpWorker"]
