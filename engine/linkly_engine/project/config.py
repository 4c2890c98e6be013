"""config.yaml -> `Config`: everything is checked before anything starts.

An error names file, line and path (`$.workers[2].config.port`), what was wrong and what is allowed. Names and rules
are iii's (docs/workers.md#configyaml). This module reads text and environment only; it imports no worker.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from linkly.errors import ConfigError
from linkly.plain_words import kind, unknown_key
from linkly_engine import CONFIG_FILE, LISTENER
from linkly_engine.project.built_in import BUILT_IN, read_block
from linkly_engine.project.entry import WorkerEntry, check_names, numbered, unnumbered
from linkly_engine.project.listener import Listener, read_listener
from linkly_engine.shipped import ALIASES
from linkly_engine.yaml.problems import Problems
from linkly_engine.yaml.tree import Tree

TOP_LEVEL = ("workers", "modules", "registration_namespace_grace_ms")
ENTRY_KEYS = ("name", "module", "path", "config")
FOLDER_KEYS = ("path", "worker_path")

EMBEDDED = """\
workers:
  - name: state
  - name: database
  - name: queue
  - name: http
  - name: link
"""
"""What runs where there is no config.yaml."""


class Config(msgspec.Struct, kw_only=True):
    """A project.

    Attributes:
        workers: Workers, in process and in processes of their own, in the order of the file.
        listeners: Worker ports.
        namespace_grace_s: How long a connection's namespace may stay unknown.
        folder: Where relative paths begin, of modules, programs and data.
        file: Where it was read; `None`: the embedded defaults.
        read: What stood in it then; `None`: the embedded defaults.
        notes: What a person should know, one sentence each.
    """

    workers: list[WorkerEntry]
    listeners: list[Listener]
    namespace_grace_s: float = 5.0
    folder: Path = Path()
    file: Path | None = None
    read: bytes | None = None
    notes: list[str] = []

    @property
    def path(self) -> Path:
        """The file that is followed; it need not exist."""
        return self.file or self.folder.absolute() / CONFIG_FILE


def load(path: Path | None, environment: Mapping[str, str] | None = None, problems: Problems | None = None) -> Config:
    """Read a config file; `None`: `config.yaml` here if there is one, else the embedded defaults.

    Args:
        path: The file.
        environment: As for `parse`.
        problems: As for `parse`.

    Raises:
        ConfigError: It cannot be read or used.
    """
    if path is None:
        path = Path(CONFIG_FILE)
        if not path.exists():
            config = parse(EMBEDDED, "the embedded defaults", environment, problems)
            config.folder = Path.cwd()
            names = ", ".join(entry.name for entry in config.workers)
            config.notes.append(f"no {CONFIG_FILE} here: running the embedded defaults ({names})")
            return config
    try:
        read = path.read_bytes()
        text = read.decode("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror or error}; give another file with `-c`, or make a project "
            "with `linkly project init`"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {error}") from error
    config = parse(text, str(path), environment, problems)
    config.file, config.read = path.absolute(), read
    config.folder = path.resolve().parent
    config.notes += ignored_files(config)
    for entry in config.workers:
        entry.base = config.folder
        if entry.folder is not None:
            entry.folder = (config.folder / entry.folder).resolve()
    return config


def ignored_files(config: Config) -> list[str]:
    """Return a sentence for each file of settings beside config.yaml that iii would read and linkly does not."""
    names = {unnumbered(worker.name) for worker in config.workers} | {LISTENER, *BUILT_IN}
    notes: list[str] = []
    for path in sorted((config.folder / "config").glob("*.y*ml")):
        name = ALIASES.get(path.stem, path.stem)
        if path.suffix in (".yaml", ".yml") and name in names:
            notes.append(
                f"config/{path.name} is not read: the settings of `{name}` stand in "
                f"{config.file.name if config.file is not None else CONFIG_FILE}, under `config:` of its entry"
            )
    return notes


def parse(
    text: str, file: str, environment: Mapping[str, str] | None = None, problems: Problems | None = None
) -> Config:
    """Turn the text of a config file into a `Config`.

    Args:
        text: YAML.
        file: Its name in error messages.
        environment: For `${NAME}`; default: the process's.
        problems: Where errors are noted; the `Config` is then of what is left. Default: they are raised, together.

    Raises:
        ConfigError: Names file, line, path, reason and what is allowed. With `problems` only if nothing can be read.
    """
    variables = os.environ if environment is None else environment
    noted = Problems() if problems is None else problems
    config = _parse(Tree(text, file, noted, variables=variables), variables, noted)
    if problems is None:
        noted.check()
    return config


def _parse(tree: Tree, variables: Mapping[str, str], problems: Problems) -> Config:
    top = tree.value
    if top is None:
        top = {}
    if not isinstance(top, dict):
        raise tree.error("$", f"expected a mapping with `workers:`, got {kind(top)}")
    fields = cast("dict[str, Any]", top)
    for key in fields:
        if key not in TOP_LEVEL:
            problems.add(tree.error(f"$.{key}", unknown_key(key, TOP_LEVEL)))
    entries: list[tuple[str, Any]] = []
    for key in ("workers", "modules"):
        listed = fields.get(key)
        if listed is None:
            continue
        if not isinstance(listed, list):
            problems.add(tree.error(f"$.{key}", f"expected a list of workers, got {kind(listed)}"))
            continue
        entries += [(f"$.{key}[{index}]", entry) for index, entry in enumerate(listed)]
    return _assemble(tree, entries, fields.get("registration_namespace_grace_ms"), variables, problems)


def _assemble(
    tree: Tree, entries: list[tuple[str, Any]], grace_ms: Any, variables: Mapping[str, str], problems: Problems
) -> Config:
    config = Config(workers=[], listeners=[])
    seen: dict[str, tuple[str, str]] = {}
    ports: dict[tuple[str, int], str] = {}
    for path, entry in entries:
        try:
            worker, written = _entry(tree, path, entry)
            if worker.folder is not None:
                config.workers.append(worker)
                continue
            if worker.name == LISTENER:
                config.listeners.append(read_listener(tree, path, worker.config, ports))
                continue
        except ConfigError as error:
            problems.add(error)
            continue
        if written in BUILT_IN:
            config.notes.append(read_block(tree, path, written, worker.config, problems))
            continue
        other, other_path = seen.setdefault(worker.name, (written, path))
        if worker.name and other != written:
            old, old_path = (other, other_path) if other in ALIASES else (written, path)
            problems.add(
                tree.error(
                    path,
                    f"Duplicate worker configurations: `{other}` and `{written}` are the same worker; "
                    f"remove `{old}` at {old_path}",
                )
            )
            continue
        if written in ALIASES:
            config.notes.append(f"`{written}` is the old name of `{worker.name}`; both are understood")
        config.workers.append(worker)
    check_names(config.workers, problems)
    for worker, name in zip(config.workers, numbered([worker.name for worker in config.workers]), strict=True):
        worker.name = name
    config.listeners = config.listeners or [Listener()]
    try:
        config.namespace_grace_s = _grace(tree, grace_ms, variables)
    except ConfigError as error:
        problems.add(error)
    return config


def _entry(tree: Tree, path: str, entry: Any) -> tuple[WorkerEntry, str]:
    """Read one entry; return it and the name as it is written."""
    if not isinstance(entry, dict):
        raise tree.error(path, f"expected a mapping such as `- name: state`, got {kind(entry)}")
    fields = cast("dict[str, Any]", entry)
    problems = Problems()
    for key in fields:
        if key == "image":
            reason = (
                "workers in container images are not run by linkly; put the program in a folder with an "
                "`iii.worker.yaml` and give `path: ./folder`, or run the image yourself and let it connect"
            )
            problems.add(tree.error(f"{path}.image", reason))
        elif key not in (*ENTRY_KEYS, "worker_path"):
            problems.add(tree.error(f"{path}.{key}", unknown_key(key, ENTRY_KEYS)))
    for key in ("name", "module", *FOLDER_KEYS):
        if isinstance(fields.get(key), (bool, int, float)):
            fields[key] = tree.text(f"{path}.{key}", fields[key])
        value = fields.get(key)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            problems.add(tree.error(f"{path}.{key}", f"expected a non-empty string, got {value!r}"))
    block = fields.get("config")
    if block is not None and not isinstance(block, dict):
        problems.add(tree.error(f"{path}.config", f"expected a mapping, got {kind(block)}"))
    problems.check()
    name, module = fields.get("name"), fields.get("module")
    folder = _folder(tree, path, fields)
    if name is None and module is None and folder is None:
        raise tree.error(
            path, "needs `name:` (a worker that ships), `module: package.module:Class` or `path: ./folder`"
        )
    if module is not None and not re.fullmatch(r"[\w.]+:\w+", module):
        raise tree.error(f"{path}.module", f"expected `package.module:Class`, got `{module}`")
    written = name or ""
    return (
        WorkerEntry(
            name=ALIASES.get(written, written) if folder is None else written,
            module=module,
            folder=folder,
            config=cast("Any", block),
            place=path,
            tree=tree,
        ),
        written,
    )


def _folder(tree: Tree, path: str, fields: dict[str, Any]) -> Path | None:
    """Return where a program of its own lies; `None`: the worker runs in the engine's process."""
    given = [key for key in FOLDER_KEYS if fields.get(key) is not None]
    if not given:
        return None
    if len(given) > 1:
        raise tree.error(f"{path}.{given[1]}", "`path` and `worker_path` mean the same; give one")
    if fields.get("module") is not None:
        raise tree.error(f"{path}.module", f"a worker has either `module` or `{given[0]}`, not both")
    name = fields.get("name")
    if name == LISTENER or name in BUILT_IN:
        raise tree.error(f"{path}.name", f"`{name}` is a part of the engine; give this worker another name")
    try:
        return Path(fields[given[0]]).expanduser()
    except RuntimeError as error:
        raise tree.error(f"{path}.{given[0]}", f"`{fields[given[0]]}`: {error}") from error


def _grace(tree: Tree, written: Any, variables: Mapping[str, str]) -> float:
    override = variables.get("III_NAMESPACE_GRACE_MS")
    if override is not None:
        if not override.isdigit():
            raise ConfigError(f"environment variable III_NAMESPACE_GRACE_MS: expected milliseconds, got {override!r}")
        return int(override) / 1000
    written = tree.number("$.registration_namespace_grace_ms", written)
    if written is None:
        return 5.0
    if isinstance(written, bool) or not isinstance(written, int) or written < 0:
        raise tree.error("$.registration_namespace_grace_ms", f"expected milliseconds, 0 or more, got {written!r}")
    return written / 1000
