"""Every shell block of the README, run in a copy of the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.engine_process import UP
from support.ports import reserved_port
from support.program import Program

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
START_S = 300


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A clean checkout whose default ports are free ones."""
    folder = tmp_path_factory.mktemp("readme") / "linkly"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    config = (folder / "config.yaml").read_text("utf-8")
    with reserved_port() as workers, reserved_port() as http:
        ports = {"49134": str(workers), "3111": str(http)}
        for port, free in ports.items():
            config = config.replace(f"port: {port}", f"port: {free}")
        (folder / "config.yaml").write_text(config)
        yield folder, ports


def run(script, folder, ports):
    script = script.replace(":3111", f":{ports['3111']}")
    environment = {**os.environ, "LINKLY_PORT": ports["49134"], "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=environment,
    ).stdout


def test_there_is_one_run_command_and_one_test_command():
    run_block, test_block, *tour = blocks("sh")
    assert run_block.count("\n") == test_block.count("\n") == 1
    assert "pytest" in test_block
    assert len(tour) == 7
    assert "<!-- test command -->" in (ROOT / ".ci/run").read_text("utf-8")


def test_the_run_command_and_the_tour_do_what_they_say(copy):
    folder, ports = copy
    run_block, _, *tour = blocks("sh")
    engine = Program(["bash", "-c", run_block], folder=folder, stream="stderr")
    try:
        engine.until(UP, START_S)
        outputs = [run(block, folder, ports) for block in tour]
    finally:
        engine.kill()
    shown = blocks("text")
    for expected, output in ((0, outputs[1]), (1, outputs[2]), (3, outputs[6])):
        assert output.strip() == shown[expected].strip()
    assert '{"code":"iii","url":"https://iii.dev"}' in outputs[1]
    assert outputs[1].count("302 https://iii.dev") == 3
    assert json.loads(outputs[2])["rows"] == [{"clicks": 3}]
    assert "https://example.com" in outputs[3]
    assert "messageReceiptId" in outputs[4]
    assert "default" in outputs[4]
    assert "stock is low" in outputs[5]
    assert json.loads(outputs[6]) == {"message": "hello Ann"}


def test_the_worker_of_the_readme_is_the_example(tmp_path):
    worker, test, _, _ = blocks("python")
    assert worker == (ROOT / "examples/hello.py").read_text("utf-8")
    assert len(worker.splitlines()) <= 32
    (tmp_path / "hello.py").write_text(worker)
    (tmp_path / "test_hello.py").write_text(test)
    paths = os.pathsep.join([str(tmp_path), *(str(ROOT / part) for part in ("sdk", "engine", "workers"))])
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_hello.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}, "PYTHONPATH": paths},
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "1 passed" in finished.stdout
