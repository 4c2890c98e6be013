"""Decides what the command line asks for before anything is imported: `linkly trigger` has to be quick."""

import sys


def main(arguments: "list[str] | None" = None) -> int:
    """Run the `linkly` command; return its exit code (0 fine, 1 failed, 2 wrong usage)."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words and words[0] in ("trigger", "t"):
            from linkly_engine.cli.trigger import trigger

            return trigger(words[1:])
        from linkly_engine.cli.serve import serve

        return serve(words)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `linkly trigger ... | head`: the reader has had enough
        return 0
