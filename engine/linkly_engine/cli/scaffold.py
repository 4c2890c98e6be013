"""Folders made from the templates beside this module: a new project, a new worker.

Placeholders stand between at signs. A file that exists is kept as it is.
"""

from __future__ import annotations

from pathlib import Path

from linkly_engine.cli.command import Failure

TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".template"


def write_files(folder: Path, files: dict[str, str]) -> list[str]:
    """Write files that do not exist; return their names, relative to `folder`.

    Raises:
        Failure: The folder cannot be written.
    """
    written: list[str] = []
    try:
        for name, text in files.items():
            path = folder / name
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            written.append(name)
    except OSError as error:
        raise Failure(f"{folder}: cannot be written: {error.strerror or error}") from None
    return written


def template_files(kind: str, values: dict[str, str]) -> dict[str, str]:
    """Return name -> text of every file of a template, placeholders filled in."""
    root = TEMPLATES / kind
    files: dict[str, str] = {}
    for path in sorted(root.rglob(f"*{SUFFIX}")):
        text = path.read_text("utf-8")
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        files[path.relative_to(root).as_posix().removesuffix(SUFFIX)] = text
    return files


def is_occupied(folder: Path) -> bool:
    """Return whether a folder holds a file or folder that is not hidden."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
