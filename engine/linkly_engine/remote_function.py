"""The endpoint of a function that a remote worker serves."""

from __future__ import annotations

from typing import Any

from linkly.bus import Invocation, Json
from linkly.connection import Connection


class RemoteFunction:
    """Endpoint of a function that a remote worker serves."""

    __slots__ = ("connection", "function_id")

    def __init__(self, connection: Connection, function_id: str) -> None:
        self.connection = connection
        self.function_id = function_id

    async def __call__(self, invocation: Invocation) -> Any:
        """Call it and wait."""
        return await self.connection.call(invocation)


def with_caller(payload: Json, worker_id: str) -> Json:
    """Return an object payload with `_caller_worker_id` set; whatever the caller put there is overwritten.

    It is spliced in at the end, where the last of equal keys wins for every JSON reader. Other payloads are
    returned as they are.
    """
    data = bytes(payload)
    if data[:1] != b"{":
        return payload
    body = data.rstrip()[:-1]
    separator = b"" if not body[1:].strip() else b","
    return Json(b'%b%b"_caller_worker_id":"%b"}' % (body, separator, worker_id.encode()))
