"""A name in config.yaml -> a worker with checked settings.

Workers that ship are found by convention: `state` is the one `Worker` subclass named `state` in the package
`linkly_workers.state`. Adding one is adding a folder. Any other is named by `module: package.module:Class`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import itertools
import sys
from pathlib import Path

from linkly.errors import ConfigError, LinklyError
from linkly.function import function_ids_of
from linkly.worker import Worker
from linkly_engine.project.config import FOLDER_KEYS, Config, load
from linkly_engine.project.entry import WorkerEntry, check_names, unnumbered
from linkly_engine.shipped import not_there_yet, package_of, shipped_names
from linkly_engine.yaml.problems import Problems, problems_of
from linkly_engine.yaml.typed_block import typed_block


def read(path: Path | None) -> tuple[Config, list[Worker]]:
    """Read and check a config file; the same for `linkly check`, the start and every change.

    Args:
        path: The file; default: `config.yaml` in the working directory, else the embedded defaults.

    Returns:
        The config, and its in-process workers; nothing is started, no port is opened.

    Raises:
        ConfigError: It cannot be used; a line of the message for each error, with file, line, path and reason.
    """
    problems = Problems()
    config = load(path, problems=problems)
    workers = load_workers(config, problems)
    problems.check()
    return config, workers


def load_workers(config: Config, problems: Problems | None = None) -> list[Worker]:
    """Make every in-process worker of a project, in order; none is started. Entries without a name get theirs.

    Args:
        config: The project.
        problems: Where errors are noted; the workers are then those that could be made. Default: they are raised.

    Raises:
        ConfigError: One is unknown, cannot be imported, or its settings do not fit; two serve the same function; a
            folder has no manifest.
    """
    folder = str(config.folder.resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    noted = Problems() if problems is None else problems
    workers: list[Worker] = []
    served: dict[str, WorkerEntry] = {}
    for entry in config.workers:
        try:
            if entry.folder is not None:
                named = _manifest_name(entry, entry.folder)
                entry.name = entry.name or named
                continue
            worker = load_worker(entry)
        except ConfigError as error:
            noted.add(error)
            continue
        entry.name = entry.name or _unique(worker.name, config.workers)
        _check_functions(entry, worker, served, noted)
        workers.append(worker)
    check_names(config.workers, noted)
    if problems is None:
        noted.check()
    return workers


def _check_functions(entry: WorkerEntry, worker: Worker, served: dict[str, WorkerEntry], problems: Problems) -> None:
    """Add an error if another worker of the file serves a function of this one, which could not start then."""
    ids = function_ids_of(worker, *worker.composed_of())
    taken = [function_id for function_id in ids if function_id in served]
    if taken:
        other = served[taken[0]]
        alike = f"a second `{worker.name}`" if unnumbered(other.name) == unnumbered(entry.name) else worker.name
        problems.add(
            entry.error(
                "",
                f"{alike} cannot run: `{taken[0]}` is served by {other.place} already, and a function has one owner; "
                "remove one of the two",
            )
        )
    served.update((function_id, entry) for function_id in ids if function_id not in served)


def _manifest_name(entry: WorkerEntry, folder: Path) -> str:
    key = next((each for each in FOLDER_KEYS if entry.tree and entry.tree.has(f"{entry.place}.{each}")), FOLDER_KEYS[0])
    if not folder.is_dir():
        raise entry.error(
            f".{key}",
            f"there is no folder {folder}; make a worker there with "
            f"`linkly worker init {folder.name}`, or correct the path",
        )
    # Only projects with programs of their own pay for what looks after them.
    from linkly_engine.process.manifest import read_manifest

    try:
        return read_manifest(folder).name
    except ConfigError as error:
        raise entry.error(f".{key}", error.message) from error


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
    if entry.tree is not None:  # kept as well: a change of what is written is a change of the entry
        entry.config = typed_block(entry.config, found.settings_type, entry.tree, f"{entry.place}.config")
    try:
        worker = found.from_config(entry.config, f"{entry.place}.config")
    except ConfigError as error:
        raise _placed(entry, error) from error
    except LinklyError:
        raise
    except Exception as error:
        raise entry.error("", f"`{found.__name__}` cannot be made: {type(error).__name__}: {error}") from error
    worker.folder = entry.base
    return worker


def _placed(entry: WorkerEntry, error: ConfigError) -> ConfigError:
    """Return an error about a block with the line of each key that it is about."""
    problems = Problems()
    for problem in problems_of(error):
        key, reason = problem.get("key"), problem.get("reason")
        if key is None:
            # A check of the worker's own: `own_hosts: ...` is about that key.
            written = str(problem["message"])
            first, _, rest = written.partition(": ")
            is_key = entry.tree is not None and entry.tree.has(f"{entry.place}.config.{first}")
            key, reason = (f".{first}", rest) if is_key else ("", written)
        problems.add(entry.error(f".config{key}", str(reason)))
    try:
        problems.check()
    except ConfigError as placed:
        return placed
    return error


def _shipped(entry: WorkerEntry) -> type[Worker]:
    name = unnumbered(entry.name)
    names = shipped_names()
    if name not in names:
        missing = not_there_yet(name)
        if missing is not None:
            raise entry.error(".name", f"{missing}. Workers that ship: {', '.join(names)}")
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else "."
        raise entry.error(
            ".name",
            f"there is no worker `{name}`{hint} Workers that ship: {', '.join(names)}. "
            "One of your own needs `module: package.module:Class`",
        )
    module = importlib.import_module(package_of(name))
    for found in vars(module).values():
        if inspect.isclass(found) and issubclass(found, Worker) and found.name == name:
            return found
    raise entry.error(".name", f"package {module.__name__} has no Worker class named `{name}`")


def _from_module(entry: WorkerEntry) -> type[Worker]:
    module_name, _, class_name = str(entry.module).partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        reason = (
            f"cannot import `{module_name}`: {error}; `{error.name}` has to be installed, or lie beside the config file"
        )
        raise entry.error(".module", reason) from error
    except Exception as error:
        raise entry.error(".module", f"importing `{module_name}` failed: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if not (inspect.isclass(found) and issubclass(found, Worker)):
        classes = {name: value for name, value in vars(module).items() if inspect.isclass(value)}
        known = [name for name, value in classes.items() if issubclass(value, Worker) and value is not Worker]
        raise entry.error(
            ".module", f"`{class_name}` is no Worker class in `{module_name}`; there: {', '.join(known) or 'none'}"
        )
    return found
