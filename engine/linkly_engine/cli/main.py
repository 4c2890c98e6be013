"""Decides by its first words what a command line asks for, and imports only that: `linkly trigger` has to be quick."""

import sys

from linkly_engine.cli import streams
from linkly_engine.cli.usage import COMMANDS  # `trigger` imports it anyway


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
    config, rest = _behind_config(words)
    if rest and rest[0] in ("trigger", "t"):
        from linkly_engine.cli.trigger import trigger

        return trigger([*config, *rest[1:]])
    if words and words[0] == "__complete":
        from linkly_engine.cli.completion import complete

        return complete(words[1:])
    if rest and rest[0] in COMMANDS:
        from linkly_engine.cli.commands import run

        return run(words)
    from linkly_engine.cli.serve import serve

    return serve(words)


def _behind_config(words: "list[str]") -> "tuple[list[str], list[str]]":
    """Split off `-c FILE`, which may stand before a command."""
    if words and words[0] in ("-c", "--config"):
        return words[:2], words[2:]
    if words and words[0].startswith("--config="):
        return words[:1], words[1:]
    return [], words
