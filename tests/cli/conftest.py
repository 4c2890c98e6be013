"""A project folder to stand in, and an engine that runs it as a process."""

import os
import signal
import subprocess
import sys

import pytest

from linkly_engine.cli.main import main

START_S = 30
CONFIG = "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n  # values\n  - name: state\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, which is the current one; no engine answers at the default port."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINKLY_PORT", "1")
    return tmp_path


@pytest.fixture
def linkly(capsys):
    """Run a command line in this process; return exit code, stdout, stderr."""

    def run(*words):
        code = main(list(words))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def engine(folder, monkeypatch):
    """An engine that runs config.yaml of the folder; commands find it by LINKLY_PORT."""
    if not (folder / "config.yaml").exists():
        (folder / "config.yaml").write_text(CONFIG)
    process = subprocess.Popen(
        [sys.executable, "-m", "linkly_engine"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        for line in process.stderr:
            if "ws://" in line:
                monkeypatch.setenv("LINKLY_PORT", line.split("ws://", 1)[1].split()[0].rstrip("/").rpartition(":")[2])
            if "http at" in line:
                process.http_url = line.split()[-1]
            if "stop: Ctrl-C" in line:
                break
        else:
            pytest.fail("the engine did not start")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=START_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
