"""Every command of `linkly` but `trigger` and the engine itself, put together."""

from __future__ import annotations

from pathlib import Path

import click

from linkly_engine.cli import command
from linkly_engine.cli.completion_scripts import completion
from linkly_engine.cli.database_copy import copy
from linkly_engine.cli.database_migrate import migrate
from linkly_engine.cli.listings import check, functions, workers
from linkly_engine.cli.project_init import init_project
from linkly_engine.cli.queue_looking import dead, jobs, list_queues, show
from linkly_engine.cli.queue_repairing import discard, pause, redrive, resume
from linkly_engine.cli.worker_control import list_workers, restart, start, status, stop
from linkly_engine.cli.worker_entries import add, remove
from linkly_engine.cli.worker_init import init_worker
from linkly_engine.cli.worker_logs import logs


@click.group(
    cls=command.Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    example="linkly -c config.yaml worker list",
)
@click.option("-c", "--config", type=click.Path(path_type=Path), metavar="FILE", help="The project's file.")
def linkly(config: Path | None) -> None:
    """Linkly: a function bus. `linkly` alone runs the engine, `linkly trigger` calls a function."""


@linkly.group(example="linkly project init shortener")
def project() -> None:
    """Make a project: a folder with a config.yaml."""


@linkly.group(
    example="""
    linkly worker add http state
    linkly worker init link --language typescript
    linkly worker add ./link
    """
)
def worker() -> None:
    """Add, remove, make and watch the workers of config.yaml."""


@linkly.group(
    example="""
    linkly database migrate migrations
    linkly database copy --from old --to primary
    """
)
def database() -> None:
    """Bring a database to where files of SQL say; copy one into another."""


@linkly.group(
    example="""
    linkly queue list
    linkly queue dead --queue default
    linkly queue redrive --queue default
    """
)
def queue() -> None:
    """Look at queues, their jobs and dead letters; redrive, discard, pause."""


project.add_command(init_project)
database.add_command(migrate)
database.add_command(copy)
for _each in (add, remove, list_workers, status, start, stop, restart, init_worker, logs):
    worker.add_command(_each)
for _each in (list_queues, show, jobs, dead, redrive, discard, pause, resume):
    queue.add_command(_each)
for _each in (functions, workers, check, completion):
    linkly.add_command(_each)


def run(words: list[str]) -> int:
    """Run a command line; return its exit code."""
    return command.run_group(linkly, words)
