"""A worker: a named group of functions with one lifetime.

The same class runs in the engine's process, as a child process and on another machine; it reaches the world
only through `self.bus`.

    class Greeter(Worker):
        name = "greeter"

        @function("greeter::hello")
        async def hello(self, name: str = "world") -> str:
            '''Greet somebody.'''
            return f"hello {name}"
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from linkly.bus import Bus, Registration
from linkly.function import Function, functions_of
from linkly.paths import located
from linkly.schema import NoSettings, Settings, read_settings
from linkly.trigger import TriggerDeclaration, TriggerType


class Worker:
    """Base of every worker.

    Attributes:
        name: Its name in config.yaml and in listings.
        settings_type: Class of its `config:` block.
        bus: Everything it can reach; set before `lifespan` starts.
        settings: Its typed settings.
        folder: Where relative paths of its settings begin: the folder of config.yaml, else the working directory.
    """

    name: ClassVar[str] = ""
    settings_type: ClassVar[type[Settings]] = NoSettings
    bus: Bus
    folder: Path = Path()

    def __init__(self, settings: Settings | None = None) -> None:
        if not self.name:
            raise TypeError(f"{type(self).__name__} needs a class attribute `name`")
        self.settings: Any = settings if settings is not None else self.settings_type()

    @classmethod
    def from_config(cls, block: object = None, path: str = "config") -> Worker:
        """Make a worker from its `config:` block.

        Raises:
            ConfigError: The block does not fit; the message starts with the path of the offending value.
        """
        return cls(read_settings(cls.settings_type, block, path))

    def located(self, written: str) -> Path:
        """Return the absolute path of data that it keeps: see `linkly.paths`."""
        return located(written, self.folder, logging.getLogger(f"linkly.{self.name}"))

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open what the functions need, yield, close it. Functions are registered after the opening.

        `self.bus.trigger` works here, but no other worker of the same config is promised to be up.
        """
        yield

    def composed_of(self) -> Iterable[object]:
        """Return the objects whose `@function` methods are served as if they were this worker's own.

        Asked before `lifespan`, where the ids are compared with those of other workers, and again after it: they
        exist from `__init__` on, and what they open is opened by `lifespan`.
        """
        return ()

    def trigger_types(self) -> list[TriggerType]:
        """Return the trigger types this worker provides."""
        return []

    def triggers_of(self, function: Function) -> Sequence[TriggerDeclaration]:
        """Return what makes a function run, besides calls: what `@function` was told.

        A worker overrides this where a trigger depends on its settings.
        """
        return function.triggers

    def addresses(self) -> dict[str, str]:
        """Return what people can connect to, for example ``{"http": "http://127.0.0.1:3111"}``."""
        return {}

    async def ready(self) -> None:
        """Called when every worker of the config is up; the place to fill caches or create a schema."""

    async def others_changed(self, names: frozenset[str]) -> None:
        """Called when other workers in this process were added or made anew while this one kept running.

        The place to make again what was put into them, a schema for example: another database may be behind the same
        functions now.

        Args:
            names: `Worker.name` of each.
        """

    def hand_over(self) -> object:
        """Called when this worker is about to end because a new one takes its place: keep open what must stay open.

        Returns:
            What the new one gets by `inherit`. Its `close` method, if it has one, is called afterwards, or when no new
            worker comes up. `None`: nothing.
        """
        return None

    def inherit(self, legacy: object) -> None:
        """Called before `lifespan` when this worker is made in place of an earlier one of its class.

        Args:
            legacy: What `hand_over` of the earlier one returned, unless that was `None`. If this worker does not come
                up, it is offered to another: take copies, of a socket its `dup()`.
        """

    async def drain(self) -> None:
        """Called when the engine is about to stop, while everybody is still up: finish what was accepted.

        The engine waits for a bounded time only; what is left then is up to the end of `lifespan`.
        """


@asynccontextmanager
async def running(worker: Worker, bus: Bus, *, alone: bool = True) -> AsyncIterator[None]:
    """Run a worker on a bus: open it, register trigger types, functions and their triggers; leave it at the end.

    Args:
        worker: The worker.
        bus: Where it serves and calls.
        alone: Call `ready` as soon as it is registered. An engine calls that itself when all workers of its config
            are up.
    """
    worker.bus = bus
    async with worker.lifespan():
        registered: list[Registration] = []
        try:
            for trigger_type in worker.trigger_types():
                registered.append(bus.register_trigger_type(trigger_type))
            declared: list[tuple[str, Any]] = []
            for function in functions_of(worker, *worker.composed_of()):
                registered.append(bus.register_function(function))
                declared += [(function.id, trigger) for trigger in worker.triggers_of(function)]
            for function_id, trigger in declared:
                registered.append(bus.register_trigger(function_id, trigger))
            if alone:
                await worker.ready()
            yield
        finally:
            for registration in reversed(registered):
                registration.leave()
