"""What every command of `linkly` has in common: an example in its help, its options, its exit code.

0 fine, 1 failed, 2 wrong usage or not ready in time. click is imported here and in the commands only: neither
`linkly trigger` nor the engine needs it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from linkly.errors import LinklyError
from linkly_engine import CONFIG_FILE, PORT
from linkly_engine.cli import worker_port
from linkly_engine.cli.engine_link import EngineUnreachable
from linkly_engine.cli.streams import tell
from linkly_engine.cli.usage import UsageError
from linkly_engine.cli.worker_port import Where

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Failure(Exception):
    """The command cannot do what it was asked for; `exit_code` says how that is told to programs."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Command(click.Command):
    """A command with an example."""

    def __init__(self, *arguments: Any, example: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example, line by line as it is."""
        with formatter.section("Example"):
            for line in self.example.strip().splitlines():
                formatter.write(f"  {line.strip()}\n")


class Group(click.Group, Command):
    """A command with commands below it."""

    command_class = Command
    group_class = type


def config_option(function: Decorated) -> Decorated:
    """Add `-c FILE`."""
    return click.option(
        "-c",
        "--config",
        "config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"The project's file (default {CONFIG_FILE} here).",
    )(function)


class Target:
    """The project's file that a command works on, and where its engine is looked for."""

    def __init__(self, path: Path, address: str | None, port: int | None) -> None:
        self.path = path
        self._address = address
        self._port = port

    def where(self) -> Where:
        """Return where the engine is: as the command line says, else as the file does."""
        return worker_port.find(self.path, self._address, self._port)


def target_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add `-c FILE`, `--address` and `--port`; the function is given the `Target` that they name."""

    @functools.wraps(function)
    def run(*arguments: Any, config: Path | None, address: str | None, port: int | None, **options: Any) -> int:
        return function(*arguments, target=Target(project_file(config), address, port), **options)

    with_address = click.option("--address", metavar="HOST", help="Where the engine runs (localhost).")(run)
    with_port = click.option(
        "--port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help=f"Its worker port ($LINKLY_PORT, else the project's, else {PORT}).",
    )(with_address)
    return config_option(with_port)


def json_option(function: Decorated) -> Decorated:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


def project_file(given: Path | None) -> Path:
    """Return the file a command works on: its own `-c`, the one before the command, or config.yaml here."""
    before: Path | None = click.get_current_context().find_root().params.get("config")
    return given or before or Path(CONFIG_FILE)


def run_group(group: click.Group, words: list[str]) -> int:
    """Run a command line; return its exit code."""
    try:
        return int(group.main(args=words, prog_name="linkly", standalone_mode=False) or 0)
    except click.UsageError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        tell("Aborted.")
        return 1
    except (Failure, UsageError) as error:
        tell(f"Error: {error}")
        return error.exit_code
    except LinklyError as error:
        tell(f"Error: {error.message}")
        return 1
    except (EngineUnreachable, OSError) as error:
        tell(f"Error: {error}")
        return 1
