"""`linkly trigger FUNCTION key=value ...`: call one function, print what it answers.

Results go to stdout, everything else to stderr. Imports the interpreter's C modules only: its cold start is
measured in tests/bench/bench_start.py.
"""

from __future__ import annotations

import sys

from linkly_engine.cli.arguments import Arguments, parse
from linkly_engine.cli.engine_link import EngineLink, EngineUnreachable, Late
from linkly_engine.cli.streams import say, tell
from linkly_engine.cli.tinyjson import dumps
from linkly_engine.cli.usage import UsageError

TYPE_CHECKING = False  # type checkers take this name for true; importing it from typing costs 5 ms
if TYPE_CHECKING:
    from typing import Any


def trigger(words: list[str]) -> int:
    """Run the command; return its exit code."""
    try:
        arguments = parse(words)
        if arguments.help:
            from linkly_engine.cli.function_help import show_help

            return show_help(arguments)
        if arguments.function_id is None:
            raise UsageError(
                "linkly trigger: missing FUNCTION_PATH; for example `linkly trigger engine::functions::list`"
            )
        if not arguments.ambiguous():
            arguments.payload()  # a payload that cannot be put together is said before anything is sent
        return _call(arguments, arguments.function_id)
    except UsageError as error:
        tell(f"Error: {error}")
        return error.exit_code
    except Late as error:
        tell(f"Error: {error}. --timeout-ms MS gives it longer")
        return 1
    except EngineUnreachable as error:
        tell(f"Error: {error}")
        return 1


def _call(arguments: Arguments, function_id: str) -> int:
    link = EngineLink(arguments.where(), arguments.timeout_ms)
    try:
        schema = None
        if arguments.ambiguous():
            answer = link.call("engine::functions::info", arguments.info_request())
            result = answer.get("result")
            schema = result.get("request_schema") if isinstance(result, dict) else None
        answer = link.call(function_id, arguments.payload(schema), arguments.namespace)
    finally:
        link.close()
    error = answer.get("error")
    if error is not None:
        tell(_error_text(error, arguments.output))
        return 1
    say(dumps(answer.get("result"), indent=2))  # `null` also where the answer has none: C24
    return 0


def _error_text(error: Any, output: str | None) -> str:
    """Return an error for a person in one line, for programs as JSON, else like iii (docs/workers.md#command-line)."""
    body = {"stacktrace": None, **(error if isinstance(error, dict) else {"code": "UNKNOWN", "message": str(error)})}
    if output == "json":
        return dumps(body, indent=2)
    if output is None and not sys.stderr.isatty():
        return "Error: " + dumps(body, indent=2)
    line = " ".join(f"{body.get('code')}: {body.get('message')}".split())
    return "Error: " + "".join(letter for letter in line if letter.isprintable())
