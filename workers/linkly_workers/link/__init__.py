"""The `link` worker: the link shortener."""

from linkly_workers.link.worker import LinkSettings, LinkWorker

__all__ = ["LinkSettings", "LinkWorker"]
