"""Type hints -> JSON Schema, and JSON -> typed values, with errors that name the field.

`Codec` is made once per type, at registration; nothing is inspected per call. Payload types ignore fields
they do not know (the wire requires it), `Settings` refuse them (a typo in a config must be an error).
"""

from __future__ import annotations

import inspect
import re
import weakref
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, Generic, TypeVar, cast

import msgspec

from linkly.errors import ConfigError, InvalidPayload, InvalidResult
from linkly.invocation import Json
from linkly.uncopied import uncopied

T = TypeVar("T")


def Doc(text: str) -> msgspec.Meta:
    """Describe a field where its class has no `Attributes:` section in its docstring."""
    return msgspec.Meta(description=text)


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of a worker's settings: its `config:` block, checked before anything starts."""


class NoSettings(Settings):
    """For a worker that has nothing to set."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_convert = msgspec.convert

_of_classes: weakref.WeakKeyDictionary[type, dict[str, Any]] = weakref.WeakKeyDictionary()

_SECTION = re.compile(r"^\s*(Args|Attributes):\s*$")
_ENTRY = re.compile(r"^(\s+)(\w+)(?: \([^)]*\))?:\s+(.*)$")


def encode(value: object) -> bytes:
    """Encode `value` as JSON text.

    Raises:
        InvalidResult: It has no JSON form.
    """
    try:
        return _encode(value)
    except Exception as error:  # of the value's own code as well: the `utcoffset` of a time zone, for one
        raise InvalidResult(f"the value has no JSON form: {error}") from error


def as_json(value: object) -> Json:
    """Return a bus value in its encoded form.

    Raises:
        InvalidResult: It has no JSON form.
    """
    return value if type(value) is Json else Json(encode(value))


def payload_json(value: object) -> Json:
    """Return the payload of a call in its encoded form.

    Raises:
        InvalidResult: It has no JSON form.
        InvalidPayload: A number in it is infinite or NaN: JSON has only `null` for that, which means something else.
    """
    return value if type(value) is Json else Json(payload_text(value))


def payload_text(value: object) -> bytes:
    """Return the payload of a call as JSON text; otherwise as `payload_json`."""
    if type(value) is Json:
        return bytes(value)
    data = encode(value)
    # Such a number is always written as null, so most payloads need no second look. `in` would take 0.05 us more: it
    # makes an error and drops it before it searches.
    if data.find(b"null") >= 0:
        refuse_not_finite(value)
    return data


def refuse_not_finite(value: object) -> None:
    """Refuse numbers that JSON does not have.

    Raises:
        InvalidPayload: There is one; the message says where.
    """
    where = _not_finite(value, "$") if _may_not_be_finite(value) else None
    if where is not None:
        raise InvalidPayload(f"not a number, or infinite - at `{where}`: JSON has no such number; {INSTEAD}")


INSTEAD = "send null, or text"
_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")  # msgpack: float 64, exponent all ones (IEEE 754)
_OPAQUE = (bytes, bytearray, memoryview, msgspec.Raw)


def _may_not_be_finite(value: object) -> bool:
    """Return whether its msgpack has the bytes of such a number, as a text may: 0.3 us for a click, a walk 6.7."""
    try:
        return _NOT_FINITE.search(msgspec.msgpack.encode(value)) is not None
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return True


def _not_finite(value: Any, path: str) -> str | None:
    parts: Iterable[tuple[str, Any]]
    if isinstance(value, float):
        return None if isfinite(value) else path
    if isinstance(value, dict):
        items: dict[Any, Any] = value
        parts = ((f".{key}", part) for key, part in items.items())
    elif isinstance(value, (list, tuple)):
        entries: Iterable[Any] = value
        parts = ((f"[{index}]", part) for index, part in enumerate(entries))
    elif value is None or isinstance(value, (str, int, *_OPAQUE)):
        return None
    else:  # a Struct, a dataclass, a set
        return _not_finite(msgspec.to_builtins(value, builtin_types=_OPAQUE), path)
    return next((found for name, part in parts if (found := _not_finite(part, path + name)) is not None), None)


def decode(data: bytes | Json | memoryview | str) -> Any:
    """Decode JSON text to plain data.

    Raises:
        InvalidPayload: It is not JSON.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidPayload(f"not valid JSON: {error}") from error


