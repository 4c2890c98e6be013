"""`linkly worker init`: a folder with a worker in Python, TypeScript or JavaScript that runs as it is.

In Python on linkly's own SDK, or on iii's published one (`--sdk iii`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from linkly_engine.cli import command
from linkly_engine.cli.command import Failure
from linkly_engine.cli.scaffold import check_folder, template_files, write_files
from linkly_engine.cli.show import done, note
from linkly_engine.project.entry import NAME_OF_FOLDER

LANGUAGES = {
    "python": "python",
    "typescript": "typescript",
    "javascript": "javascript",
    "py": "python",
    "ts": "typescript",
    "js": "javascript",
}
MANIFEST = "iii.worker.yaml"


@click.command(
    "init",
    cls=command.Command,
    example="""
    linkly worker init hello --language python
    linkly worker init hello --language python --sdk iii
    linkly worker init link --language typescript
    """,
)
@click.argument("name")
@click.option(
    "-l",
    "--language",
    required=True,
    type=click.Choice(list(LANGUAGES), case_sensitive=False),
    metavar="LANGUAGE",
    help="python, typescript or javascript (py, ts, js).",
)
@click.option(
    "--sdk",
    type=click.Choice(["linkly", "iii"]),
    help="python: linkly's own (default), or iii's published one, which iii runs too; the other languages: iii's.",
)
@click.option("-d", "--directory", type=click.Path(path_type=Path), metavar="DIR", help="Where (default ./NAME).")
@click.option("--allow-non-empty", is_flag=True, help="Also in a folder that has files.")
def init_worker(name: str, language: str, sdk: str | None, directory: Path | None, allow_non_empty: bool) -> int:
    """Make a worker called NAME in a folder of its own.

    config.yaml is not touched: `linkly worker add ./NAME` runs it. Files that are there already are kept.
    """
    if not NAME_OF_FOLDER.fullmatch(name):
        raise Failure(
            f"`{name}` is no name of a worker: letters, digits and `-_.` are allowed, no leading dot, no `..`"
        )
    template = LANGUAGES[language.lower()]
    if template == "python" and sdk == "iii":
        template = "python-iii"
    elif template != "python" and sdk == "linkly":
        raise Failure(f"linkly has no SDK for {template}; leave `--sdk` out: a worker in {template} uses iii's", 2)
    folder = directory or Path(name)
    check_folder(folder, "worker", MANIFEST, allow_non_empty=allow_non_empty)
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    class_name = "".join(word[0].upper() + word[1:] for word in words) + "Worker"
    values = {
        "NAME": name,
        "PACKAGE": name.lower().lstrip("-_.") or "worker",
        "CLASS": class_name if class_name[0].isalpha() else f"W{class_name}",
    }
    written = write_files(folder, template_files(template, values))
    shown = os.path.relpath(folder)
    where = shown if shown.startswith("..") else f"./{shown}" if shown != "." else "."
    if not written:
        note(f"{where} is a worker already; nothing was changed")
        return 0
    done(f"Worker {name} made in {where} ({', '.join(written)})")
    note("Next:")
    note(f"  linkly worker add {where}")
    return 0
