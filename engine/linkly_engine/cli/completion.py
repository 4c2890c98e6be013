"""`linkly __complete`: the candidates at the cursor; the scripts of `linkly completion` run it at every TAB.

It is quick and silent: a TAB takes 52 ms of CPU, where importing click and the commands takes 245; what fails gives no
candidates. `SPECIFICATION` repeats what the commands declare, and a test holds the two together.
"""

from __future__ import annotations

from linkly_engine.cli.arguments import allowed_kinds, parse
from linkly_engine.cli.engine_link import EngineLink, EngineUnreachable
from linkly_engine.cli.streams import say
from linkly_engine.cli.usage import UsageError

TYPE_CHECKING = False  # type checkers take this name for true; importing it from typing costs 5 ms
if TYPE_CHECKING:
    from typing import Any

ENGINE_MS = 800
FILES = ":files"
"""Answered where a file name is wanted: the shell completes those itself."""

CONFIG = {"-c": FILES, "--config": FILES}
ENGINE = {"--address": "text", "--port": "text"}
JSON = {"--json": ""}
HELP = {"-h": "", "--help": ""}
YES = {"-y": "", "--yes": ""}
WAIT = {"--no-wait": ""}
PAGE = {"-n": "text", "--lines": "text", "--cursor": "text"}
OF_QUEUE = {"--queue": "text", "--function": "text"}
DEAD = {"--error": "text", "--reason": "text", "--after": "text", "--before": "text"}
STATES = "waiting|delayed|retrying|active|done|dead|cancelled|discarded|expired"
SHELLS = "bash|zsh|fish"
LANGUAGES = "python|typescript|javascript"

SPECIFICATION: dict[str, tuple[dict[str, str], str]] = {
    "": ({**CONFIG, **HELP, "-v": "", "--version": "", "--verbose": "", "--log-format": "text|json"}, ""),
    "trigger": (
        {
            **HELP,
            **CONFIG,
            **ENGINE,
            "--json": "text",
            "--timeout-ms": "text",
            "-o": "json|text",
            "--output": "json|text",
            "-n": "text",
            "--namespace": "text",
        },
        "function",
    ),
    "project": (HELP, ""),
    "project init": (
        {**HELP, "-d": FILES, "--directory": FILES, "-t": "bare|linkly", "--template": "bare|linkly"}
        | {"--allow-non-empty": ""},
        FILES,
    ),
    "worker": (HELP, ""),
    "worker add": (
        {**HELP, **CONFIG, **ENGINE, **YES, **WAIT, "-f": "", "--force": "", "--reset-config": ""},
        "source",
    ),
    "worker remove": ({**HELP, **CONFIG, **ENGINE, **YES, **WAIT}, "worker"),
    "worker list": ({**HELP, **CONFIG, **ENGINE, **JSON}, ""),
    "worker status": ({**HELP, **CONFIG, **ENGINE, **JSON}, "worker"),
    "worker logs": ({**HELP, **CONFIG, "-f": "", "--follow": "", "-n": "text", "--lines": "text"}, "worker"),
    "worker start": ({**HELP, **CONFIG, **ENGINE, **WAIT}, "worker"),
    "worker stop": ({**HELP, **CONFIG, **ENGINE, **YES}, "worker"),
    "worker restart": ({**HELP, **CONFIG, **ENGINE, **YES, **WAIT}, "worker"),
    "worker init": (
        {**HELP, "-l": LANGUAGES, "--language": LANGUAGES, "--sdk": "linkly|iii", "-d": FILES, "--directory": FILES}
        | {"--allow-non-empty": ""},
        "text",
    ),
    "database": (HELP, ""),
    "database migrate": (
        {**HELP, **CONFIG, **ENGINE, **JSON, "--db": "text", "--dry-run": "", "--lock-timeout": "text"},
        FILES,
    ),
    "database copy": (
        {**HELP, **CONFIG, **ENGINE, **JSON, "--from": "text", "--to": "text", "--table": "text"}
        | {"--replace": "", "--dry-run": ""},
        "",
    ),
    "queue": (HELP, ""),
    "queue list": ({**HELP, **CONFIG, **ENGINE, **JSON}, ""),
    "queue show": ({**HELP, **CONFIG, **ENGINE, **JSON}, "text"),
    "queue jobs": ({**HELP, **CONFIG, **ENGINE, **JSON, **PAGE, **OF_QUEUE, "--state": STATES}, ""),
    "queue dead": ({**HELP, **CONFIG, **ENGINE, **JSON, **PAGE, **OF_QUEUE, **DEAD}, ""),
    "queue redrive": (
        {**HELP, **CONFIG, **ENGINE, **JSON, **OF_QUEUE, **DEAD, "--waiting": "", "--into": "text"},
        "text",
    ),
    "queue discard": ({**HELP, **CONFIG, **ENGINE, **JSON, **OF_QUEUE, **DEAD, "--waiting": ""}, "text"),
    "queue pause": ({**HELP, **CONFIG, **ENGINE, **JSON}, "text"),
    "queue resume": ({**HELP, **CONFIG, **ENGINE, **JSON}, "text"),
    "functions": ({**HELP, **CONFIG, **ENGINE, **JSON, "-a": "", "--all": ""}, "text"),
    "workers": ({**HELP, **CONFIG, **ENGINE, **JSON}, ""),
    "check": ({**HELP, **CONFIG, **JSON}, ""),
    "completion": (HELP, SHELLS),
}
"""Command -> its options with what their values are, and what its words are.

Kinds: empty (none), `text` (anything), `a|b` (one of these), `worker`, `function`, `source`, `:files`.
"""

