"""`linkly trigger FUNCTION --help`: what a running function wants and answers, read from its schemas."""

from __future__ import annotations

import difflib
from typing import Any

from linkly_engine import CONFIG_FILE, PORT
from linkly_engine.cli.arguments import Arguments, allowed_kinds
from linkly_engine.cli.engine_link import EngineLink, EngineUnreachable
from linkly_engine.cli.show import aligned
from linkly_engine.cli.streams import say, tell
from linkly_engine.cli.tinyjson import dumps
from linkly_engine.text import stripped

OPTIONS = f"""\
Options:
  --json JSON          the whole payload; key=value pairs override its members
  -o, --output FORMAT  of errors: text (one line, as on a terminal) or json
  --timeout-ms MS      how long to wait for the answer (default 30000)
  --address HOST       where the engine runs (default localhost)
  --port PORT          its worker port (default $LINKLY_PORT, else that of config.yaml, else {PORT})
  -c, --config FILE    the project whose engine it is (default {CONFIG_FILE} here)
  -n, --namespace NS   where the function is found (default: default)
  -h, --help           this text; with a FUNCTION: its parameters"""

STATIC = f"""\
linkly trigger: call a function of a running engine and print what it answers

Usage:
  linkly trigger FUNCTION [key=value ...] [--json JSON]

A value is what the function's schema says; otherwise JSON if it is JSON, else text.
The result goes to stdout as JSON, everything else to stderr; exit code 1 if the call failed.

{OPTIONS}

Example:
  linkly trigger state::set scope=greetings key=hello 'value={{"to": "world"}}'

Tip: `linkly trigger engine::functions::list` lists every function,
     `linkly trigger FUNCTION --help` explains one."""


def show_help(arguments: Arguments) -> int:
    """Print help; return the exit code."""
    if arguments.function_id is None:
        say(STATIC)
        return 0
    function_id = arguments.function_id
    try:
        link = EngineLink(arguments.where(), arguments.timeout_ms)
        try:
            answer = link.call("engine::functions::info", arguments.info_request())
            known = link.call("engine::functions::list", {"include_internal": True}) if "error" in answer else {}
        finally:
            link.close()
    except EngineUnreachable as error:
        tell(f"warning: {error}\nwarning: its parameters are known to a running engine only")
        say(STATIC)
        return 0
    detail = answer.get("result")
    if not isinstance(detail, dict):
        return _unknown(function_id, known)
    say(describe(function_id, detail))
    return 0


def _unknown(function_id: str, listed: dict[str, Any]) -> int:
    functions: list[dict[str, Any]] = (listed.get("result") or {}).get("functions", [])
    near = difflib.get_close_matches(function_id, [str(row["function_id"]) for row in functions], n=5, cutoff=0.4)
    tell(f"error: function `{function_id}` not found in engine registry.")
    if near:
        tell("Did you mean:\n" + "\n".join(f"  {name}" for name in near))
    tell("`linkly trigger engine::functions::list` lists every function.")
    return 1


def describe(function_id: str, detail: dict[str, Any]) -> str:
    """Return the help text of a function from its `engine::functions::info` row."""
    schema = detail.get("request_schema")
    properties: dict[str, Any] = schema.get("properties", {}) if isinstance(schema, dict) else {}
    required = schema.get("required", []) if isinstance(schema, dict) else []
    lines = [f"linkly trigger {function_id}", ""]
    if detail.get("description"):
        lines += [stripped(str(detail["description"])), ""]
    lines += ["Usage:", f"  linkly trigger {function_id} [key=value ...] [--json '<obj>']", "", "Parameters:"]
    if schema is None:
        lines.append("  (no request schema published)")
    elif not properties:
        lines.append("  (none)")
    else:
        rows = [("name", "type", "required", "default", "description")]
        for name, part in sorted(properties.items()):
            default = dumps(part["default"]) if isinstance(part, dict) and "default" in part else ""
            needed = "yes" if name in required else "no"
            rows.append((stripped(name), _kind(part, schema), needed, default, _description(part)))
        lines += [f"  {line}" for line in aligned(rows)]
    lines += ["", "Example:", "  " + _example(function_id, properties, required, schema)]
    lines += ["", "Result:", *(f"  {line}" for line in _result(detail.get("response_schema")))]
    triggers = detail.get("registered_triggers") or []
    if triggers:
        lines += ["", "Runs also on:"]
        lines += [f"  {stripped(str(row.get('trigger_type')))} {dumps(row.get('config'))}" for row in triggers]
    return "\n".join([*lines, "", OPTIONS])


def _description(schema: Any) -> str:
    return stripped(str(schema.get("description", ""))) if isinstance(schema, dict) else ""


def _kind(schema: Any, root: Any) -> str:
    kinds = sorted(allowed_kinds(schema, root), key=lambda kind: (kind == "null", kind))
    choices = schema.get("enum") if isinstance(schema, dict) else None
    if choices:
        return "|".join(str(choice) for choice in choices)
    return "|".join(kinds) or "any"


def _example(function_id: str, properties: dict[str, Any], required: list[str], root: Any) -> str:
    words = ["linkly trigger", function_id]
    shown = [name for name, part in properties.items() if isinstance(part, dict) and part.get("examples")]
    chosen = [*required, *(name for name in shown if name not in required)] or list(properties)[:1]
    for name in chosen:
        part = properties.get(name)
        words.append(f"{name}={_sample(name, part, root)}")
    return " ".join(words)


def _sample(name: str, schema: Any, root: Any) -> str:
    if isinstance(schema, dict):
        for given in (schema.get("examples") or []) + (schema.get("enum") or []):
            return _quoted(given if isinstance(given, str) else dumps(given))
    kinds = allowed_kinds(schema, root)
    for kind, sample in (("string", name), ("integer", "1"), ("number", "1.5"), ("boolean", "true")):
        if kind in kinds:
            return sample
    return "'[]'" if "array" in kinds else "'{}'"


def _quoted(text: str) -> str:
    plain = text and all(letter.isalnum() or letter in "-_./:@%+," for letter in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"


def _result(schema: Any) -> list[str]:
    if not isinstance(schema, dict):
        return ["(not described)"]
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        return [_kind(schema, schema)]
    return aligned(
        [(stripped(str(name)), _kind(part, schema), _description(part)) for name, part in properties.items()]
    )
