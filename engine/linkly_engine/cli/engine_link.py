"""A client of native frames on a plain socket: as much of docs/protocol.md 2.4 as one command needs, without asyncio.

Its calls are JSON messages (kind 0), and so are their answers: a command imports no codec.
"""

from __future__ import annotations

import _socket
from os import urandom
from time import monotonic

from linkly_engine.cli.tinyjson import dumps, loads
from linkly_engine.cli.usage import UsageError
from linkly_engine.cli.worker_port import Where

TYPE_CHECKING = False  # type checkers take this name for true; importing it from typing costs 5 ms
if TYPE_CHECKING:
    from typing import Any


MESSAGE, PING, PONG, CLOSE = 0, 5, 6, 7
"""Kinds of frames."""

LIMIT_BYTES = 64 * 1024 * 1024
"""Of a frame."""

PING_S = 1.0
"""How long an engine may take to answer a ping, once the answer to a call is late."""


class EngineUnreachable(Exception):
    """No engine answers at that address, or none in time."""


class Late(EngineUnreachable):
    """The engine runs, but the answer is late."""


class EngineLink:
    """One short connection to an engine's worker port; `timeout_ms` is for everything together."""

    def __init__(self, where: Where, timeout_ms: int) -> None:
        address, port = where.address, where.port
        self._timeout_ms = timeout_ms
        self._deadline = monotonic() + timeout_ms / 1000
        self._where = f"{address}:{port}"
        self._doubt = where.doubt and f". {where.doubt}"
        self._buffer = b""
        self._inside = False
        self._socket = self._connect(address, port)
        host = f"[{address}]" if ":" in address else address
        self._send_all(
            f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: linkly-native/1\r\nConnection: Upgrade\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._read(1)
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            status = head.split(b"\r\n", 1)[0].decode("latin-1")
            raise EngineUnreachable(
                f"what listens at {self._where} is no engine, or one of another version: asked for native frames, "
                f"it answered `{status}`. Start the engine with the `linkly` that this command is of"
            )

    def call(self, function_id: str, payload: Any, namespace: str | None = None) -> dict[str, Any]:
        """Call a function; return the members `result` and `error` of its answer, those that it has.

        Raises:
            UsageError: The payload holds text that has no UTF-8.
            EngineUnreachable: The connection ended, or what came is no JSON; `Late`: the time is up.
        """
        call_id = self._send_call(function_id, payload, namespace)
        try:
            return self._answer(call_id)
        except Late:
            if not self._answers_a_ping():
                raise
            raise Late(
                f"`{function_id}` has not answered within {self._timeout_ms} ms and may still be at work; "
                f"the engine at {self._where} runs"
            ) from None

    def _send_call(self, function_id: str, payload: Any, namespace: str | None) -> str:
        digits = urandom(16).hex()
        call_id = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
        message: dict[str, Any] = {
            "type": "invokefunction",
            "invocation_id": call_id,
            "function_id": function_id,
            "data": payload,
        }
        if namespace is not None:
            message["namespace"] = namespace
        try:
            data = dumps(message).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the payload holds {error.object[error.start]!a}, one half of a surrogate pair or a byte that is "
                "no UTF-8: no text can hold it. Write the character itself, or both halves",
                1,
            ) from None
        self._send_frame(MESSAGE, data)
        return call_id

    def _answer(self, call_id: str) -> dict[str, Any]:
        while True:
            try:
                message = loads(self._receive_message().decode("utf-8", "replace"))
            except ValueError as error:
                raise EngineUnreachable(f"the engine at {self._where} sent what is no JSON: {error}") from None
            if message.get("type") == "invocationresult" and message.get("invocation_id") == call_id:
                return dict(message)
            if message.get("type") == "error":
                return {"error": message.get("error")}

    def close(self) -> None:
        """End the connection."""
        try:  # noqa: SIM105 - importing contextlib costs more than the call
            self._send_frame(CLOSE, b"\x03\xe8")
        except (OSError, EngineUnreachable):
            pass  # it is closed already
        self._socket.close()

    def _answers_a_ping(self) -> bool:
        """Return whether the engine is alive though an answer is late."""
        if self._inside:
            return True
        self._deadline = monotonic() + PING_S
        try:
            self._send_frame(PING, b"")
            while self._frame()[0] != PONG:
                pass
        except EngineUnreachable:
            return False
        return True

    def _connect(self, address: str, port: int) -> _socket.socket:
        try:
            # Text goes through the codec for international names, whose import costs as much as starting Python.
            host = address.encode() if address.isascii() else address
            found = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)
        except OSError as error:
            raise EngineUnreachable(f"`{address}` is no known host: {error.args[-1]}") from None
        reason = "no address"
        for family, kind, protocol, _, target in found:
            connection = _socket.socket(family, kind, protocol)
            try:
                connection.settimeout(self._left())
                connection.connect(target)
                connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                return connection
            except OSError as error:
                connection.close()
                reason = error.strerror or str(error)
        raise EngineUnreachable(
            f"no engine at {self._where} ({reason}). Is the engine running at the given address and port? "
            f"Start one with `linkly`{self._doubt}"
        )

    def _left(self) -> float:
        left = self._deadline - monotonic()
        if left <= 0:
            raise Late(
                f"Timed out waiting for the engine (no response within the timeout): {self._where} takes connections, "
                "but answers nothing; it may be no engine"
            )
        return left

    def _send_all(self, data: bytes) -> None:
        while data:
            self._socket.settimeout(self._left())
            try:
                data = data[self._socket.send(data) :]
            except TimeoutError:
                continue
            except OSError as error:
                raise EngineUnreachable(f"the engine at {self._where} is gone: {error.strerror}") from None

    def _send_frame(self, kind: int, data: bytes) -> None:
        self._send_all((1 + len(data)).to_bytes(4, "big") + bytes((kind,)) + data)

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._socket.settimeout(self._left())
            try:
                data = self._socket.recv(max(65536, size - len(self._buffer)))
            except TimeoutError:
                continue
            except OSError as error:
                raise EngineUnreachable(f"the engine at {self._where} is gone: {error.strerror}") from None
            if not data:
                raise EngineUnreachable(f"the engine at {self._where} closed the connection before it answered")
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _frame(self) -> tuple[int, bytes]:
        """Return kind and content of the next frame."""
        head = self._read(5)
        length = int.from_bytes(head[:4], "big")
        if not 0 < length <= LIMIT_BYTES:
            raise EngineUnreachable(f"the engine at {self._where} sent what is no frame: {length} bytes were announced")
        self._inside = True
        data = self._read(length - 1)
        self._inside = False
        return head[4], data

    def _receive_message(self) -> bytes:
        while True:
            kind, data = self._frame()
            if kind == PING:
                self._send_frame(PONG, b"")
            elif kind == CLOSE:
                raise EngineUnreachable(f"the engine at {self._where} closed the connection before it answered")
            elif kind == MESSAGE:
                return data
