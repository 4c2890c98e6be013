"""Where peers come from: installed once, outside of the project, or found on this machine.

The folder is `~/.cache/linkly-bench`, or what LINKLY_BENCH_CACHE says. What cannot be had raises `Missing` with the
reason.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.processes import PEERS, PROGRAMS, Measured, measured
from tests.bench.row import Missing

CACHE = Path(os.environ.get("LINKLY_BENCH_CACHE") or "~/.cache/linkly-bench").expanduser()
INSTALL_S = 900.0
NODE_HEADERS = Path("/usr/include/node/node.h")
WRK_PACKAGES = "wrk libluajit-5.1-2 libluajit-5.1-common"
"""Debian's, of all that wrk needs and a Debian need not have."""


@contextmanager
def python(program: str, *words: object, folder: Path | None = None) -> Iterator[Measured]:
    """Run a peer that is written in Python, with the libraries of `requirements.txt` and of this Python."""
    env = {"PYTHONPATH": str(PROGRAMS), "PYTHONDONTWRITEBYTECODE": ""}
    with measured(python_path(), PEERS / program, *words, folder=folder, env=env) as running:
        yield running


@contextmanager
def node(program: str, *words: object, folder: Path | None = None, needs: str = "") -> Iterator[Measured]:
    """Run a peer that is written for Node, with the packages of `package.json`; it needs one file of them."""
    modules = node_modules()
    if needs and not (modules / needs).exists():
        raise Missing(f"{needs} could not be built: neither a prebuilt binary nor a compiler and {NODE_HEADERS}")
    with measured(_found("node"), PEERS / program, *words, folder=folder, env={"NODE_PATH": str(modules)}) as running:
        yield running


def python_folder() -> Path:
    """Return where the venv of the peers is: one for each build of Python, so that they run on the same as linkly."""
    build = hashlib.sha256(os.fsencode(Path(sys.executable).resolve())).hexdigest()[:8]
    return CACHE / f"python-{platform.python_version()}-{build}"


@functools.cache
def python_path() -> Path:
    """Return a Python, of the same build as this one, with `requirements.txt`."""
    folder, wanted = python_folder(), PEERS / "requirements.txt"
    program = folder / "bin" / "python"
    _install(
        folder,
        sys.version + wanted.read_text(),
        [sys.executable, "-m", "venv", "--clear", folder],
        [program, "-m", "pip", "install", "--quiet", "--requirement", wanted],
    )
    return program


@functools.cache
def node_modules() -> Path:
    """Return the folder with what `package.json` asks for."""
    _found("node")
    folder, wanted = CACHE / "node", PEERS / "package.json"
    # A package whose prebuilt binary cannot be fetched is compiled; the headers need not be fetched if they are here.
    headers = ["--nodedir=/usr"] if NODE_HEADERS.exists() else []
    _install(
        folder,
        _said("node", "--version") + wanted.read_text(),
        ["cp", wanted, folder / "package.json"],
        [_found("npm"), "install", "--prefix", folder, "--no-audit", "--no-fund", *headers],
    )
    return folder / "node_modules"


@functools.cache
def wrk() -> Path | Missing:
    """Return the load generator wrk: found, or unpacked from its Debian package; else why there is none."""
    if found := shutil.which("wrk"):
        return Path(found)
    folder, start = CACHE / "wrk", PEERS / "wrk.sh"
    program = folder / "wrk"
    unpack = f"cd '{folder}' && apt-get download {WRK_PACKAGES} && for each in *.deb; do dpkg -x $each .; done"
    try:
        _install(
            folder,
            WRK_PACKAGES + start.read_text(),
            ["sh", "-c", unpack],
            ["install", "--mode=755", start, program],
        )
    except Missing as reason:
        return reason
    ran = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return program if "wrk" in ran.stdout else Missing(f"wrk does not run here: {ran.stderr[-300:].strip()}")


def nats_server() -> str:
    """Return the path of nats-server."""
    return _found("nats-server")


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Missing(f"there is no {program}")
    return path


def _said(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def _install(folder: Path, wanted: str, *commands: Sequence[object]) -> None:
    """Fill a folder, unless an earlier run has finished that with the same wishes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    done = folder.with_name(folder.name + ".done")
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits for the first one's installation
        if done.exists() and done.read_text() == wanted:
            return
        done.unlink(missing_ok=True)
        folder.mkdir(exist_ok=True)
        for command in commands:
            words = list(map(str, command))
            try:
                ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=INSTALL_S)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise Missing(f"cannot run {words[0]}: {error}") from error
            if ran.returncode:
                raise Missing(f"cannot install: {' '.join(words)}: {(ran.stderr or ran.stdout)[-300:].strip()}")
        done.write_text(wanted)