Candidates = list[tuple[str, str]]


def complete(arguments: list[str]) -> int:
    """Print candidates, one a line, for zsh and fish with a tab and a description behind.

    Args:
        arguments: The shell; for bash its COMP_WORDBREAKS and the line up to the cursor, for the others the words
            behind the command, the one at the cursor last.
    """
    try:
        shell, *rest = arguments
        if shell == "bash":
            breaks, line = rest
            words = split(line)[1:]
            current = words[-1]
            # bash replaces only what stands behind its last break character.
            cut = max((current.rfind(letter) + 1 for letter in ":=" if letter in breaks), default=0)
        else:
            words, cut = rest, 0
        for value, description in candidates(words):
            behind = f"\t{description}" if description and shell != "bash" else ""
            say((value if value == FILES else value[cut:]) + behind)
    except Exception:  # at a TAB a shell wants candidates or nothing
        return 0
    return 0


def candidates(words: list[str]) -> Candidates:
    """Return what could stand in the place of the last word."""
    *before, current = words
    command, used = _command(before)
    options, kind = SPECIFICATION[command]
    last = used[-1] if used else ""
    expected = options.get(last, "")
    if expected:
        found = _values(expected, before, used, current)
    elif current.startswith("-"):
        name, equals, _ = current.partition("=")
        if equals and options.get(name):
            return _fitting(
                [(f"{name}={value}", text) for value, text in _values(options[name], before, used, "")], current
            )
        found = [(option, "") for option in options if option.startswith("--") or len(current) < 2]
    else:
        below = [name.rpartition(" ") for name in SPECIFICATION if name]
        found = [(name, "") for above, _, name in below if above == command] or _values(kind, before, used, current)
    return _fitting(found, current)


def split(line: str) -> list[str]:
    """Split the beginning of a command line into words, as a shell would; the last one may be empty or unfinished."""
    words, word, quote, escaped = [], "", "", False
    for letter in line:
        if escaped:
            word, escaped = word + letter, False
        elif letter == "\\" and quote != "'":
            escaped = True
        elif quote:
            word, quote = (word, "") if letter == quote else (word + letter, quote)
        elif letter in "'\"":
            quote = letter
        elif letter in " \t\n":
            if word:
                words.append(word)
            word = ""
        else:
            word += letter
    return [*words, word]


