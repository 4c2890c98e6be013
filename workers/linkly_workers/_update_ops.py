"""The operations of `state::update` and `stream::update`, pure: old value in, new value and errors out.

Rules: workers-data.md 2. A failing operation changes nothing and is reported; the others still run. A string path is
one literal first-level key, dots included; an array path is a list of literal segments; none is the root.

Nothing that is handed in is ever changed and nothing is copied as a whole: what an operation touches is copied once,
along its path (`_Draft`), the rest is shared. Integers are exact from -2^63 to 2^64 - 1, as in iii's engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec

DOC_URL = "https://iii.dev/docs/workers/iii-state#error-codes"
MAX_SEGMENTS, MAX_SEGMENT_BYTES, MAX_KEYS, MAX_DEPTH = 32, 256, 1024, 16
FORBIDDEN = ("__proto__", "constructor", "prototype")

Path: TypeAlias = str | list[str] | None
Amount = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
C = TypeVar("C", dict[str, Any], list[Any])


class Set(msgspec.Struct, tag="set", tag_field="type"):
    """Put a value at a key; the empty path is the root."""

    path: str
    value: Any = None


class Merge(msgspec.Struct, tag="merge", tag_field="type"):
    """Merge an object, one level deep, into the object at the path."""

    value: Any
    path: Path = ""


class Increment(msgspec.Struct, tag="increment", tag_field="type"):
    """Add to a number."""

    path: str
    by: Amount


class Decrement(msgspec.Struct, tag="decrement", tag_field="type"):
    """Take from a number."""

    path: str
    by: Amount


class Append(msgspec.Struct, tag="append", tag_field="type"):
    """Append to a list or a text."""

    value: Any
    path: Path = ""


class Remove(msgspec.Struct, tag="remove", tag_field="type"):
    """Remove a key; the root becomes null."""

    path: str


Operation: TypeAlias = Set | Merge | Increment | Decrement | Append | Remove


class OperationError(msgspec.Struct):
    """Why one operation did nothing."""

    op_index: int
    code: str
    message: str
    doc_url: str = DOC_URL


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Missing:
    """Where there is no value, which is not the same as null."""


MISSING = _Missing()


class _Draft:
    """The value on its way. What it has copied is its own and may be changed in place."""

    __slots__ = ("_own", "root")

    def __init__(self, root: Any) -> None:
        self.root = root
        self._own: dict[int, Any] = {}

    def owned(self, container: C) -> C:
        """Return a container that may be changed: itself if it is the draft's own, else a shallow copy."""
        return container if id(container) in self._own else self.own(container.copy())

    def own(self, container: C) -> C:
        """Take a container that nobody else has."""
        self._own[id(container)] = container
        return container

    def root_object(self, name: str) -> dict[str, Any]:
        """Return the root to be changed.

        Raises:
            _Refused: It is no object.
        """
        if self.root is MISSING:
            self.root = self.own({})
        if not isinstance(self.root, dict):
            raise _Refused(f"{name}.target_not_object", f"root is {_kind(self.root)}, not an object")
        root: dict[str, Any] = self.owned(self.root)
        self.root = root
        return root

    def descend(self, segments: list[str]) -> dict[str, Any]:
        """Return the object at a path, to be changed; what is missing or no object on the way becomes one."""
        if not isinstance(self.root, dict):
            self.root = self.own({})
        node = self.root = self.owned(self.root)
        for segment in segments:
            child = node.get(segment)
            node[segment] = self.owned(child) if isinstance(child, dict) else self.own({})
            node = node[segment]
        return node


def apply(old: Any, operations: list[Operation], *, exists: bool = True) -> tuple[Any, list[OperationError]]:
    """Return the new value and what went wrong.

    Args:
        old: The value so far, JSON data; it is not changed, and the new value may share parts with it.
        operations: In order.
        exists: Whether there is a value; otherwise the start is `{}`, and a root increment takes it as missing.
    """
    draft = _Draft(old if exists else MISSING)
    errors: list[OperationError] = []
    for index, operation in enumerate(operations):
        try:
            _validate(operation)
            _HANDLERS[type(operation)](draft, operation)
        except _Refused as refusal:
            errors.append(OperationError(index, refusal.code, str(refusal)))
    return ({} if draft.root is MISSING else draft.root), errors


def _validate(operation: Any) -> None:
    name = type(operation).__struct_config__.tag
    path = operation.path
    segments = _segments(path)
    if len(segments) > MAX_SEGMENTS:
        raise _Refused(f"{name}.path.too_deep", f"path has {len(segments)} segments, at most {MAX_SEGMENTS}")
    for segment in segments:
        if not segment:
            raise _Refused(f"{name}.path.empty_segment", f"path {_shown(path)} has an empty segment")
        if len(segment.encode("utf-8", "replace")) > MAX_SEGMENT_BYTES:
            raise _Refused(f"{name}.path.segment_too_long", f"a segment has more than {MAX_SEGMENT_BYTES} bytes")
        if segment in FORBIDDEN:
            raise _Refused(f"{name}.path.proto_polluted", f"segment `{segment}` is not allowed")
    if isinstance(operation, Merge):
        _validate_merge(operation.value)


