"""A worker is added by the documented steps: one folder in `linkly_workers`, one line of config.yaml."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.engine_process import EngineProcess

ROOT = Path(__file__).parents[2]

SCRATCH = '''
"""A worker that was added."""

from linkly import Binding, TriggerType, Worker, function


class ScratchPad(Worker):
    """Keeps nothing."""

    name = "scratch-pad"

    def trigger_types(self) -> list[TriggerType]:
        """Provide `scratched`."""
        return [TriggerType("scratched", "Something was scratched.", bind=self._bind, unbind=self._bind)]

    @function("scratch-pad::double")
    async def double(self, number: int) -> int:
        """Double a number."""
        return number * 2

    async def _bind(self, binding: Binding) -> None:
        return
'''


@pytest.fixture
def overlay(tmp_path):
    """A copy of `linkly_workers` with one folder more, and a project beside it."""
    workers = tmp_path / "overlay" / "linkly_workers"
    shutil.copytree(ROOT / "workers" / "linkly_workers", workers)
    (workers / "scratch_pad").mkdir()
    (workers / "scratch_pad" / "__init__.py").write_text(SCRATCH)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "config.yaml").write_text(
        "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n  - name: scratch-pad\n"
    )
    return tmp_path


def environment(overlay):
    return {"PYTHONPATH": os.pathsep.join([str(overlay / "overlay"), str(ROOT / "sdk"), str(ROOT / "engine")])}


def linkly(overlay, *words):
    return subprocess.run(
        [sys.executable, "-m", "linkly_engine", *words],
        cwd=overlay / "project",
        env={**os.environ, **environment(overlay)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def port(overlay):
    """The worker port of an engine that runs the project."""
    engine = EngineProcess(overlay / "project", environment=environment(overlay))
    try:
        engine.start()
        yield str(engine.worker_port)
        engine.end()
    finally:
        engine.kill()


def test_its_function_is_called_and_its_trigger_type_is_declared(overlay, port):
    answer = linkly(overlay, "trigger", "--port", port, "scratch-pad::double", "number=21")
    assert (answer.returncode, answer.stdout) == (0, "42\n"), answer
    listed = json.loads(linkly(overlay, "trigger", "--port", port, "engine::triggers::list").stdout)
    assert {"id": "scratched", "worker_name": "scratch-pad"}.items() <= next(
        row.items() for row in listed["triggers"] if row["id"] == "scratched"
    )


def test_the_commands_know_it(overlay):
    assert "scratch-pad" in linkly(overlay, "__complete", "zsh", "worker", "add", "scr").stdout
    (overlay / "project" / "config.yaml").write_text("workers: []\n")
    assert linkly(overlay, "worker", "add", "scratch-pad").returncode == 0
    assert "- name: scratch-pad" in (overlay / "project" / "config.yaml").read_text()
    assert "scratch-pad" in linkly(overlay, "worker", "add", "nothing").stderr


def test_it_may_not_import_another_worker(overlay):
    package = overlay / "overlay" / "linkly_workers" / "scratch_pad" / "__init__.py"
    package.write_text("import linkly_workers.state\n" + SCRATCH)
    checked = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--config", str(ROOT / "pyproject.toml"), "--no-cache"],
        cwd=overlay,
        env={**os.environ, **environment(overlay)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 1
    assert "linkly_workers.scratch_pad is not allowed to import linkly_workers.state" in checked.stdout
