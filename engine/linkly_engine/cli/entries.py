"""The name of an entry of config.yaml and the folder of its program, as the engine finds them."""

from __future__ import annotations

import ast
from pathlib import Path

from linkly.errors import ConfigError
from linkly_engine.project.config import FOLDER_KEYS
from linkly_engine.project.edit.layout import Entry
from linkly_engine.project.entry import numbered
from linkly_engine.shipped import ALIASES


def name_of(entry: Entry, project: Path) -> str:
    """Return the name an entry goes by: as written, else what its manifest or its module says."""
    value = entry.value
    folder = folder_of(entry, project)
    name = value.get("name")
    if isinstance(name, str):
        return name if folder is not None else ALIASES.get(name, name)
    if folder is not None:
        from linkly_engine.process.manifest import read_manifest

        try:
            return read_manifest(folder).name
        except ConfigError:  # `linkly check` says what is wrong with it
            return folder.name
    module = str(value.get("module") or "")
    return _class_name(module, project) or module


def _class_name(module: str, project: Path) -> str | None:
    """Return the name that a worker's class gives itself, as its source beside the config says: nothing is imported."""
    dotted, _, wanted = module.partition(":")
    base = project.joinpath(*dotted.split("."))
    file = next((each for each in (base.with_name(f"{base.name}.py"), base / "__init__.py") if each.is_file()), None)
    if file is None:
        return None
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):  # `linkly check` says what is wrong with it
        return None
    for found in (each for each in body if isinstance(each, ast.ClassDef) and each.name == wanted):
        for line in found.body:
            match line:
                case (
                    ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(name)))
                    | ast.AnnAssign(target=ast.Name(id="name"), value=ast.Constant(value=str(name)))
                ):
                    return name
                case _:
                    pass
    return None


def names_of(entries: list[Entry], project: Path) -> list[str]:
    """Return the names of all entries, numbered as the engine does where one stands more than once."""
    return numbered([name_of(entry, project) for entry in entries])


def folder_of(entry: Entry, project: Path) -> Path | None:
    """Return where the program of an entry lies; `None`: it runs in the engine's process."""
    key = folder_key(entry)
    return None if key is None else absolute(entry.value[key], project)


def absolute(written: str, project: Path) -> Path:
    """Return the folder that is written in a config.yaml of the folder `project`."""
    return (project / Path(written).expanduser()).resolve()


def folder_key(entry: Entry) -> str | None:
    """Return the key under which an entry names its folder."""
    return next((key for key in FOLDER_KEYS if isinstance(entry.value.get(key), str)), None)


def kind_of_entry(entry: Entry) -> str:
    """Return `path`, `module` or `shipped`."""
    if folder_key(entry) is not None:
        return "path"
    return "module" if entry.value.get("module") is not None else "shipped"
