"""A name in config.yaml -> a worker with checked settings.

Workers that ship are found by convention: `state` is the one `Worker` subclass named `state` in the package
`linkly_workers.state`. Adding one is adding a file. Any other is named by `module: package.module:Class`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import sys

from linkly.errors import ConfigError
from linkly.worker import Worker
from linkly_engine.config import Config, WorkerEntry

SHIPPED = "linkly_workers"


def load_workers(config: Config) -> list[Worker]:
    """Make every worker of a project; none is started.

    Raises:
        ConfigError: One is unknown, cannot be imported, or its settings do not fit.
    """
    folder = str(config.folder.resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    return [load_worker(entry) for entry in config.workers]


def load_worker(entry: WorkerEntry) -> Worker:
    """Make one worker.

    Raises:
        ConfigError: As `load_workers`.
    """
    found = _from_module(entry) if entry.module is not None else _shipped(entry)
    return found.from_config(entry.config, f"{entry.path}.config")


def shipped_names() -> list[str]:
    """Return the names of the workers that ship, sorted."""
    package = importlib.import_module(SHIPPED)
    return sorted(
        module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_"
    )


def _shipped(entry: WorkerEntry) -> type[Worker]:
    name = entry.name.partition("#")[0]
    names = shipped_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
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
