"""A name in config.yaml -> a worker with checked settings.

Workers that ship are found by convention: `state` is the one `Worker` subclass named `state` in the package
`linkly_workers.state`. Adding one is adding a file. Any other is named by `module: package.module:Class`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import itertools
import pkgutil
import sys
from pathlib import Path

from linkly.errors import ConfigError, LinklyError
from linkly.worker import Worker
from linkly_engine.config import Config, WorkerEntry, check_names

SHIPPED = "linkly_workers"

IIIS = frozenset({"queue", "cron", "pubsub", "stream", "observability", "console", "exec", "bridge", "sandbox"})
"""Workers that iii has (in its configs also as `iii-...`; workers-edge.md 2): linkly may not have them yet."""


def load_workers(config: Config) -> list[Worker]:
    """Make every in-process worker of a project, in order; none is started. Entries without a name get theirs.

    Raises:
        ConfigError: One is unknown, cannot be imported, or its settings do not fit; a folder has no manifest.
    """
    folder = str(config.folder.resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    workers: list[Worker] = []
    for entry in config.workers:
        if entry.folder is not None:
            named = _manifest_name(entry, entry.folder)
            entry.name = entry.name or named
            continue
        worker = load_worker(entry)
        entry.name = entry.name or _unique(worker.name, config.workers)
        workers.append(worker)
    check_names(config.workers)
    return workers


def _manifest_name(entry: WorkerEntry, folder: Path) -> str:
    if not folder.is_dir():
        raise ConfigError(
            f"{entry.path}.path: there is no folder {folder}; make a worker there with "
            f"`linkly worker init {folder.name}`, or correct the path"
        )
    # Only projects with programs of their own pay for what looks after them.
    from linkly_engine.process.manifest import read_manifest

    try:
        return read_manifest(folder).name
    except ConfigError as error:
        raise ConfigError(f"{entry.path}.path: {error.message}") from error


def _unique(name: str, entries: list[WorkerEntry]) -> str:
    taken = {entry.name for entry in entries}
    if name not in taken:
        return name
    return next(f"{name}#{number}" for number in itertools.count(2) if f"{name}#{number}" not in taken)


def load_worker(entry: WorkerEntry) -> Worker:
    """Make one worker.

    Raises:
        ConfigError: As `load_workers`.
    """
    found = _from_module(entry) if entry.module is not None else _shipped(entry)
    try:
        return found.from_config(entry.config, f"{entry.path}.config")
    except LinklyError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{entry.path}: `{found.__name__}` cannot be made: {type(error).__name__}: {error}"
        ) from error


def shipped_names() -> list[str]:
    """Return the names of the workers that ship, sorted."""
    package = importlib.import_module(SHIPPED)
    return sorted(
        module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_"
    )


def not_there_yet(name: str) -> str | None:
    """Say that a worker is one of iii's that linkly does not have yet; `None` if it is not."""
    today = name.removeprefix("iii-")
    if today not in IIIS or today in shipped_names():
        return None
    return (
        f"linkly has no `{today}` worker yet: a program that connects and registers the same "
        "functions and trigger types can stand in for it"
    )


def _shipped(entry: WorkerEntry) -> type[Worker]:
    name = entry.name.partition("#")[0]
    names = shipped_names()
    if name not in names:
        missing = not_there_yet(name)
        if missing is not None:
            raise ConfigError(f"{entry.path}.name: {missing}. Workers that ship: {', '.join(names)}")
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else "."
        raise ConfigError(
            f"{entry.path}.name: there is no worker `{name}`{hint} Workers that ship: {', '.join(names)}. "
            "One of your own needs `module: package.module:Class`"
        )
    module = importlib.import_module(f"{SHIPPED}.{name.replace('-', '_')}")
    for found in vars(module).values():
        if inspect.isclass(found) and issubclass(found, Worker) and found.name == name:
            return found
    raise ConfigError(f"{entry.path}.name: package {module.__name__} has no Worker class named `{name}`")


def _from_module(entry: WorkerEntry) -> type[Worker]:
    module_name, _, class_name = str(entry.module).partition(":")
    where = f"{entry.path}.module"
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{where}: cannot import `{module_name}`: {error}; it has to be installed, or lie beside the config file"
        ) from error
    except Exception as error:
        raise ConfigError(f"{where}: importing `{module_name}` failed: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if not (inspect.isclass(found) and issubclass(found, Worker)):
        known = [name for name, value in vars(module).items() if inspect.isclass(value) and issubclass(value, Worker)]
        raise ConfigError(
            f"{where}: `{class_name}` is no Worker class in `{module_name}`; there: {', '.join(known) or 'none'}"
        )
    return found
