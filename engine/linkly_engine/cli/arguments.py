"""The words behind `linkly trigger` -> what to call with which payload (docs/workers.md#command-line)."""

from __future__ import annotations

from linkly_engine.cli.tinyjson import loads
from linkly_engine.cli.usage import UsageError
from linkly_engine.cli.worker_port import Where, find

TYPE_CHECKING = False  # type checkers take this name for true; importing it from typing costs 5 ms
if TYPE_CHECKING:
    from typing import Any


class Arguments:
    """A parsed command line of `linkly trigger`."""

    def __init__(self) -> None:
        self.function_id: str | None = None
        self.pairs: list[tuple[str, str]] = []
        self.json: Any = None
        self.has_json = False
        self.config: str | None = None
        self.address: str | None = None
        self.port: int | None = None
        self.timeout_ms = 30_000
        self.namespace: str | None = None
        self.output: str | None = None
        self.help = False

    def where(self) -> Where:
        """Return where the engine is."""
        return find(self.config, self.address, self.port)

    def ambiguous(self) -> bool:
        """Return whether a value is JSON and could be meant as text all the same: then the schema decides."""
        return any(_decoded(text) is not _TEXT for _, text in self.pairs)

    def info_request(self) -> dict[str, Any]:
        """Return the payload with which `engine::functions::info` tells of the function."""
        request: dict[str, Any] = {"function_id": self.function_id}
        if self.namespace is not None:
            request["namespace"] = self.namespace
        return request

    def payload(self, schema: Any = None) -> Any:
        """Return the payload; with the function's request schema, a value is typed by that first."""
        if not self.pairs:
            return self.json if self.has_json else {}
        payload: dict[str, Any] = dict(self.json) if self.has_json else {}
        for key, text in self.pairs:
            payload[key] = typed(text, property_schema(schema, key), schema)
        return payload


def parse(words: list[str]) -> Arguments:
    """Read a command line.

    Raises:
        UsageError: With the text for the user.
    """
    arguments = Arguments()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, found, attached = word.partition("=")
        name = _SHORT.get(name, name)
        if word in ("-h", "--help"):
            arguments.help = True
        elif name in _FLAGS:
            if not found and not rest:
                raise UsageError(f"{name} needs a value")
            _set(arguments, name, attached if found else rest.pop(0))
        elif (word.startswith("-") and arguments.function_id is None) or word.startswith("--"):
            raise UsageError(f"unknown option `{word}`; see `linkly trigger --help`")
        elif arguments.function_id is None:
            arguments.function_id = word
        else:
            if not found:
                raise UsageError(f"expected key=value, got `{word}`", 1)
            if not name:
                raise UsageError(f"payload key must not be empty (got `{word}`)", 1)
            arguments.pairs.append((name, attached))
    if arguments.pairs and arguments.has_json and not isinstance(arguments.json, dict):
        raise UsageError("--json must be an object when combined with kv pairs", 1)
    return arguments


_SHORT = {"-c": "--config", "-o": "--output", "-n": "--namespace"}
_FLAGS = ("--config", "--json", "--address", "--port", "--timeout-ms", "--output", "--namespace")


def _set(arguments: Arguments, name: str, value: str) -> None:
    if name == "--json":
        try:
            arguments.json, arguments.has_json = loads(value), True
        except ValueError as error:
            shown = value if len(value) <= 200 else f"{value[:200]}…"
            raise UsageError(f"--json: invalid JSON `{shown}`: {error}", 1) from None
    elif name in ("--port", "--timeout-ms"):
        if not (value.isascii() and value.isdigit()):
            raise UsageError(f"{name}: expected a whole number, got `{value}`")
        if name == "--port" and int(value) > 65535:
            raise UsageError(f"--port: {value} is no port")
        setattr(arguments, name[2:].replace("-", "_"), int(value))
    else:
        if name == "--output" and value not in ("json", "text"):
            raise UsageError(f"{name}: expected json or text, got `{value}`")
        setattr(arguments, name[2:], value)


_TEXT = object()


def _decoded(text: str) -> Any:
    """Decode a value that is JSON; `_TEXT` for one that can only be text."""
    try:
        return loads(text)
    except ValueError:
        return _TEXT


def typed(text: str, schema: Any, root: Any = None) -> Any:
    """Return the value a word stands for: what the schema wants, else JSON if it is JSON, else text."""
    value = _decoded(text)
    if value is _TEXT:
        return text
    kinds = allowed_kinds(schema, root)
    if kinds and not (kind_of(value) in kinds or (isinstance(value, int) and "number" in kinds)) and "string" in kinds:
        return text
    return value


def property_schema(schema: Any, key: str) -> Any:
    """Return the schema of one key of an object schema, `None` if it says nothing."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return properties.get(key) if isinstance(properties, dict) else None


def allowed_kinds(schema: Any, root: Any = None) -> set[str]:
    """Collect the JSON types a schema allows; empty: any."""
    if not isinstance(schema, dict):
        return set()
    reference = schema.get("$ref")
    if isinstance(reference, str) and isinstance(root, dict):
        definition = root.get("$defs", {}).get(reference.rsplit("/", 1)[-1])
        return allowed_kinds(definition, root)
    kinds: set[str] = set()
    for choice in schema.get("anyOf") or schema.get("oneOf") or []:
        found = allowed_kinds(choice, root)
        if not found:
            return set()
        kinds |= found
    declared = schema.get("type")
    if isinstance(declared, str):
        kinds.add(declared)
    elif isinstance(declared, list):
        kinds.update(str(kind) for kind in declared)
    for value in schema.get("enum") or []:
        kinds.add(kind_of(value))
    return kinds


def kind_of(value: Any) -> str:
    """Name a value's JSON type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
