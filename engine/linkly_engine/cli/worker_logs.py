"""`linkly worker logs`: the last lines that a worker's program wrote, and the next ones as they come.

The files are the engine's: `.linkly/logs/NAME/stdout.log` and `stderr.log` beside config.yaml, put away as `.1`, `.2`
when they are full. The command reads them itself, so that it works without an engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click

from linkly_engine.cli import command
from linkly_engine.cli.show import note
from linkly_engine.cli.streams import say, tell
from linkly_engine.cli.worker_control import configured_row
from linkly_engine.project.entry import LOGS
from linkly_engine.text import stripped, without_ansi

POLL_S = 0.2


@click.command(
    cls=command.Command,
    example="""
    linkly worker logs link
    linkly worker logs link -f -n 20
    """,
)
@click.argument("worker")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 100_000), default=100, metavar="N", help="Of each stream (100).")
@command.config_option
def logs(worker: str, follow: bool, lines: int, config: Path | None) -> int:
    """Show what a worker's program wrote: its errors on stderr, its output on stdout."""
    path = command.project_file(config)
    row = configured_row(path, worker)
    name = row["name"]
    folder = path.resolve().parent.joinpath(*LOGS, name)
    if row["kind"] != "path":
        note(f"`{name}` runs in the engine's process: its lines are in the engine's own output")
        return 0
    tails = [Tail(folder / "stderr.log", tell), Tail(folder / "stdout.log", partial(say, flush=True))]
    if not folder.is_dir():
        note(f"No logs available for {name} yet")
        if not follow:
            return 0
    for tail in tails:
        tail.last(lines)
    while follow:
        time.sleep(POLL_S)  # another process writes the files, and rotates them under this
        for tail in tails:
            tail.more()
    return 0


class Tail:
    """The end of one log file, which need not exist yet; `show` takes each line."""

    def __init__(self, path: Path, show: Callable[[str], None]) -> None:
        self._path = path
        self._show = show
        self._read = 0
        self._inode: int | None = None

    def last(self, count: int) -> None:
        """Print the last lines, of files that were put away too."""
        from linkly_engine.process.log_file import tail

        try:
            found = self._path.stat()
            self._read, self._inode = found.st_size, found.st_ino
        except OSError:
            pass
        if count:
            self._print(tail(self._path, count))

    def more(self) -> None:
        """Print what was written since; whole lines only."""
        try:
            with self._path.open("rb") as file:
                self._follow(file)
        except FileNotFoundError:
            return

    def _follow(self, file: BinaryIO) -> None:
        found = self._path.stat()
        if found.st_ino != self._inode or found.st_size < self._read:
            if self._inode is not None:
                self._rest_of_previous()
            self._inode, self._read = found.st_ino, 0
        file.seek(self._read)
        new, complete, _ = file.read().rpartition(b"\n")
        if complete:
            self._read += len(new) + 1
            self._print(new.decode("utf-8", "replace").split("\n"))

    def _rest_of_previous(self) -> None:
        """Print what came into a file between the last look and its being put away."""
        previous = self._path.with_name(self._path.name + ".1")
        try:
            if previous.stat().st_ino == self._inode:
                with previous.open("rb") as file:
                    file.seek(self._read)
                    self._print(file.read().decode("utf-8", "replace").splitlines())
        except OSError:
            pass

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            self._show("\t".join(stripped(part) for part in without_ansi(line).split("\t")))
