"""Programs that are measured: started, told what to do, ended; and what they cost, from /proc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.engine_process import EngineProcess

THIS = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
PEERS = Path(__file__).parent / "peers"

TICKS = os.sysconf("SC_CLK_TCK")
WAIT_S = 60.0
READY_S = 300.0
"""How long a program may take until it is ready, and how long a turn may take beside ten times its seconds."""


def environment(checkout: Path) -> dict[str, str]:
    """Return the variables with which a program imports linkly of a checkout."""
    folders = [checkout.resolve() / part for part in ("sdk", "engine", "workers")]
    if not all(folder.is_dir() for folder in folders):
        raise SystemExit(f"{checkout} is no checkout of linkly")
    # Without compiled files every start compiles everything again; that is not what is measured.
    return {"PYTHONPATH": ":".join(map(str, folders)), "PYTHONDONTWRITEBYTECODE": ""}


class Measured:
    """A program that does as it is told over stdin and stdout: one line of JSON each way.

    It prints one line, an object, when it is ready; afterwards one for each that it reads, the figures of a turn.

    Attributes:
        hello: Its first line.
    """

    def __init__(self, words: Sequence[object], *, folder: Path | None = None, env: Mapping[str, str] = {}) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the program
        self._words = list(map(str, words))
        self._process = subprocess.Popen(
            self._words,
            cwd=folder,
            env={**os.environ, **env},
            text=True,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.hello: Mapping[str, object] = self._read(READY_S)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def turn(self, **asked: object) -> dict[str, float]:
        """Let it measure once; return what it says."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        figures = self._read(WAIT_S + 10 * float(str(asked.get("seconds", WAIT_S))))
        return {name: float(value) for name, value in figures.items()}  # type: ignore[arg-type]

    def _read(self, within_s: float) -> dict[str, object]:
        assert self._process.stdout is not None
        late = threading.Timer(within_s, self.kill)
        late.start()
        try:
            for line in self._process.stdout:
                if line.startswith("{"):  # iii's SDK for Node logs to stdout
                    said: dict[str, object] = json.loads(line)
                    return said
        finally:
            late.cancel()
        self.kill()
        raise SystemExit(f"{' '.join(self._words)} ended:\n{self._said()}")

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-4000:]

    def kill(self) -> None:
        """End it, and what it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(WAIT_S)


@contextmanager
def measured(*words: object, folder: Path | None = None, env: Mapping[str, str] = {}) -> Iterator[Measured]:
    """Run a program that does as it is told, until the block ends."""
    program = Measured(words, folder=folder, env=env)
    try:
        yield program
    finally:
        program.kill()


@contextmanager
def ours(name: str, checkout: Path, *words: object, folder: Path | None = None) -> Iterator[Measured]:
    """Run one of `programs/` with linkly of a checkout."""
    with measured(sys.executable, PROGRAMS / name, *words, folder=folder, env=environment(checkout)) as program:
        yield program


@contextmanager
def engine(config: str, checkout: Path, *files: Path, env: Mapping[str, str] = {}) -> Iterator[EngineProcess]:
    """Run an engine of a checkout in a folder of its own, with copies of some files beside its config."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(config)
        for file in files:
            (Path(folder) / file.name).write_text(file.read_text())
        process = EngineProcess(Path(folder), environment={**environment(checkout), **env})
        try:
            process.start()
            yield process
        finally:
            process.kill()


def cpu_s(process_id: int) -> float:
    """Return the processor seconds, user and system, that a process and those it has started have taken.

    Also those that have ended, once it has waited for them.
    """
    total, waiting = 0.0, [process_id]
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}")
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            for task in (folder / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(map(int, fields[11:15])) / TICKS
    return total


def resident_bytes(process_id: int) -> int:
    """Return how much memory of a process is resident."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
