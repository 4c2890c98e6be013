"""Published iii clients, which run the programs of `tests/compat/programs`.

They are installed once, all at the same time, into `tests/compat/.clients`. Without npm or without a package registry a
local run skips what it cannot install and says so; in CI that is a failure.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[1] / "compat" / "programs"
CLIENTS = Path(__file__).parents[1] / "compat" / ".clients"
PYTHON_CLIENTS = ["0.16.1", "0.19.7", "0.22.1", "0.25.0"]
NODE_CLIENT = "0.22.1"

IN_ITS_PLACE = (
    "import runpy, sys, linkly.iii; sys.modules.update(iii=linkly.iii, iii_observability=linkly.iii);"
    "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
)
"""Runs a program written for iii's Python client on linkly's own package."""


def _commands(version: str, folder: Path) -> list[list[str]]:
    if version == "node":
        npm = shutil.which("npm") or "npm"
        packages = [f"iii-sdk@{NODE_CLIENT}", f"@iii-dev/helpers@{NODE_CLIENT}", "tsx@4"]
        return [
            [npm, "init", "--yes"],
            [npm, "pkg", "set", "type=module"],
            [npm, "install", "--no-audit", "--no-fund", "--prefer-offline", *packages],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"iii-sdk=={version}"],
    ]


def _install(version: str) -> str | None:
    """Fill a client's folder, unless an earlier run has finished that; return why it could not be done."""
    folder = CLIENTS / (f"node-{NODE_CLIENT}" if version == "node" else f"python-{version}")
    commands = _commands(version, folder)
    # Of this Python: iii's clients cannot start threads on 3.12.0 and 3.12.1 once the program's own code has ended.
    done, wanted = folder / ".done", "\n".join([sys.version, *(" ".join(command[1:]) for command in commands)])
    if done.exists() and done.read_text() == wanted:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in commands:
        try:
            finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
        except OSError as error:
            return f"cannot run {command[0]}: {error}"
        if finished.returncode:
            return f"cannot install a published client: {' '.join(command)}: {finished.stderr[-500:]}"
    done.write_text(wanted)
    return None


def installed_clients() -> Callable[..., list[str]]:
    """Install all clients, and return what tells how to run a program with one.

    Its arguments are the client (`"0.16.1"`, `"node"`, or `"linkly"` for linkly's own package in iii's shape), the name
    of a program and the program's arguments. It skips the test, or in CI fails it, if the client cannot be installed.
    """
    CLIENTS.mkdir(exist_ok=True)
    versions = [*PYTHON_CLIENTS, "node"]
    with (CLIENTS / ".lock").open("w") as lock, ThreadPoolExecutor(len(versions)) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second run in this checkout waits for the first one's installation
        reasons = dict(zip(versions, pool.map(_install, versions), strict=True))

    def words(version: str, program: str, *arguments: str) -> list[str]:
        if version == "linkly":
            return [sys.executable, "-c", IN_ITS_PLACE, str(PROGRAMS / f"{program}.py"), *arguments]
        reason = reasons[version]
        if reason is not None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        if version != "node":
            return [str(CLIENTS / f"python-{version}/bin/python"), str(PROGRAMS / f"{program}.py"), *arguments]
        source = next(PROGRAMS / f"{program}{end}" for end in (".ts", ".mjs") if (PROGRAMS / (program + end)).exists())
        # Beside its node_modules, where Node looks for what it imports.
        folder = CLIENTS / f"node-{NODE_CLIENT}"
        copy = folder / source.name
        shutil.copy(source, copy)
        loader = (folder / "node_modules/tsx/dist/loader.mjs").as_uri()
        compiler = ["--import", loader] if source.suffix == ".ts" else []
        return [str(shutil.which("node")), *compiler, str(copy), *arguments]

    return words