def docstring_summary(docstring: str | None) -> str:
    """Return the first paragraph of a docstring, on one line."""
    text = inspect.cleandoc(docstring or "")
    return " ".join(text.split("\n\n", 1)[0].split())


def documented_fields(docstring: str | None) -> dict[str, str]:
    """Read the `Args:` or `Attributes:` section of a Google style docstring: name -> text on one line."""
    fields: dict[str, str] = {}
    name, indent, inside = "", -1, False
    for line in inspect.cleandoc(docstring or "").splitlines():
        if _SECTION.match(line):
            inside, name, indent = True, "", -1
            continue
        if not inside or not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            inside = False
            continue
        entry = _ENTRY.match(line)
        if entry is not None and (indent < 0 or depth == indent):
            indent, name = depth, entry[2]
            fields[name] = entry[3].strip()
        elif name:
            fields[name] += " " + line.strip()
    return {field: text.replace("`", "") for field, text in fields.items()}


def json_schema(type_hint: Any, *, described_by: str | None = None) -> dict[str, Any]:
    """Return the JSON Schema of a type, its top level not hidden behind a `$ref`.

    Args:
        type_hint: Any type msgspec understands.
        described_by: A docstring whose `Args:`/`Attributes:` describe the fields; default: the type's own.

    Returns:
        A value that nobody may change: the schema of a class is derived once in a process (1 ms and more).

    Raises:
        TypeError: It, or something in it, has no JSON form.
    """
    if described_by is not None or not isinstance(type_hint, type):
        return _derive(type_hint, described_by)
    known = _of_classes.get(type_hint)
    if known is None:
        known = _of_classes[type_hint] = _derive(type_hint, None)
    return known


def _derive(type_hint: Any, described_by: str | None) -> dict[str, Any]:
    if type_hint is object:
        return {}  # as good as `Any`
    try:
        schema = msgspec.json.schema(type_hint)
    except TypeError as error:
        raise TypeError(
            f"{type_hint!r} has no JSON form that linkly knows; use built-in types, dataclasses or msgspec.Struct"
        ) from error
    definitions = cast("dict[str, Any]", schema.get("$defs", {}))
    reference = schema.get("$ref")
    if isinstance(reference, str) and len(schema) <= 2:
        top = definitions.pop(reference.rsplit("/", 1)[1])
        if _refers_to(definitions, reference) or _refers_to(top, reference):
            definitions[reference.rsplit("/", 1)[1]] = top
        schema = dict(top)
        if definitions:
            schema["$defs"] = definitions
    for definition in definitions.values():
        _describe(definition, definition.get("description"))
    _describe(schema, described_by if described_by is not None else getattr(type_hint, "__doc__", None))
    return schema


def _describe(schema: dict[str, Any], docstring: str | None) -> None:
    """Copy what a docstring says about fields to the descriptions of the fields."""
    for field, text in documented_fields(docstring).items():
        prop = schema.get("properties", {}).get(field)
        if prop is not None and "description" not in prop:
            schema["properties"][field] = {**prop, "description": text}
    if "description" in schema:
        schema["description"] = docstring_summary(schema["description"])


def _refers_to(node: Any, reference: str) -> bool:
    if isinstance(node, dict):
        items = cast("dict[str, Any]", node)
        return items.get("$ref") == reference or any(_refers_to(item, reference) for item in items.values())
    if isinstance(node, list):
        return any(_refers_to(item, reference) for item in node)
    return False


_NOT_CONVERTED = (
    msgspec.inspect.AnyType,
    msgspec.inspect.RawType,
    msgspec.inspect.CustomType,
    msgspec.inspect.FloatType,
    msgspec.inspect.DecimalType,
)


def _copies(info: msgspec.inspect.Type) -> bool:
    """Return whether converting a plain value to this type copies every mutable part of it, and refuses NaN."""
    return not any(isinstance(part, _NOT_CONVERTED) for part in _parts(info, set()))


