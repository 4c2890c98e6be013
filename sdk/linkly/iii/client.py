"""A client on a thread of its own, with iii's method names."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

import msgspec

from linkly.bus import Enqueue, Registration, Void
from linkly.channel import Channel
from linkly.client import Client
from linkly.errors import LinklyError, Shutdown, WorkerConflict
from linkly.function import Function
from linkly.iii.logger import senders
from linkly.iii.shapes import FunctionRef, InitOptions, InvocationError, TriggerConfig
from linkly.trigger import Binding, TriggerDeclaration, TriggerType
from linkly.wire.dialer import PortDialer

T = TypeVar("T")

CONNECT_S = 30.0
LINES_LIMIT = 1000
"""Log lines that may wait for the engine; more are shown by this process only."""


class IIIClient:
    """A connected worker in iii's shape; made by `register_worker`."""

    def __init__(self, address: str, options: InitOptions | None = None) -> None:
        self.options = options or InitOptions()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._client: Client
        self._finished: asyncio.Event
        self._types: dict[str, FunctionRef] = {}
        self._closed = False
        self._lines: set[asyncio.Task[None]] = set()
        self._line_places = threading.Semaphore(LINES_LIMIT)
        # Not a daemon: as with iii, a program that ends behind its last registration goes on serving until `shutdown`.
        self._thread = threading.Thread(target=self._run, args=(address,), name="linkly worker", daemon=False)
        self._thread.start()
        self._ready.wait()
        senders.append(self._send_line)

    def _run(self, address: str) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._finished = asyncio.Event()
            self._client = Client(
                address,
                name=self.options.worker_name,
                namespace=self.options.namespace,
                description=self.options.worker_description,
                dialer=PortDialer(address, headers=self.options.headers),
                wait=False,
            )
            async with self._client:
                self._ready.set()
                await self._finished.wait()

        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(main())

    # --- registrations -------------------------------------------------------------------------------------

    def register_function(
        self,
        function_id: str,
        handler: Callable[..., Any],
        *,
        description: str | None = None,
        metadata: dict[str, Any] | None = None,
        request_format: Any = None,
        response_format: Any = None,
    ) -> FunctionRef:
        """Serve `handler(data)`, or `handler(data, metadata)`, plain or async.

        Raises:
            ValueError: The id is blank.
            TypeError: The handler cannot be called.
        """
        if not function_id.strip():
            raise ValueError("id is required")
        if not callable(handler):
            raise TypeError(
                f"handler of `{function_id}` must be callable, got {type(handler).__name__}; functions that the engine "
                "calls at a URL are not there yet"
            )
        function = Function(
            function_id,
            _untyped(handler),
            description=description or inspect.getdoc(handler),
            metadata=metadata,
            request_schema=_schema(request_format),
            response_schema=_schema(response_format),
        )
        return self._register(lambda: self._client.register_function(function))

    def register_trigger(self, trigger: dict[str, Any]) -> FunctionRef:
        """Bind ``{"type", "function_id", "config"?, "metadata"?, "namespace"?, "trigger_namespace"?}``."""
        declaration = TriggerDeclaration(
            type=trigger["type"],
            config=trigger.get("config"),
            metadata=trigger.get("metadata"),
            namespace=trigger.get("namespace"),
            trigger_namespace=trigger.get("trigger_namespace"),
        )
        return self._register(lambda: self._client.register_trigger(trigger["function_id"], declaration))

    def register_trigger_type(self, trigger_type: dict[str, Any], handler: Any) -> FunctionRef:
        """Provide a trigger type; `handler` has async `register_trigger(config)` and `unregister_trigger(config)`."""
        kind = TriggerType(
            trigger_type["id"],
            trigger_type.get("description", ""),
            bind=lambda binding: handler.register_trigger(_config(binding)),
            unbind=lambda binding: handler.unregister_trigger(_config(binding)),
        )
        kind.config_schema = _schema(trigger_type.get("trigger_request_format"))
        kind.payload_schema = _schema(trigger_type.get("call_request_format"))
        reference = self._register(lambda: self._client.register_trigger_type(kind))
        self._types[kind.id] = reference
        return reference

    def unregister_trigger_type(self, trigger_type: dict[str, Any]) -> None:
        """Provide a trigger type no longer."""
        registration = self._types.pop(trigger_type["id"], None)
        if registration is not None:
            registration.unregister()

    def _register(self, register: Callable[[], Registration]) -> FunctionRef:
        registration = self._on_loop(register)
        return FunctionRef(registration.id, lambda: self._on_loop(registration.unregister))

    # --- calls ---------------------------------------------------------------------------------------------

    def trigger(self, request: dict[str, Any]) -> Any:
        """Call ``{"function_id", "payload"?, "action"?, "timeout_ms"?, "metadata"?, "namespace"?}`` and wait.

        Raises:
            InvocationError: The call failed; look at `code`.
        """
        return self._wait(self._trigger(request))

    async def trigger_async(self, request: dict[str, Any]) -> Any:
        """Do what `trigger` does, from any event loop."""
        return await self._elsewhere(self._trigger(request))

    async def _trigger(self, request: dict[str, Any]) -> Any:
        timeout_ms = request.get("timeout_ms") or self.options.invocation_timeout_ms
        function_id = request["function_id"]
        try:
            result = await self._client.trigger(
                function_id,
                request.get("payload"),
                namespace=request.get("namespace"),
                metadata=request.get("metadata"),
                action=_action(request.get("action")),
                timeout_s=timeout_ms / 1000,
            )
        except LinklyError as error:
            raise InvocationError(error.code, error.message, function_id, error.stacktrace) from error
        return msgspec.to_builtins(result)

    def create_channel(self, buffer_size: int | None = None) -> Channel:
        """Make a channel."""
        return self._wait(self._client.create_channel(buffer_size))

    async def create_channel_async(self, buffer_size: int | None = None) -> Channel:
        """Make a channel, from any event loop."""
        return await self._elsewhere(self._client.create_channel(buffer_size))

    # --- log lines -----------------------------------------------------------------------------------------

    def _send_line(self, level: str, line: dict[str, Any]) -> bool:
        """Send a line of a Logger to the engine, from any thread; return whether it will be tried."""
        if self._closed or not self._line_places.acquire(blocking=False):
            return False
        self._loop.call_soon_threadsafe(self._start_line, level, line)
        return True

    def _start_line(self, level: str, line: dict[str, Any]) -> None:
        task = self._loop.create_task(self._log_line(level, line))
        self._lines.add(task)
        task.add_done_callback(self._line_done)

    def _line_done(self, task: asyncio.Task[None]) -> None:
        self._lines.discard(task)
        self._line_places.release()

    async def _log_line(self, level: str, line: dict[str, Any]) -> None:
        # A line that cannot be sent is lost: saying so would be one more line.
        with contextlib.suppress(LinklyError):
            await self._client.trigger(f"engine::log::{level}", line, action=Void())

    # --- lifetime ------------------------------------------------------------------------------------------

    @property
    def worker_id(self) -> str | None:
        """The engine's id of this connection, `None` before the first."""
        return self._client.worker_id

    def get_connection_state(self) -> str:
        """Return `connected`, `connecting` or `disconnected`."""
        if self._closed:
            return "disconnected"
        return "connected" if self._client.connected else "connecting"

    def connect(self, timeout_s: float = CONNECT_S) -> bool:
        """Wait for the connection; return whether this client is connected."""
        future = asyncio.run_coroutine_threadsafe(self._client.wait_connected(), self._loop)
        try:
            future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            return False
        return True

    async def connect_async(self) -> None:
        """Wait for the connection, from any event loop."""
        await self._elsewhere(self._client.wait_connected())

    def shutdown(self) -> None:
        """Leave: finish what is being served, close, end the thread."""
        if self._closed:
            return
        self._closed = True
        senders.remove(self._send_line)
        self._loop.call_soon_threadsafe(self._finished.set)
        self._thread.join()

    async def shutdown_async(self) -> None:
        """Do what `shutdown` does, from any event loop."""
        await asyncio.to_thread(self.shutdown)

    # --- threads -------------------------------------------------------------------------------------------

    def _on_loop(self, action: Callable[[], T]) -> T:
        if self._closed:
            raise Shutdown("this worker has shut down")
        if threading.current_thread() is self._thread:
            return action()

        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("inside an async handler use the _async twin: waiting here would stop the worker")
        if self._closed:
            coroutine.close()
            raise InvocationError("SHUTDOWN", "this worker has shut down")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _elsewhere(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if asyncio.get_running_loop() is self._loop:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))


