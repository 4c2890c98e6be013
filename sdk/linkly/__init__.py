"""linkly's SDK: what application code imports."""

from linkly.bus import Bus, Enqueue, Receipt, Void
from linkly.channel import Channel, ChannelReader, ChannelRef, ChannelWriter
from linkly.client import Client
from linkly.context import current
from linkly.engine import WorkerGone, worker_gone
from linkly.errors import LinklyError
from linkly.function import Function, function
from linkly.http import HttpRequest, HttpResponse, Media, Readiness, StreamedResponse, http, readiness
from linkly.invocation import Caller, Invocation, Json
from linkly.schema import Doc, Settings
from linkly.state import state
from linkly.trigger import Binding, TriggerDeclaration, TriggerType, trigger
from linkly.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "Binding",
    "Bus",
    "Caller",
    "Channel",
    "ChannelReader",
    "ChannelRef",
    "ChannelWriter",
    "Client",
    "Doc",
    "Enqueue",
    "Function",
    "HttpRequest",
    "HttpResponse",
    "Invocation",
    "Json",
    "LinklyError",
    "Media",
    "Readiness",
    "Receipt",
    "Settings",
    "StreamedResponse",
    "TriggerDeclaration",
    "TriggerType",
    "Void",
    "Worker",
    "WorkerGone",
    "current",
    "function",
    "http",
    "readiness",
    "state",
    "trigger",
    "worker_gone",
]
