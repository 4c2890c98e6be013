"""A project folder to stand in, and an engine that runs it as a process."""

import pytest

from linkly_engine.cli.main import main
from support.engine_process import EngineProcess

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
    process = EngineProcess(folder)
    try:
        process.start()
        monkeypatch.setenv("LINKLY_PORT", str(process.worker_port))
        yield process
        process.end()
    finally:
        process.kill()
