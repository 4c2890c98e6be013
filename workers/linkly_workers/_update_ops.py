"""The operations of `state::update` and `stream::update`, pure: old value in, new value and errors out.

Rules: docs/workers.md#update-operations. A failing operation changes nothing and is reported; the others still run. A
string path is one literal first-level key, dots included; an array path is a list of literal segments; no path is the
root.

The old value comes as JSON text and is decoded once; operations change the decoded value in place, so that many of them
cost no more than their sum. An operation checks before it changes. Values of operations are copied before they become
a part of it: nothing that is handed in is ever changed. Integers are exact from -2^63 to 2^64 - 1, as in iii's engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

DOC_URL = "https://iii.dev/docs/workers/iii-state#error-codes"
MAX_SEGMENTS, MAX_SEGMENT_BYTES, MAX_KEYS, MAX_DEPTH = 32, 256, 1024, 16
FORBIDDEN = ("__proto__", "constructor", "prototype")

Path: TypeAlias = str | list[str] | None
Amount = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


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
    """The absence of a value, which is not null."""


MISSING = _Missing()


def apply(old: bytes | None, operations: list[Operation]) -> tuple[Any, list[OperationError]]:
    """Return the new value and what went wrong.

    Args:
        old: JSON text of the value so far; `None`: there is none. Then the start is `{}`, and an increment of the root
            counts from 0.
        operations: In order.

    Raises:
        msgspec.MsgspecError: `old` or the value of an operation cannot be read or written.
    """
    root: Any = MISSING if old is None else msgspec.json.decode(old)
    errors: list[OperationError] = []
    for index, operation in enumerate(operations):
        try:
            _validate(operation)
            root = _HANDLERS[type(operation)](root, operation)
        except _Refused as refusal:
            errors.append(OperationError(index, refusal.code, str(refusal)))
    return ({} if root is MISSING else root), errors


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


def _set(root: Any, operation: Set) -> Any:
    if not operation.path:
        return _copied(operation.value)
    fields = _fields(root, "set")
    fields[operation.path] = _copied(operation.value)
    return fields


def _remove(root: Any, operation: Remove) -> Any:
    if not operation.path:
        return None
    fields = _fields(root, "remove")
    fields.pop(operation.path, None)
    return fields


def _add(root: Any, path: str, by: int, name: str) -> Any:
    if not path:
        return _sum(root, by, name, "root")
    fields = _fields(root, name)
    fields[path] = _sum(fields.get(path, MISSING), by, name, path)
    return fields


def _sum(current: Any, by: int, name: str, where: str) -> Any:
    if current is MISSING:
        current = 0
    if isinstance(current, bool) or not isinstance(current, (int, float)):
        raise _Refused(f"{name}.not_number", f"{where} is {_kind(current)}, not a number")
    total = current + by
    if isinstance(total, int) and not -(2**63) <= total < 2**64:
        raise _Refused(f"{name}.not_number", f"{where} would leave the range of 64 bits")
    return total


def _merge(root: Any, operation: Merge) -> Any:
    segments = _segments(operation.path)
    if not segments and root is not MISSING and not isinstance(root, dict):
        return root  # it silently does nothing: tests of iii rely on that
    root = root if isinstance(root, dict) else {}
    _descend(root, segments).update(_copied(operation.value))
    return root


def _append(root: Any, operation: Append) -> Any:
    segments = _segments(operation.path)
    if not segments:
        return _appended(root, operation.value, "root", deep=False)
    if root is not MISSING and not isinstance(root, dict):
        raise _Refused("append.target_not_object", f"root is {_kind(root)}, not an object")
    # Found out before anything is made on the way: a failing operation changes nothing.
    current: Any = root
    for segment in segments:
        current = current.get(segment, MISSING) if isinstance(current, dict) else MISSING
    new = _appended(current, operation.value, _shown(operation.path), deep=len(segments) > 1)
    root = {} if root is MISSING else root
    _descend(root, segments[:-1])[segments[-1]] = new
    return root


def _appended(current: Any, value: Any, where: str, *, deep: bool) -> Any:
    if current is MISSING or current is None:
        return value if isinstance(value, str) and not (deep and current is MISSING) else [_copied(value)]
    if isinstance(current, list):
        current.append(_copied(value))
        return current
    if isinstance(current, str) and isinstance(value, str):
        return current + value
    raise _Refused("append.type_mismatch", f"cannot append {_kind(value)} to {where}, which is {_kind(current)}")


def _fields(root: Any, name: str) -> dict[str, Any]:
    """Return the root as an object.

    Raises:
        _Refused: It is no object.
    """
    if root is MISSING:
        return {}
    if not isinstance(root, dict):
        raise _Refused(f"{name}.target_not_object", f"root is {_kind(root)}, not an object")
    return root


def _descend(node: dict[str, Any], segments: list[str]) -> dict[str, Any]:
    """Return the object at a path; what is missing or no object on the way becomes one."""
    for segment in segments:
        child = node.get(segment)
        if not isinstance(child, dict):
            child = node[segment] = {}
        node = child
    return node


def _copied(value: Any) -> Any:
    """Return a value of an operation as one that later operations may change."""
    return msgspec.json.decode(msgspec.json.encode(value)) if isinstance(value, (dict, list)) else value


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


_HANDLERS: dict[type[Any], Callable[[Any, Any], Any]] = {
    Set: _set,
    Merge: _merge,
    Increment: lambda root, operation: _add(root, operation.path, operation.by, "increment"),
    Decrement: lambda root, operation: _add(root, operation.path, -operation.by, "decrement"),
    Append: _append,
    Remove: _remove,
}