def register_worker(address: str, options: InitOptions | None = None) -> IIIClient:
    """Connect a worker and return it.

    Waits for at most 30 s; without a connection by then it is returned all the same and goes on trying, and every
    registration is sent once there is one.

    Args:
        address: `ws://host:port` of the engine's worker port.
        options: Name, description, time-out.
    """
    client = IIIClient(address, options)
    with contextlib.suppress(WorkerConflict):  # said in the log; the worker gets in when its name is free
        if not client.connect():
            logging.getLogger("linkly.client").warning("no engine at %s after %g s; still trying", address, CONNECT_S)
    return client


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, where there is one: asyncio's asks for addresses on threads that end with the main one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _untyped(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a handler so that it gets the payload as it came, whatever its annotations say."""
    takes_metadata = _takes_metadata(handler)
    if inspect.iscoroutinefunction(handler):

        async def call_async(payload: Any, metadata: Any = None) -> Any:
            return await (handler(payload, metadata) if takes_metadata else handler(payload))

        return call_async

    def call(payload: Any, metadata: Any = None) -> Any:
        return handler(payload, metadata) if takes_metadata else handler(payload)

    return call


def _takes_metadata(handler: Callable[..., Any]) -> bool:
    try:
        return "metadata" in inspect.signature(handler).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False


def _schema(written: Any) -> Any:
    """Return a JSON Schema: as it was given, or of a pydantic class, which makes its own."""
    if written is None or isinstance(written, dict):
        return written
    make = getattr(written, "model_json_schema", None)
    return make() if make is not None else None


def _config(binding: Binding) -> TriggerConfig:
    return TriggerConfig(
        id=binding.id, function_id=binding.function_id, config=binding.config, metadata=binding.metadata
    )


def _action(given: Any) -> Enqueue | Void | None:
    if given is None or isinstance(given, (Enqueue, Void)):
        return given
    if isinstance(given, dict) and given.get("type") == "enqueue":
        written = cast("dict[str, Any]", given)
        options = {name: written[name] for name in Enqueue.__struct_fields__[1:] if name in written}
        return Enqueue(str(written["queue"]), **options)
    if isinstance(given, dict) and given.get("type") == "void":
        return Void()
    raise ValueError(f"unknown action {given!r}; allowed: TriggerAction.Enqueue(queue=...), TriggerAction.Void()")
