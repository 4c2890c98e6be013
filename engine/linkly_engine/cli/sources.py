"""A word behind `linkly worker add` -> the entry it means.

Three kinds of words: the name of a worker that ships (older spellings are understood), the folder of a program with a
manifest (begins with `.`, `/` or `~`), `package.module:Class` of a user's worker. This module writes no file.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from linkly_engine import HOST, LISTENER, PORT
from linkly_engine.cli.command import Failure
from linkly_engine.project.built_in import BUILT_IN
from linkly_engine.project.entry import NAME_OF_FOLDER
from linkly_engine.shipped import ALIASES, not_there_yet, shipped_names, starting_block


@dataclass(frozen=True)
class Source:
    """What a word means.

    Attributes:
        name: The worker's name.
        value: Its entry; empty if it needs none.
        notes: What a person should know.
    """

    name: str
    value: dict[str, Any]
    notes: list[str] = field(default_factory=list[str])


def source_of(word: str, project: Path) -> Source:
    """Understand a word, for the config.yaml in the folder `project`.

    Raises:
        Failure: It names no worker.
        ConfigError: The folder has no usable manifest.
    """
    if word.startswith((".", "/", "~")):
        return _folder(word, project)
    if re.fullmatch(r"[\w.]+:\w+", word):
        return Source(word, {"module": word})
    if "/" in word or ":" in word:
        raise Failure(
            f"`{word}`: linkly runs no container images; give the folder of a program (`./folder`), the name of a "
            "worker that ships, or `package.module:Class`"
        )
    name, _, version = word.partition("@")
    if not NAME_OF_FOLDER.fullmatch(name):
        raise Failure(
            f"`{word}` is no name of a worker: letters, digits and `-_.` are allowed, no leading dot, no `..`"
        )
    notes = [f"`{name}` comes with linkly; its version is linkly's, not {version}"] if version else []
    if name in ALIASES:
        notes.append(f"`{name}` is the old name of `{ALIASES[name]}`")
        name = ALIASES[name]
    if name in BUILT_IN:
        return Source(name, {}, [*notes, f"`{name}` is part of linkly: it needs no entry in config.yaml"])
    known = [*shipped_names(), LISTENER]
    if name not in known:
        raise Failure(_unknown(name, known, project))
    block = {"host": HOST, "port": PORT} if name == LISTENER else yaml.safe_load(starting_block(name) or "")
    return Source(name, {"name": name} if block is None else {"name": name, "config": block}, notes)


def _folder(word: str, project: Path) -> Source:
    from linkly_engine.process.manifest import read_manifest

    try:
        folder = Path(word).expanduser().resolve()
    except RuntimeError as error:
        raise Failure(f"`{word}`: {error}") from None
    manifest = read_manifest(folder)
    if word.startswith("~"):
        written = word
    elif folder.is_relative_to(project.resolve()) or not word.startswith("/"):
        relative = Path(os.path.relpath(folder, project.resolve())).as_posix()
        written = relative if relative.startswith("..") else f"./{relative}" if relative != "." else "."
    else:
        written = str(folder)
    return Source(manifest.name, {"name": manifest.name, "path": written})


def _unknown(name: str, known: list[str], project: Path) -> str:
    missing = not_there_yet(name)
    if missing is not None and not Path(name).is_dir():
        return f"{missing}. Workers that ship: {', '.join(sorted(known))}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean `{near[0]}`?" if near else "."
    if Path(name).is_dir():
        hint = f"; for the folder of that name write `./{name}`."
    return (
        f"there is no worker `{name}`{hint} Workers that ship: {', '.join(sorted(known))}. "
        "A program of your own is added by its folder, `linkly worker add ./folder`"
    )
