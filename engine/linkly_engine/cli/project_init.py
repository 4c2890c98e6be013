"""`linkly project init`: a folder with a config.yaml that `linkly` runs at once."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from linkly_engine import CONFIG_FILE
from linkly_engine.cli import command
from linkly_engine.cli.command import Failure
from linkly_engine.cli.scaffold import check_folder, template_files, write_files
from linkly_engine.cli.show import done, note

TEMPLATES = {"bare": "config.yaml", "linkly": "shortener.yaml"}
"""Name -> the file that becomes config.yaml; the second runs the link shortener."""


@click.command(
    "init",
    cls=command.Command,
    example="""
    linkly project init shortener
    linkly project init shortener --template linkly
    linkly project init .
    """,
)
@click.argument("name", required=False)
@click.option("-d", "--directory", type=click.Path(path_type=Path), metavar="DIR", help="Where (default ./NAME).")
@click.option(
    "-t",
    "--template",
    type=click.Choice(list(TEMPLATES)),
    default="bare",
    show_default=True,
    help="bare: add the workers you want; linkly: the link shortener, complete.",
)
@click.option("--allow-non-empty", is_flag=True, help="Also in a folder that has files.")
def init_project(name: str | None, directory: Path | None, template: str, allow_non_empty: bool) -> int:
    """Make a project in the folder NAME (default: this one).

    Files that are there already are kept as they are: doing it again harms nothing.
    """
    folder = directory or Path(name or ".")
    if name is not None and not re.fullmatch(r"[^\0\n]+", name):
        raise Failure(f"`{name}` is no name of a folder")
    check_folder(folder, "project", CONFIG_FILE, allow_non_empty=allow_non_empty)
    files = template_files("project", {})
    written = write_files(folder, {CONFIG_FILE: files[TEMPLATES[template]], ".gitignore": files[".gitignore"]})
    shown = os.path.relpath(folder)
    if not written:
        note(f"{shown} is a project already; nothing was changed")
        return 0
    done(f"Project {folder.resolve().name} made in {folder.resolve()} ({', '.join(written)})")
    steps = [] if shown == "." else [f"cd {shown}"]
    if template == "bare":
        steps += ["linkly worker add http state database", "linkly worker init hello --language python"]
        steps += ["linkly worker add ./hello"]
    note("Next:")
    for step in [*steps, "linkly"]:
        note(f"  {step}")
    return 0
