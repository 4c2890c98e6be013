"""The `state` worker: values by scope and key."""

from linkly_workers.state.worker import StateSettings, StateWorker

__all__ = ["StateSettings", "StateWorker"]
