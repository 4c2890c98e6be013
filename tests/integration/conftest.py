"""A real `linkly` process in a folder of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

START_S = 30


class Linkly:
    """One project folder and the engine that runs in it, as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker_port = free_port()
        self.http_port = free_port()
        self.process: subprocess.Popen[str] | None = None
        self.welcome = ""
        (folder / "config.yaml").write_text(
            "workers:\n"
            f"  - name: iii-worker-manager\n    config: {{port: {self.worker_port}}}\n"
            "  - name: state\n  - name: database\n"
            f"  - name: http\n    config: {{port: {self.http_port}}}\n"
            "  - name: link\n"
        )

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> None:
        """Start it and wait until it says that it is up."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "linkly_engine"],
            cwd=self.folder,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stderr is not None
        lines: list[str] = []
        for line in self.process.stderr:
            lines.append(line)
            if "stop: Ctrl-C" in line:
                break
        else:
            pytest.fail("the engine did not start:\n" + "".join(lines))
        self.welcome = "".join(lines)

    def signal(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(START_S)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.process = None
        return code

    def trigger(self, *words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run `linkly trigger`."""
        command = [sys.executable, "-m", "linkly_engine", "trigger", "--port", str(self.worker_port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def linkly(tmp_path: Path) -> Iterator[Linkly]:
    """A project folder; whatever runs in it at the end is killed."""
    project = Linkly(tmp_path)
    yield project
    if project.process is not None:
        project.signal(signal.SIGKILL)
