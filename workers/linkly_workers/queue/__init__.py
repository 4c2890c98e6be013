"""Durable queues and topics."""

from linkly_workers.queue.worker import QueueWorker

__all__ = ["QueueWorker"]
