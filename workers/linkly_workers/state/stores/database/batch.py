"""Writes that are kept together: what they make of the values that were read, and what has to be written for it.

It knows no database: it asks for values and takes what was found, says what is to be written, and is told what was.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence, Set
from typing import Any

import msgspec

from linkly_workers.state.errors import StoreError
from linkly_workers.state.stores.waiting import Write

TOO_LARGE = "nothing larger than `max_result_bytes` of the database worker can be read again; raise that setting"

BATCH_BYTES = 4 * 1024 * 1024
"""When the values of a batch have so many bytes, it takes no further write."""

VERSION_BITS, KEY_BITS = 46, 7
"""Random bits of the versions of one batch, and those that tell its keys apart: together what JavaScript can read."""

_ENCODING = ("utf-8", "surrogatepass")
"""Of scopes and keys: half of a surrogate pair is a key like any other."""


class Found(msgspec.Struct):
    """What the database has for a key; `place`: which of the keys that were asked for."""

    place: int
    position: int
    version: int
    value: bytes


def blob(value: bytes) -> dict[str, str]:
    """Return bytes as `database::*` takes them."""
    return {"$blob": base64.b64encode(value).decode()}


def name_blob(name: str) -> dict[str, str]:
    """Return a scope or a key as it is stored."""
    return blob(name.encode(*_ENCODING))


def name_of(stored: bytes) -> str:
    """Return the scope or key of what is stored."""
    return stored.decode(*_ENCODING)


def asked_for(addresses: Sequence[tuple[str, str]]) -> dict[str, list[Any]]:
    """Return the values of the script `find` for some keys."""
    return {
        "place": list(range(len(addresses))),
        "scope": [name_blob(scope) for scope, _ in addresses],
        "key": [name_blob(key) for _, key in addresses],
    }


class _Key:
    """One key: what is there, and what the writes make of it.

    Attributes:
        found: What is there; `None`: nothing.
        value: The value after the writes so far; `None`: absent.
        version: Of `value`, if that is written.
        made: Which write of the batch has made it.
        deleted: What was there is deleted; who sets it again waits until that is written, because it gets a new place.
    """

    __slots__ = ("deleted", "found", "made", "value", "version")

    def __init__(self, version: int) -> None:
        self.found: Found | None = None
        self.value: bytes | None = None
        self.version = version
        self.made = 0
        self.deleted = False

    @property
    def is_changed(self) -> bool:
        """Whether anything has to be written."""
        return self.value != (None if self.found is None else self.found.value)

    def is_among(self, versions: Set[int]) -> bool:
        """Whether it was written, as the versions that were written say: new ones, or those that were there."""
        return self.version in versions or (self.found is not None and self.found.version in versions)


class Batch:
    """Some writes, in the order in which they take effect; they are about `2 ** KEY_BITS` keys at most."""

    def __init__(self, writes: Sequence[Write]) -> None:
        self._writes = writes
        self._computed: list[Write] = []
        first = secrets.randbits(VERSION_BITS)
        self._keys: dict[tuple[str, str], _Key] = {}
        for write in writes:
            if write.address not in self._keys:
                self._keys[write.address] = _Key((first << KEY_BITS) + len(self._keys))

    @property
    def keys(self) -> int:
        """Count the keys that they are about."""
        return len(self._keys)

    def asked(self) -> dict[str, list[Any]]:
        """Return the keys whose values have to be read."""
        return asked_for(list(self._keys))

    def compute(self, found: Sequence[Found], most_value_bytes: int) -> None:
        """Compute the writes on top of what was found; what one raises goes to its caller alone.

        So does that its value is longer than `most_value_bytes`: nobody could read it again.
        """
        keys = list(self._keys.values())
        for each in found:
            keys[each.place].found, keys[each.place].value = each, each.value
        size = 0
        for number, write in enumerate(self._writes):
            if size >= BATCH_BYTES:
                break
            key = self._keys[write.address]
            if key.deleted or write.answered or not write.compute(key.value):
                continue
            if len(write.new or b"") > most_value_bytes:
                write.fail(StoreError(f"it has {len(write.new or b'')} bytes, and {TOO_LARGE}"))
                continue
            if key.value is None:
                key.made = number
            key.value = write.new
            key.deleted = key.found is not None and write.new is None
            size += len(write.new or b"")
            self._computed.append(write)

    def changes(self) -> dict[str, dict[str, list[Any]]]:
        """Return what has to be written: the values of the scripts `insert` and `change`; empty if nothing has to."""
        changed = [(address, key) for address, key in self._keys.items() if key.is_changed]
        inserted = sorted(
            ((*address, key) for address, key in changed if key.found is None), key=lambda row: row[2].made
        )
        others = [(key.found, key) for _, key in changed if key.found is not None]
        scripts: dict[str, dict[str, list[Any]]] = {}
        if inserted:
            scripts["insert"] = {
                "scope": [name_blob(scope) for scope, _, _ in inserted],
                "key": [name_blob(key) for _, key, _ in inserted],
                "version": [key.version for _, _, key in inserted],
                "value": [blob(key.value or b"") for _, _, key in inserted],
            }
        if others:
            scripts["change"] = {
                "position": [found.position for found, _ in others],
                "old": [found.version for found, _ in others],
                "version": [key.version for _, key in others],
                "value": [None if key.value is None else blob(key.value) for _, key in others],
            }
        return scripts

    def kept(self, versions: Set[int]) -> list[Write]:
        """Answer the writes whose keys were written, and those that left them as they are.

        Args:
            versions: What the scripts have answered.

        Returns:
            The others, in order: those that lost a race, and those that nothing was done about yet.
        """
        for write in self._computed:
            key = self._keys[write.address]
            if not key.is_changed or key.is_among(versions):
                write.kept()
            else:
                write.lost += 1
        return [write for write in self._writes if not write.answered]

    def by_key(self) -> list[list[Write]]:
        """Return the writes of each key."""
        writes: dict[tuple[str, str], list[Write]] = {address: [] for address in self._keys}
        for write in self._writes:
            writes[write.address].append(write)
        return list(writes.values())
