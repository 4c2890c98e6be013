"""A remote worker as the engine sees it: its frames become changes of the tables, its functions endpoints.

Registrations wait until the connection's namespace is known (docs/protocol.md 1.4): its metadata call says so, or the
grace passes. Everything else is handled at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from linkly.clock import TimerHandle
from linkly.errors import HandlerFailed, InvalidResult, LinklyError
from linkly.invocation import DEFAULT_NAMESPACE
from linkly.wire.connection import Connection, FrameStream
from linkly.wire.messages import (
    AnyMessage,
    InvokeFunction,
    Message,
    Ping,
    Pong,
    Reattach,
    RegistrationRejected,
    TriggerRegistrationResult,
    WorkerRegistered,
)
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.records import WorkerRecord
from linkly_engine.remote.calls import Calls
from linkly_engine.remote.forwarding import Forwarding
from linkly_engine.remote.nesting import Nesting
from linkly_engine.remote.registrations import REGISTRATIONS, Registrations
from linkly_engine.remote.waiting import WAITING_LIMIT, Waiting
from linkly_engine.telemetry import events

SERVICE_RESTART = 1012
"""Close code; after 1000, 1001 or none old Python clients stay connected to nobody (docs/protocol.md 1.8)."""


class Peer:
    """One connection of one remote worker.

    Attributes:
        receiver: Takes the frames of its stream.

    Args:
        wait: As of `Calls`.
        reattached: Told that this worker had another connection before.
        gone: Told when the connection ends.
    """

    def __init__(
        self,
        stream: FrameStream,
        *,
        native: bool,
        ip_address: str | None,
        exchange: Exchange,
        namespace_grace_s: float,
        wait: Callable[[str, str, Callable[[], None]], bool],
        reattached: Callable[[Peer, Reattach], None],
        gone: Callable[[Peer], None],
    ) -> None:
        self.record = WorkerRecord(connected_at_ms=int(exchange.clock.time() * 1000), ip_address=ip_address)
        self.connection = Connection(
            stream,
            native=native,
            on_message=self._received,
            on_closed=self._closed,
            clock=exchange.clock,
            name=self.record.id,
            logged_elsewhere=(HandlerFailed, InvalidResult),  # by `failed`
        )
        self._tables = exchange.tables
        self._reattach_token = secrets.token_urlsafe(24)
        self._reattached = reattached
        self._gone = gone
        # What is not forwarded goes on to the connection.
        self.receiver = Forwarding(self.connection, self.record, exchange)
        nesting = None if native else Nesting()
        self._calls = Calls(self.connection, self.record, nesting, exchange, wait)
        self.registrations = Registrations(self.connection, self.record, nesting, exchange)
        self._waiting = Waiting(self.registrations.apply, self._let_in)
        self._waiting_calls: list[Callable[[], None]] = []
        self._grace: TimerHandle | None = exchange.clock.call_later(namespace_grace_s, self._grace_over)

    def start(self) -> None:
        """Enter the tables and say hello: the first frame on every worker socket."""
        self.connection.send(WorkerRegistered(worker_id=self.record.id, reattach_token=self._reattach_token))
        self._tables.add_worker(self.record)

    def is_continued_by(self, message: Reattach) -> bool:
        """Return whether a message proves that its sender is this worker on a new connection."""
        token = message.reattach_token or ""
        return secrets.compare_digest(token.encode(), self._reattach_token.encode())

    def dismiss(self) -> None:
        """Send what is queued and say goodbye with a code after which every published client comes back."""
        self.connection.stream.close(SERVICE_RESTART, "the engine is shutting down")
        self.connection.stream_closed("the engine is shutting down")

    def cut(self, reason: str) -> None:
        """End the connection now; every client takes it for a fault and comes back."""
        self.connection.stream.abort()
        self.connection.stream_closed(reason)

    # --- namespace -----------------------------------------------------------------------------------------

    def fix_namespace(self, namespace: str) -> None:
        """Fix the namespace (the first call wins) and apply the registrations that waited for it, in order."""
        if self.record.namespace is not None:
            return
        self._end_grace()
        self._tables.fix_namespace(self.record, namespace)
        self._waiting.let_in()

    def _let_in(self) -> None:
        if not self.connection.closed:
            events.worker_registered(self.record)
        calls, self._waiting_calls = self._waiting_calls, []
        for call in calls:
            call()

    def hold(self) -> None:
        """Let registrations wait beyond the grace, until `fix_namespace` is called."""
        self._end_grace()

    def reject_name(self, error: LinklyError) -> None:
        """Tell the worker that its name is taken and let it go; none of its registrations is applied."""
        self._waiting.drop()
        events.name_refused(self.record, error)
        self.connection.send(
            RegistrationRejected(
                code=error.code,
                namespace=str(error.details.get("namespace", DEFAULT_NAMESPACE)),
                worker_name=str(error.details.get("worker_name", "")),
                owner_worker_id=str(error.details.get("owner_worker_id", "")),
            )
        )
        self.connection.stream.close(1008, "worker name is taken")

    def let_wait(self, namespace: str, function_id: str, call: Callable[[], None]) -> bool:
        """Keep a call until the namespace is known if a registration of its function waits for that; return whether.

        Clients send calls before their metadata.
        """
        if namespace != DEFAULT_NAMESPACE or not self._waiting.offers(function_id):
            return False
        if len(self._waiting_calls) >= WAITING_LIMIT:
            return False
        self._waiting_calls.append(call)
        return True

    @property
    def waiting_registrations(self) -> list[Message]:
        """The registrations that wait for its namespace, in order."""
        return list(self._waiting)

    @property
    def waiting(self) -> int:
        """Count the registrations and calls that wait for this connection's namespace."""
        return len(self._waiting) + len(self._waiting_calls)

    def _end_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None  # of an idle connection a handle takes 300 bytes

    def _grace_over(self) -> None:
        self.fix_namespace(DEFAULT_NAMESPACE)

    # --- frames --------------------------------------------------------------------------------------------

    def _received(self, message: AnyMessage) -> None:
        if isinstance(message, InvokeFunction):
            self._calls.made(message)
        elif isinstance(message, Ping):
            self.connection.send(Pong())
        elif isinstance(message, Reattach):
            self._reattached(self, message)
        elif isinstance(message, TriggerRegistrationResult):
            self.registrations.provider_answered(message)
        elif isinstance(message, REGISTRATIONS):
            self._tables.join(self.record)
            if self.record.namespace is not None and not self._waiting:
                self.registrations.apply(message)
            elif len(self._waiting) < WAITING_LIMIT:
                self._waiting.add(message)
            else:
                self.cut(f"more than {WAITING_LIMIT} registrations before its metadata")

    def _closed(self, reason: str) -> None:
        self._end_grace()
        self._waiting.end()
        calls, self._waiting_calls = self._waiting_calls, []
        self._gone(self)
        self._tables.forget(self.record)
        for call in calls:
            call()
        events.worker_gone(self.record, reason)
