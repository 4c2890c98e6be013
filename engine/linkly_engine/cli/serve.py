"""`linkly`: run the engine with the workers of config.yaml, and show what it and its workers say."""

from __future__ import annotations

import difflib
from pathlib import Path

import msgspec

from linkly.errors import LinklyError
from linkly_engine import __version__
from linkly_engine.cli.output import LogFormat, Output, log_to
from linkly_engine.cli.streams import say, tell
from linkly_engine.cli.usage import COMMANDS, UsageError
from linkly_engine.cli.welcome import welcome
from linkly_engine.project.loader import read
from linkly_engine.project.project import Project
from linkly_engine.project.serve import run
from linkly_engine.telemetry.capture import Capture
from linkly_engine.telemetry.limits import LineFilter

USAGE = """\
linkly: a function bus. Workers register functions, anybody triggers them, the engine routes the call.

Usage:
  linkly [-c FILE]                        run the engine with the workers of FILE (default config.yaml,
                                          else embedded defaults: state, database, queue,
                                          http, link)
  linkly trigger FUNCTION [key=value ...] call a function of a running engine
  linkly trigger FUNCTION --help          what it wants and answers

Projects:
  linkly project init [NAME]              make a folder with a config.yaml
  linkly worker add|remove|init ...       edit its workers; init writes a new one in Python or TypeScript
  linkly worker list|status|logs ...      look at them
  linkly worker start|stop|restart NAME   of a running engine
  linkly check [-c FILE]                  tell whether config.yaml can be used
  linkly database migrate FOLDER          run numbered SQL files, each once
  linkly database copy --from A --to B    copy tables and rows to another database
  linkly queue list|show|dead|redrive ... look at durable work, and repair it
  linkly functions, linkly workers        what a running engine has
  linkly completion bash|zsh|fish         completion for your shell
                                          (`linkly worker --help` and so on say more)

Options:
  -c, --config FILE        the project to run
  --log-format text|json   lines for people (default), or one JSON object a line
  --verbose                also log what is of interest only when looking for a fault
  -v, --version            print the version
  -h, --help               this text

Example:
  linkly -c config.yaml &
  linkly trigger link::create url=https://example.com code=demo"""


class Options(msgspec.Struct):
    """A parsed command line; where there is an `answer`, it is printed and nothing else is done."""

    config: Path | None = None
    log_format: LogFormat = "text"
    verbose: bool = False
    answer: str | None = None


def serve(words: list[str]) -> int:
    """Run the command; return its exit code."""
    try:
        options = parse(words)
    except UsageError as error:
        tell(f"Error: {error}")
        return error.exit_code
    if options.answer is not None:
        say(options.answer)
        return 0
    output, capture, limited = Output(options.log_format), Capture(), LineFilter()
    output.addFilter(limited)
    capture.addFilter(limited)
    log_to(output, capture, verbose=options.verbose)

    def on_ready(project: Project) -> None:
        capture.bind(project.engine.telemetry)
        limited.bind(project.engine.telemetry.limits)
        welcome(project, output)

    try:
        config, workers = read(options.config)
        for note in config.notes:
            output.note(note)
        return run(config, workers, on_ready=on_ready)
    except LinklyError as error:
        output.fail(error.message)
        return 1
    finally:
        capture.unbind()
        limited.unbind()
        output.close()


def _wrong(text: str) -> UsageError:
    return UsageError(f"{text}\n\n`linkly --help` shows what there is")


def _unknown(word: str) -> UsageError:
    """Make the error for a word without a meaning; it names the command that may have been meant."""
    if word.startswith("-"):
        return _wrong(f"unknown option `{word}`")
    near = difflib.get_close_matches(word, (*COMMANDS, "trigger"), n=1)
    hint = f"; did you mean `linkly {near[0]}`?" if near else ""
    if not near and "::" in word:
        hint = f"; to call a function: `linkly trigger {word}`"
    return _wrong(f"there is no command `{word}`{hint}")


def parse(words: list[str]) -> Options:
    """Read a command line.

    Raises:
        UsageError: With the text for the user.
    """
    options = Options()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, found, attached = word.partition("=")
        if word in ("-h", "--help"):
            options.answer = USAGE
            return options
        if word in ("-v", "--version"):
            options.answer = __version__
            return options
        if word == "--verbose":
            options.verbose = True
        elif name in ("-c", "--config", "--log-format"):
            if not found and not rest:
                raise _wrong(f"{name} needs {'text or json' if name == '--log-format' else 'a file name'}")
            value = attached if found else rest.pop(0)
            if name != "--log-format":
                options.config = Path(value)
            elif value in ("text", "json"):
                options.log_format = "json" if value == "json" else "text"
            else:
                raise _wrong(f"--log-format: expected text or json, got `{value}`")
        else:
            raise _unknown(word)
    return options
