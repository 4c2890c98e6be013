"""Whether what a worker needs is installed: a note of the last installation, compared with the present files.

The note holds a digest of the manifest and of the dependency and lock files, taken after the installation, because
installers rewrite lock files. A file that people write (`package.json`) and that changed meanwhile counts with its
digest from before, so that an edit during an installation is installed too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from linkly_engine.process.manifest import FILES

WRITTEN_BY_PEOPLE = (*FILES, "package.json", "pyproject.toml", "requirements.txt", "Cargo.toml", "go.mod")
LOCK_FILES = (
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "bun.lockb",
    "uv.lock",
    "poetry.lock",
    "Cargo.lock",
    "go.sum",
)
DEPENDENCY_FILES = frozenset(WRITTEN_BY_PEOPLE + LOCK_FILES)

MADE = ("node_modules", ".venv", "venv", ".packages")
"""Folders that installers make; if one was removed, it is installed again."""


class Installed:
    """The note of the worker in `folder`."""

    def __init__(self, folder: Path, note: Path) -> None:
        self._folder = folder
        self._note = note

    def is_current(self) -> bool:
        """Return whether nothing has changed since the last installation that succeeded."""
        try:
            noted = json.loads(self._note.read_text("utf-8"))
            files, made = dict(noted["files"]), list(noted["made"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return files == self.digests() and all((self._folder / name).exists() for name in made)

    def digests(self) -> dict[str, str]:
        """Return name -> digest of every dependency file that exists."""
        found: dict[str, str] = {}
        for name in sorted(DEPENDENCY_FILES):
            with contextlib.suppress(OSError):
                found[name] = hashlib.sha256((self._folder / name).read_bytes()).hexdigest()
        return found

    def remember(self, before: dict[str, str]) -> None:
        """Note an installation that succeeded; `before` are the `digests()` from before it began.

        Raises:
            OSError: The note cannot be written; the next start installs again.
        """
        files = self.digests()
        for name in WRITTEN_BY_PEOPLE:
            if name in before:
                files[name] = before[name]
            else:
                files.pop(name, None)
        made = [name for name in MADE if (self._folder / name).exists()]
        self._note.parent.mkdir(parents=True, exist_ok=True)
        self._note.write_text(json.dumps({"files": files, "made": made}), "utf-8")

    def forget(self) -> None:
        """Remove the note: until the installation that begins has succeeded, nothing counts as installed."""
        with contextlib.suppress(OSError):
            self._note.unlink()
