"""`linkly`: run the engine with the workers of config.yaml."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from linkly.errors import ConfigError
from linkly_engine import __version__
from linkly_engine.cli.welcome import welcome
from linkly_engine.config import load
from linkly_engine.loader import load_workers
from linkly_engine.serve import run

USAGE = """\
linkly: a function bus. Workers register functions, anybody triggers them, the engine routes the call.

Usage:
  linkly [-c FILE]                        run the engine with the workers of FILE (default config.yaml,
                                          else embedded defaults: state, database, http, link)
  linkly trigger FUNCTION [key=value ...] call a function of a running engine
  linkly trigger FUNCTION --help          what it wants and answers

Options:
  -c, --config FILE   the project to run
  -v, --version       print the version
  --verbose           log every call that fails and every connection
  -h, --help          this text

Example:
  linkly -c config.yaml &
  linkly trigger link::create url=https://example.com code=demo"""


def serve(words: list[str]) -> int:
    """Run the command; return its exit code."""
    path: Path | None = None
    verbose = False
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, found, attached = word.partition("=")
        if word in ("-h", "--help"):
            print(USAGE)
            return 0
        if word in ("-v", "--version"):
            print(__version__)
            return 0
        if word == "--verbose":
            verbose = True
        elif name in ("-c", "--config"):
            if not found and not rest:
                return _usage(f"{name} needs a file name")
            path = Path(attached if found else rest.pop(0))
        else:
            return _usage(f"unknown argument `{word}`")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)-7s %(name)s  %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("picows").setLevel(logging.WARNING)
    try:
        config = load(path)
        workers = load_workers(config)
    except ConfigError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        return 1
    for note in config.notes:
        print(f"note: {note}", file=sys.stderr)
    return run(config, workers, on_ready=welcome)


def _usage(text: str) -> int:
    print(f"Error: {text}\n\n{USAGE}", file=sys.stderr)
    return 2