def _parts(info: msgspec.inspect.Type, seen: set[type]) -> Iterator[msgspec.inspect.Type]:
    yield info
    cls = getattr(info, "cls", None)
    if cls is not None:
        if cls in seen:
            return
        seen.add(cls)
    children: list[Any] = [getattr(info, name, None) for name in ("type", "item_type", "key_type", "value_type")]
    children += getattr(info, "types", ())
    children += getattr(info, "item_types", ())
    children += [field.type for field in getattr(info, "fields", ())]
    for child in children:
        if isinstance(child, msgspec.inspect.Type):
            yield from _parts(child, seen)


class Codec(Generic[T]):
    """Payload <-> typed value for one type, with isolation: what comes out shares nothing with what went in.

    Attributes:
        uncopied: The types of values that are their own copies, each with its check (`linkly.uncopied`).
    """

    def __init__(self, type_hint: type[T] | Any) -> None:
        self.type = type_hint
        self._decode = msgspec.json.Decoder(type_hint).decode
        info = msgspec.inspect.type_info(type_hint)
        # Of a Struct msgspec keeps a plan (0.2 us less); it inspects every other type anew (2 us and more).
        self._converts = isinstance(info, msgspec.inspect.StructType) and _copies(info)
        self.uncopied = uncopied(type_hint)
        self._is_object = isinstance(
            info, (msgspec.inspect.StructType, msgspec.inspect.DataclassType, msgspec.inspect.TypedDictType)
        )

    def read(self, payload: object, what: str) -> T:
        """Return `payload` as this codec's type.

        Args:
            payload: Plain data, a typed value or `Json`. `null` counts as `{}` where an object is wanted.
            what: Names the receiver in an error, for example ``function `link::create` ``.

        Raises:
            InvalidPayload: It does not fit; the message names field and reason.
        """
        fits = self.uncopied.get(type(payload))
        if fits is not None and fits(payload):
            return cast("T", payload)
        return self.copy(payload, what)

    def copy(self, payload: object, what: str) -> T:
        """Return what `read` does, for a payload that is not its own copy."""
        decode = self._decode
        try:
            if self._converts and type(payload) is dict:
                try:
                    return _convert(payload, self.type)
                except msgspec.ValidationError:
                    pass  # a value that fits only in its JSON form, as a caller on the wire would send it
            if type(payload) is Json:
                value: T = decode(payload)
            else:
                data = _encode(payload)
                if data.find(b"null") >= 0 and type(payload) is not float:  # a result may be one
                    refuse_not_finite(payload)
                value = decode(data)
            return value
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
            if self._is_object and (payload is None or (type(payload) is Json and bytes(payload).strip() == b"null")):
                return self.copy({}, what)
            raise InvalidPayload(f"Failed to deserialize input for {what}: {error}") from error
        except InvalidPayload as error:
            raise InvalidPayload(f"Failed to deserialize input for {what}: {error.message}") from error


_codecs: dict[Any, Codec[Any]] = {}


def codec_of(type_hint: Any) -> Codec[Any]:
    """Return the codec of a result type; it is made once: that takes 100 us and more.

    As many are kept as a program has types.
    """
    codec = _codecs.get(type_hint)
    return _codecs.setdefault(type_hint, Codec(type_hint)) if codec is None else codec


def read_settings(settings_type: type[T], block: object, path: str) -> T:
    """Turn a `config:` block into typed settings.

    Args:
        settings_type: A `Settings` subclass.
        block: What YAML gave, `None` for an absent block.
        path: Where it stands, for example ``$.workers[2].config``.

    Raises:
        ConfigError: A line for everything that does not fit: its full path, and what is allowed. `details["problems"]`
            has the same by itself: `message`, `key` (`.pool.max`, from the block on) and `reason`.
    """
    try:
        return msgspec.convert({} if block is None else block, settings_type)
    except msgspec.ValidationError as error:
        from linkly.settings_problems import path_of, problems_in  # takes time, and is seldom needed

        problems = [
            {"key": path_of(place), "reason": reason, "message": f"{path}{path_of(place)}: {reason}"}
            for place, reason in problems_in(settings_type, {} if block is None else block)
        ]
        message = "\n".join(problem["message"] for problem in problems)
        raise ConfigError(message, details={"problems": problems}) from error
