"""`linkly.worker.yaml` or `iii.worker.yaml`: how a worker in a folder of its own is installed and started.

Keys and tolerance are iii's (docs/workers.md#programs), so that its worker folders run unchanged: keys that only its
registry, its virtual machines or its older versions read are accepted and have no effect.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import msgspec

from linkly.errors import ConfigError
from linkly.plain_words import kind, unknown_key
from linkly_engine.yaml.tree import Tree

FILES = ("linkly.worker.yaml", "iii.worker.yaml")
"""Names of a manifest; where both stand in one folder, the first counts."""

KEYS = ("name", "description", "runtime", "scripts", "env", "dependencies", "resources", "watch")
WITHOUT_EFFECT = ("iii", "deploy", "manifest", "tags", "config", "language", "entry")
RUNTIME_KEYS = ("base_image", "kind", "package_manager", "entry", "language")
SCRIPT_KEYS = ("setup", "install", "start")
RESOURCE_KEYS = ("cpus", "memory")

_NAME = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9._-]+")


class Manifest(msgspec.Struct, kw_only=True, frozen=True):
    """What a manifest says.

    Attributes:
        path: The file it was read from.
        name: Of the worker.
        start: Shell command that runs the worker and does not end.
        setup: Shell command before `install`, for tools it needs.
        install: Shell command that fetches dependencies.
        env: Added to the environment of every script.
        watches_itself: The start command reloads the program when a source changes, and the engine does not.
    """

    path: Path
    name: str
    start: str
    setup: str | None = None
    install: str | None = None
    env: dict[str, str] = {}
    watches_itself: bool = False


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the worker in `folder`.

    Raises:
        ConfigError: There is none, or it cannot be read or used; names file, line and path in the file.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; make a worker with `linkly worker init NAME`")
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise ConfigError(
            f"{folder}: no manifest here ({' or '.join(FILES)}); `linkly worker init NAME` makes a worker with one"
        )
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {error}") from error
    return parse_manifest(text, path)


def parse_manifest(text: str, path: Path) -> Manifest:
    """Turn the text of a manifest into a `Manifest`.

    Raises:
        ConfigError: Names file, line, path, reason and what is allowed.
    """
    tree = Tree(text, str(path))
    top = _mapping(tree, "$", tree.value, (*KEYS, *WITHOUT_EFFECT))
    runtime = _mapping(tree, "$.runtime", top.get("runtime"), RUNTIME_KEYS)
    scripts = _mapping(tree, "$.scripts", top.get("scripts"), SCRIPT_KEYS)
    resources = _mapping(tree, "$.resources", top.get("resources"), RESOURCE_KEYS)
    name = _text(tree, "$.name", top.get("name"))
    if name is None:
        raise tree.error("$", "needs `name:`, the worker's name")
    if not _NAME.fullmatch(name):
        raise tree.error("$.name", f"`{name}`: allowed are letters, digits, `-`, `_` and single dots inside")
    start = _text(tree, "$.scripts.start", scripts.get("start"))
    if start is None:
        raise tree.error(
            "$.scripts" if "scripts" in top else "$",
            "needs `scripts: {start: COMMAND}`, the command that runs the worker, such as `npm run start`",
        )
    watch = _text(tree, "$.watch", top.get("watch")) or "engine"
    if watch not in ("engine", "self"):
        raise tree.error("$.watch", f"`{watch}`: allowed are `engine` and `self` (its start command reloads it)")
    # What only iii's virtual machines and its registry read is checked and not kept.
    for key in RUNTIME_KEYS:
        _text(tree, f"$.runtime.{key}", runtime.get(key))
    _text(tree, "$.description", top.get("description"))
    _texts(tree, "$.dependencies", top.get("dependencies"))
    _check_number(tree, "$.resources.cpus", resources.get("cpus"), whole=False)
    _check_number(tree, "$.resources.memory", resources.get("memory"), whole=True)
    return Manifest(
        path=path,
        name=name,
        start=start,
        setup=_text(tree, "$.scripts.setup", scripts.get("setup")),
        install=_text(tree, "$.scripts.install", scripts.get("install")),
        env=_texts(tree, "$.env", top.get("env")),
        watches_itself=watch == "self",
    )


def _mapping(tree: Tree, path: str, value: Any, allowed: tuple[str, ...]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise tree.error(path, f"expected a mapping, got {kind(value)}")
    fields = cast("dict[str, Any]", value)
    for key in fields:
        if key not in allowed:
            shown = [known for known in allowed if known not in WITHOUT_EFFECT]
            raise tree.error(f"{path}.{key}", unknown_key(key, shown))
    return fields


def _text(tree: Tree, path: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise tree.error(path, f"expected text, got {kind(value)}")
    if not value.strip():
        raise tree.error(path, "expected text, got an empty one; leave the key out instead")
    if "\0" in value:
        raise tree.error(path, "expected text without NUL characters")
    return value


def _texts(tree: Tree, path: str, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise tree.error(path, f"expected a mapping, got {kind(value)}")
    texts: dict[str, str] = {}
    for key, item in value.items():
        where = f"{path}.{key}"
        if not isinstance(key, str) or not key or "=" in key or "\0" in key:
            raise tree.error(where, f"expected a name, got {key!r}")
        item = tree.text(where, item)
        if isinstance(item, str) and "\0" not in item:
            texts[key] = item
        else:
            raise tree.error(where, f"expected text or a number, got {kind(item)}")
    return texts


def _check_number(tree: Tree, path: str, value: Any, *, whole: bool) -> None:
    fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and value > 0
    if value is not None and not fits:
        raise tree.error(path, f"expected a {'whole ' if whole else ''}number above 0, got {kind(value)}")
