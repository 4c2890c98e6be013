"""The listing of a scope with its values, in parts: `state::list_entries`.

A cursor is the position of the last key that was answered. A key keeps its position until it is deleted, and a new one
comes last. So a caller who follows the cursors gets each key that is there throughout exactly once, whatever others
write meanwhile; a key that comes or goes meanwhile may be among them or not, and every value is the newest one. No
snapshot is kept: a cursor costs the store nothing, never expires and can be used any number of times, with a store on
disk also after a restart.

A cursor is signed with the store's identity: one of another scope or another store is refused, never misread.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct

import msgspec

from linkly import Json
from linkly_workers.state.errors import InvalidCursor, RowTooLarge
from linkly_workers.state.shapes import Entries, Entry, ListEntriesRequest
from linkly_workers.state.stores.store import Store, answered

_PLACE = struct.Struct(">QQ")
_SIGNATURE_BYTES = 8
_ENTRY_BYTES = len('{"key":,"value":},')


async def list_part(store: Store, request: ListEntriesRequest) -> Entries:
    """Return the entries that follow `request.cursor`, as many as the request allows.

    Raises:
        InvalidCursor: It does not belong to this scope of this store.
        RowTooLarge: The first entry alone has more than `max_bytes`.
        StoreError: The store could not be read.
    """
    cursors = _Cursors(await answered(store.identity()), request.scope)
    position, offset = cursors.read(request.cursor)
    total = await answered(store.count(request.scope))
    entries: list[Entry] = []
    size, done = 0, True
    for found, key, value in await answered(store.after(request.scope, position, request.limit, request.max_bytes)):
        entry_size = len(msgspec.json.encode(key)) + len(value) + _ENTRY_BYTES
        if len(entries) == request.limit or (entries and size + entry_size > request.max_bytes):
            done = False
            break
        if entry_size > request.max_bytes:
            raise RowTooLarge(
                f"the entry of key `{key}` has {entry_size} bytes, max_bytes is {request.max_bytes}; ask for more, "
                "or go on behind it with the cursor in the details and read it with state::get",
                details={
                    "key": key,
                    "bytes": entry_size,
                    "max_bytes": request.max_bytes,
                    "next_cursor": cursors.write(found, offset + 1),
                },
            )
        entries.append(Entry(key, Json(value)))
        size += entry_size
        position = found
    following = None if done else cursors.write(position, offset + len(entries))
    return Entries(entries, following, done, offset, total)


class _Cursors:
    """The cursors of one scope of one store."""

    def __init__(self, identity: bytes, scope: str) -> None:
        self._identity = identity
        self._scope = scope

    def read(self, cursor: str | None) -> tuple[int, int]:
        """Return the position and the offset behind which it goes on."""
        if cursor is None:
            return -1, 0
        try:
            data = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        place, signature = data[: _PLACE.size], data[_PLACE.size :]
        if len(place) < _PLACE.size or signature != self._signature(place):
            raise InvalidCursor(
                f"the cursor was not made by this store for scope `{self._scope}`; start again without a cursor"
            )
        position, offset = _PLACE.unpack(place)
        return position, offset

    def write(self, position: int, offset: int) -> str:
        """Return the cursor that goes on behind a position."""
        place = _PLACE.pack(position, offset)
        return base64.urlsafe_b64encode(place + self._signature(place)).decode()

    def _signature(self, place: bytes) -> bytes:
        text = place + self._scope.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._identity, digest_size=_SIGNATURE_BYTES).digest()
