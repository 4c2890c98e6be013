"""The `state` worker: values by scope and key."""

from linkly_workers.state.shapes import StateSettings
from linkly_workers.state.worker import StateWorker

__all__ = ["StateSettings", "StateWorker"]
