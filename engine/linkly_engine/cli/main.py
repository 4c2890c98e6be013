"""Decides what the command line asks for before anything is imported: `linkly trigger` has to be quick."""

import sys

from linkly_engine.cli import streams

COMMANDS = ("project", "worker", "functions", "workers", "check", "completion")
"""Answered by `linkly_engine.cli.commands`; everything else but `trigger` runs the engine."""


def main(arguments: "list[str] | None" = None) -> int:
    """Run the `linkly` command; return its exit code (0 fine, 1 failed, 2 wrong usage)."""
    words = sys.argv[1:] if arguments is None else arguments
    streams.prepare()
    try:
        code = _run(words)
        streams.finish()
        return code
    except KeyboardInterrupt:
        return 130
    except streams.OutputLost as lost:
        if lost.unwanted:
            return 0
        streams.tell(f"Error: {lost}")
        return 1


def _run(words: "list[str]") -> int:
    if words and words[0] in ("trigger", "t"):
        from linkly_engine.cli.trigger import trigger

        return trigger(words[1:])
    if words and words[0] == "__complete":
        from linkly_engine.cli.completion import complete

        return complete(words[1:])
    if _is_command(words):
        from linkly_engine.cli.commands import run

        return run(words)
    from linkly_engine.cli.serve import serve

    return serve(words)


def _is_command(words: "list[str]") -> bool:
    """Tell whether the first word is a command; `-c FILE` may stand before it."""
    rest = words
    if rest and rest[0] in ("-c", "--config"):
        rest = rest[2:]
    elif rest and rest[0].startswith("--config="):
        rest = rest[1:]
    return bool(rest) and rest[0] in COMMANDS
