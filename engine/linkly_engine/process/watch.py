"""Watches a worker's folder for changes of its sources and of the files that say what to install.

Directories that are not looked at (`node_modules` ...) get no watch at all: one may hold tens of thousands of others,
and the kernel counts watches. New directories are found because their parent has changed. Watching runs on a thread
of its own, so that many workers take no thread from the engine's pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from linkly_engine.process.installed import DEPENDENCY_FILES

_FOLDERS = (
    "node_modules target .venv venv __pycache__ dist build .git .hg .svn .linkly .iii .packages .idea .vscode .tox "
    ".mypy_cache .pytest_cache .ruff_cache .hypothesis .cache .turbo .next coverage .DS_Store"
)
_ENDINGS = (
    ".pyc .pyo .swp .swx .swo ~ .tmp .log .pid .egg-info .tsbuildinfo "
    ".db .db-wal .db-shm .db-journal .sqlite .sqlite-wal .sqlite-shm .sqlite-journal .sqlite3"
)
IGNORED = frozenset(_FOLDERS.split())
IGNORED_ENDINGS = tuple(_ENDINGS.split())
"""Left by editors, compilers and running programs. A worker with data in its folder must not reload for ever."""

_ABSENT = (0, 0, 0)
DIRECTORIES_LIMIT = 5_000
QUIET_S, LONGEST_S = 0.3, 1.5
STEP_MS = 100


class Changes(msgspec.Struct):
    """What has changed since the last report.

    Attributes:
        sources: Paths of sources, relative to the folder.
        dependencies: Names of the manifest, of dependency and lock files.
    """

    sources: list[str] = []
    dependencies: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.sources or self.dependencies)

    def __str__(self) -> str:
        paths = [*self.dependencies, *self.sources]
        return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


class Watch:
    """Reports changes in a folder, but for those in `ignore`, on the loop once nothing has changed for `QUIET_S`."""

    def __init__(self, folder: Path, report: Callable[[Changes], None], *, ignore: Path | None = None) -> None:
        self._folder = os.path.realpath(folder)
        self._ignore = os.path.realpath(ignore) if ignore is not None else None
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._armed = asyncio.Event()
        self._ended = asyncio.Event()
        self._changes = Changes()
        self._timer: asyncio.TimerHandle | None = None
        self._first_at = 0.0
        self._remembered: dict[str, tuple[int, int, int]] = {}
        self._thread = threading.Thread(target=self._watch, name=f"watch {folder.name}", daemon=True)
        self._thread.start()

    async def armed(self) -> None:
        """Wait until the kernel watches: what changes from now on is reported."""
        await self._armed.wait()

    def remember(self) -> None:
        """Note the present state of all files. Call it in a thread: it reads every directory."""
        found: dict[str, tuple[int, int, int]] = {}
        for directory in self._directories():
            found[directory] = _ABSENT
            with contextlib.suppress(OSError), os.scandir(directory) as entries:
                found.update((entry.path, _stamp(entry.path)) for entry in entries if entry.is_file())
        self._remembered = found

    def news(self, changes: Changes) -> Changes:
        """Return those of `changes` that differ from the state which `remember` noted."""

        def is_new(relative: str) -> bool:
            path = os.path.join(self._folder, relative)
            if os.path.isdir(path):  # only a new directory may hold new files
                return path not in self._remembered
            return _stamp(path) != self._remembered.get(path, _ABSENT)

        return Changes(
            sources=[path for path in changes.sources if is_new(path)],
            dependencies=[path for path in changes.dependencies if is_new(path)],
        )

    async def stop(self) -> None:
        """Stop reporting."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        await self._ended.wait()  # not `join` in another thread: at a memory limit none can be started
        self._thread.join()

    # --- on the thread -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            self._run()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._ended.set)

    def _run(self) -> None:
        from watchfiles import watch  # imported late: it costs 25 ms and 4 MB

        while not self._stopped.is_set():
            directories = self._directories()
            if not directories:  # the folder does not exist, or not yet
                self._stopped.wait(1.0)
                continue
            watching = watch(
                *directories,
                watch_filter=None,
                debounce=STEP_MS,
                step=STEP_MS,
                rust_timeout=STEP_MS,
                yield_on_timeout=True,
                stop_event=self._stopped,
                recursive=False,
                raise_interrupt=False,
            )
            try:
                self._follow(watching, set(directories))
            except FileNotFoundError:
                continue  # a directory went while the watches were being set
            finally:
                watching.close()

    def _follow(self, watching: object, known: set[str]) -> None:
        for changes in watching:  # type: ignore[attr-defined]
            self._on_loop(self._armed.set)
            paths = {path for _, path in changes}
            if not paths:
                continue
            self._on_loop(self._changed, paths)
            # A directory was made or removed: watch the present ones.
            if any(path in known or os.path.isdir(path) for path in paths) and set(self._directories()) != known:
                return

    def _directories(self) -> list[str]:
        found: list[str] = []
        for directory, names, _ in os.walk(self._folder):
            found.append(directory)
            names[:] = sorted(name for name in names if not self._ignored(os.path.join(directory, name)))
            if len(found) >= DIRECTORIES_LIMIT:
                break
        return found

    def _on_loop(self, call: Callable[..., object], *arguments: object) -> None:
        if not self._stopped.is_set():
            try:
                self._loop.call_soon_threadsafe(call, *arguments)
            except RuntimeError:  # the loop has been closed
                self._stopped.set()

    # --- on the loop ---------------------------------------------------------------------------------------

    def _ignored(self, path: str) -> bool:
        if path == self._ignore or (self._ignore is not None and path.startswith(self._ignore + os.sep)):
            return True
        parts = os.path.relpath(path, self._folder).split(os.sep)
        return any(part in IGNORED or part.endswith(IGNORED_ENDINGS) for part in parts)

    def _changed(self, paths: set[str]) -> None:
        for path in sorted(paths):
            relative = os.path.relpath(path, self._folder)
            if relative == "." or self._ignored(path):
                continue
            into = self._changes.dependencies if relative in DEPENDENCY_FILES else self._changes.sources
            if relative not in into:
                into.append(relative)
        if not self._changes:
            return
        now = self._loop.time()
        if self._timer is None:
            self._first_at = now
        else:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(now + QUIET_S, self._first_at + LONGEST_S), self._say)

    def _say(self) -> None:
        self._timer = None
        changes, self._changes = self._changes, Changes()
        if not self._stopped.is_set():
            self._report(changes)


def _stamp(path: str) -> tuple[int, int, int]:
    """Return modification time, size and inode of a file; zeros if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return _ABSENT
    return found.st_mtime_ns, found.st_size, found.st_ino