def _validate_merge(value: Any) -> None:
    if not isinstance(value, dict):
        raise _Refused("merge.value.not_an_object", f"merge needs an object, got {_kind(value)}")
    if len(value) > MAX_KEYS:
        raise _Refused("merge.value.too_many_keys", f"merge value has {len(value)} keys, at most {MAX_KEYS}")
    for key in FORBIDDEN:
        if key in value:
            raise _Refused("merge.value.proto_polluted", f"key `{key}` is not allowed")
    if _depth(value, 0) > MAX_DEPTH:
        raise _Refused("merge.value.too_deep", f"merge value is nested deeper than {MAX_DEPTH}")


def _depth(value: Any, above: int) -> int:
    if above > MAX_DEPTH or not isinstance(value, (dict, list)):
        return above
    children: Any = value.values() if isinstance(value, dict) else value
    return max((_depth(child, above + 1) for child in children), default=above + 1)


def _set(draft: _Draft, operation: Set) -> None:
    if not operation.path:
        draft.root = operation.value
    else:
        draft.root_object("set")[operation.path] = operation.value


def _remove(draft: _Draft, operation: Remove) -> None:
    if not operation.path:
        draft.root = None
    else:
        draft.root_object("remove").pop(operation.path, None)


def _increment(draft: _Draft, operation: Increment) -> None:
    _add(draft, operation.path, operation.by, "increment")


def _decrement(draft: _Draft, operation: Decrement) -> None:
    _add(draft, operation.path, -operation.by, "decrement")


def _add(draft: _Draft, path: str, by: int, name: str) -> None:
    if not path:
        draft.root = _sum(draft.root, by, name, "root")
        return
    root = draft.root_object(name)
    root[path] = _sum(root.get(path, MISSING), by, name, path)


def _sum(current: Any, by: int, name: str, where: str) -> Any:
    if current is MISSING:
        current = 0
    if isinstance(current, bool) or not isinstance(current, (int, float)):
        raise _Refused(f"{name}.not_number", f"{where} is {_kind(current)}, not a number")
    total = current + by
    if isinstance(total, int) and not -(2**63) <= total < 2**64:
        raise _Refused(f"{name}.not_number", f"{where} would leave the range of 64 bits")
    return total


def _merge(draft: _Draft, operation: Merge) -> None:
    segments = _segments(operation.path)
    if segments:
        draft.descend(segments).update(operation.value)
    elif draft.root is MISSING or isinstance(draft.root, dict):
        draft.root_object("merge").update(operation.value)
    # Over any other root it silently does nothing: tests of iii rely on that.


def _append(draft: _Draft, operation: Append) -> None:
    segments = _segments(operation.path)
    if not segments:
        draft.root = _appended(draft, draft.root, operation.value, "root", deep=False)
        return
    if draft.root is not MISSING and not isinstance(draft.root, dict):
        raise _Refused("append.target_not_object", f"root is {_kind(draft.root)}, not an object")
    # Found out before anything is made on the way: a failing operation changes nothing.
    current: Any = draft.root
    for segment in segments:
        current = current.get(segment, MISSING) if isinstance(current, dict) else MISSING
    new = _appended(draft, current, operation.value, _shown(operation.path), deep=len(segments) > 1)
    draft.descend(segments[:-1])[segments[-1]] = new


def _appended(draft: _Draft, current: Any, value: Any, where: str, *, deep: bool) -> Any:
    if current is MISSING or current is None:
        return value if isinstance(value, str) and not (deep and current is MISSING) else draft.own([value])
    if isinstance(current, list):
        items: list[Any] = draft.owned(current)
        items.append(value)
        return items
    if isinstance(current, str) and isinstance(value, str):
        return current + value
    raise _Refused("append.type_mismatch", f"cannot append {_kind(value)} to {where}, which is {_kind(current)}")


def _segments(path: Path) -> list[str]:
    if isinstance(path, list):
        return path
    return [path] if path else []


def _shown(path: Path) -> str:
    return f"[{', '.join(path)}]" if isinstance(path, list) else path or "root"


def _kind(value: Any) -> Literal["null", "boolean", "number", "string", "array", "object"]:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


_HANDLERS: dict[type[Any], Callable[[_Draft, Any], None]] = {
    Set: _set,
    Merge: _merge,
    Increment: _increment,
    Decrement: _decrement,
    Append: _append,
    Remove: _remove,
}
