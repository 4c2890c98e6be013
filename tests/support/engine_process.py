"""The `linkly` engine as a process: started in a project folder, asked, stopped and killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.program import WAIT_S, Program

COMMAND = (sys.executable, "-m", "linkly_engine")
UP = "stop: Ctrl-C"
"""In the last line of the welcome: every port is open."""


class EngineProcess:
    """One project folder and the engine that runs in it.

    Args:
        folder: Where config.yaml is.
        command: How to run `linkly`.
        environment: Variables beside those of this process.

    Attributes:
        program: The process while one runs.
        welcome: What the engine said when it was up.
    """

    def __init__(
        self, folder: Path, *, command: Sequence[str] = COMMAND, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.command = command
        self.environment = dict(environment or {})
        self.program: Program | None = None
        self.welcome = ""

    def start(self, *words: str) -> None:
        """Start it and wait until it says that it is up.

        Raises:
            AssertionError: It ended before; the message has what it wrote.
        """
        self.program = Program(
            [*self.command, *words], folder=self.folder, environment=self.environment, stream="stderr"
        )
        self.program.until(UP)
        self.welcome = "\n".join(self.program.lines)

    @property
    def pid(self) -> int:
        """The process id of the engine that runs."""
        assert self.program is not None
        return self.program.process.pid

    @property
    def url(self) -> str:
        """Where workers connect to, as the welcome says."""
        return self._address("ws://").rstrip("/")

    @property
    def worker_port(self) -> int:
        """The port of `url`."""
        return int(self.url.rpartition(":")[2])

    @property
    def http(self) -> str:
        """Where the gateway answers, as the welcome says."""
        return self._address("http://")

    @property
    def http_port(self) -> int:
        """The port of `http`."""
        return int(self.http.rpartition(":")[2])

    def _address(self, scheme: str) -> str:
        return next(word for word in self.welcome.split() if word.startswith(scheme))

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the engine."""
        assert self.program is not None
        self.program.send(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code."""
        assert self.program is not None
        program, self.program = self.program, None
        return program.end(number)

    def kill(self) -> None:
        """End the engine, if one runs, as a power cut does."""
        if self.program is not None:
            self.program.kill()
            self.program = None

    def run(self, *words: str, within_s: float = WAIT_S) -> subprocess.CompletedProcess[str]:
        """Run another command of `linkly` in the folder."""
        return subprocess.run(
            [*self.command, *words],
            cwd=self.folder,
            env={**os.environ, **self.environment},  # its `linkly`, if that is another checkout's
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
        )

    def trigger(self, *words: str, within_s: float = WAIT_S) -> subprocess.CompletedProcess[str]:
        """Run `linkly trigger` against the engine."""
        return self.run("trigger", "--port", str(self.worker_port), *words, within_s=within_s)
