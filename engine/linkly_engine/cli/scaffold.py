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


def check_folder(folder: Path, what: str, file: str, *, allow_non_empty: bool) -> None:
    """Check that a project or worker can be made in a folder.

    Args:
        folder: It need not exist.
        what: `project` or `worker`.
        file: Name of the file that every such folder has.
        allow_non_empty: The folder may hold other files, too.

    Raises:
        Failure: It is a file, or holds files that are not hidden, `file` not among them.
    """
    if folder.exists() and not folder.is_dir():
        raise Failure(f"{folder} is a file; give another name")
    occupied = folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
    if occupied and not (folder / file).exists() and not allow_non_empty:
        raise Failure(f"{folder} has files in it; --allow-non-empty makes a {what} there, existing files are kept")
