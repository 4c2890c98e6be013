"""linkly's SDK: what application code imports."""

import importlib
from typing import TYPE_CHECKING, Any

from linkly.bus import Bus, Enqueue, Receipt, Void
from linkly.channel import Channel, ChannelReader, ChannelRef, ChannelWriter
from linkly.context import current
from linkly.engine import WorkerGone, worker_gone
from linkly.errors import LinklyError
from linkly.function import Function, function
from linkly.http import HttpRequest, HttpResponse, Media, Readiness, StreamedResponse, http, readiness
from linkly.invocation import Caller, Invocation, Json
from linkly.queue import DeadJob, Job, JobFailed, RetryLater, current_job, durable_subscriber, subscribe_dead
from linkly.schema import Doc, Settings
from linkly.state import state
from linkly.transaction import atomic
from linkly.trigger import Binding, TriggerDeclaration, TriggerType, trigger
from linkly.version import __version__ as __version__
from linkly.worker import Worker

if TYPE_CHECKING:
    from linkly.client import Client

__all__ = [
    "Binding",
    "Bus",
    "Caller",
    "Channel",
    "ChannelReader",
    "ChannelRef",
    "ChannelWriter",
    "Client",
    "DeadJob",
    "Doc",
    "Enqueue",
    "Function",
    "HttpRequest",
    "HttpResponse",
    "Invocation",
    "Job",
    "JobFailed",
    "Json",
    "LinklyError",
    "Media",
    "Readiness",
    "Receipt",
    "RetryLater",
    "Settings",
    "StreamedResponse",
    "TriggerDeclaration",
    "TriggerType",
    "Void",
    "Worker",
    "WorkerGone",
    "atomic",
    "current",
    "current_job",
    "durable_subscriber",
    "function",
    "http",
    "readiness",
    "state",
    "subscribe_dead",
    "trigger",
    "worker_gone",
]


def __getattr__(name: str) -> Any:
    """Load the client when it is asked for: its WebSocket costs 45 ms of CPU, which no command of `linkly` needs."""
    if name not in ("Client", "client"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    client = importlib.import_module("linkly.client")
    return client if name == "client" else client.Client