def _fitting(found: Candidates, current: str) -> Candidates:
    """Keep what continues the word; text of other programs is kept only if a shell takes it for one plain word."""
    return [
        (value, "".join(letter for letter in description if letter.isprintable())[:80])
        for value, description in found
        if value == FILES
        or (value.startswith(current) and value.isascii() and all(c.isalnum() or c in "-_.:=/@#" for c in value))
    ]


def _command(before: list[str]) -> tuple[str, list[str]]:
    """Return which command the words name, and the words behind it."""
    command, used, skip, named = "", list[str](), False, False
    for word in before:
        longer = f"{command} {'trigger' if word == 't' else word}".strip()
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = bool(SPECIFICATION[command][0].get(word))
        elif longer in SPECIFICATION and not named:
            command, used = longer, []
            continue
        else:
            named = True
        used.append(word)
    return command, used


def _values(kind: str, before: list[str], used: list[str], current: str) -> Candidates:
    if kind == FILES:
        return [(FILES, "")]
    if kind == "worker":
        return [(name, "") for name in _workers(before) if name not in used]
    if kind == "source":
        return [(FILES, "")] if current[:1] in (".", "/", "~") and current else [(name, "") for name in _shipped()]
    if kind == "function":
        return _of_trigger(used, current)
    return [(choice, "") for choice in kind.split("|")] if "|" in kind else []


def _of_trigger(used: list[str], current: str) -> Candidates:
    """Return function ids, or the keys of the function's payload, or the values one of them may have."""
    options = SPECIFICATION["trigger"][0]
    try:
        # Options alone: what stands behind a value may be unfinished.
        arguments = parse([word for word in used if "=" not in word or word.startswith("--")])
    except UsageError:
        return []
    given = [word.partition("=")[0] for word in used if "=" in word and word not in options]
    try:
        link = EngineLink(arguments.where(), ENGINE_MS)
    except EngineUnreachable:
        return []
    try:
        if arguments.function_id is None:
            hidden = current.startswith("engine")
            rows = link.call("engine::functions::list", {"include_internal": hidden})["result"]["functions"]
            return [(row["function_id"], _line(row.get("description"))) for row in rows]
        schema = link.call("engine::functions::info", arguments.info_request())["result"]["request_schema"]
    finally:
        link.close()
    key, equals, _ = current.partition("=")
    if equals:
        return [(f"{key}={value}", "") for value in _choices(schema["properties"].get(key), schema)]
    return [
        (f"{name}=", _line(part.get("description")) if isinstance(part, dict) else "")
        for name, part in schema["properties"].items()
        if name not in given
    ]


def _choices(schema: Any, root: Any) -> list[str]:
    if not isinstance(schema, dict):
        return []
    listed = [str(value) for value in [*(schema.get("enum") or []), *(schema.get("examples") or [])]]
    return listed or (["true", "false"] if "boolean" in allowed_kinds(schema, root) else [])


def _line(text: Any) -> str:
    return str(text or "").split("\n", 1)[0]


def _workers(before: list[str]) -> list[str]:
    """Return the workers of config.yaml, or of the file that the words name."""
    from pathlib import Path

    from linkly_engine import CONFIG_FILE
    from linkly_engine.cli.entries import names_of
    from linkly_engine.project.edit.layout import read

    file = CONFIG_FILE
    for word, following in zip(before, [*before[1:], ""], strict=False):
        if word in CONFIG:
            file = following
        elif word.startswith("--config="):
            file = word.partition("=")[2]
    path = Path(file)
    layout = read(path.read_text("utf-8"), file)
    return names_of(layout.entries, path.resolve().parent)


def _shipped() -> list[str]:
    from linkly_engine.shipped import shipped_names  # its `importlib` costs 1 ms

    return shipped_names()
