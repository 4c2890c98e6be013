"""iii's shape of an SDK: a Python worker written for `iii` runs when only its import line changes.

    from linkly.iii import InitOptions, Logger, TriggerAction, register_worker   # was: from iii import ...

    worker = register_worker("ws://localhost:49134", InitOptions(worker_name="greeter"))
    worker.register_function("greeter::hello", lambda data: f"hello {data['name']}")

The connection lives on a thread of its own; every method may be called from any thread, the `_async` twins from any
event loop. Plain functions run on a thread each, so that they may call `trigger` and wait.

New programs do better with `linkly.Worker` and `linkly.Client`: types, no threads.
"""

from linkly.iii.client import IIIClient, register_worker
from linkly.iii.logger import Logger
from linkly.iii.shapes import FunctionRef, InitOptions, InvocationError, TriggerAction, TriggerConfig

__all__ = [
    "FunctionRef",
    "IIIClient",
    "InitOptions",
    "InvocationError",
    "Logger",
    "TriggerAction",
    "TriggerConfig",
    "register_worker",
]
