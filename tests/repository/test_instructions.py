"""The gate on instructions: it finds a product that has become slower, and accepts what a commit says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.bench.instructions import LIMIT, PARTS, allowed, too_many

ROOT = Path(__file__).parents[2]
SLOWER = """
_trigger = LocalBus.trigger


async def _slower(self, *words, **named):
    for _ in range(1000):
        pass
    return await _trigger(self, *words, **named)


LocalBus.trigger = _slower
"""
BEFORE = dict.fromkeys(PARTS, 1000.0)


def test_a_part_that_takes_more_instructions_than_allowed_is_found():
    now = {**BEFORE, "redirect": 1000 * (1 + LIMIT) - 1, "trigger": 1000 * (1 + LIMIT) + 1}
    assert too_many(now, BEFORE, {}) == ["trigger"]


def test_a_rise_that_a_commit_gives_a_reason_for_is_accepted():
    rises = allowed(["redirect +15 % because a click keeps its country", "redirect +12.5 % because of that as well"])
    assert rises == {"redirect": 0.15}
    assert too_many({**BEFORE, "redirect": 1149.0}, BEFORE, rises) == []
    assert too_many({**BEFORE, "redirect": 1151.0}, BEFORE, rises) == ["redirect"]


@pytest.mark.parametrize("trailer", ["redirect +15 %", "everything +15 % because why not", "trigger 15 because so"])
def test_a_rise_needs_a_part_and_a_reason(trailer):
    with pytest.raises(SystemExit, match="expected"):
        allowed([trailer])


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="there is no valgrind: install Debian's package `valgrind`"
)
def test_a_product_with_a_loop_put_in_is_refused(tmp_path):
    for part in ("sdk", "engine", "workers"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "engine/linkly_engine/local/bus.py").open("a") as bus:
        bus.write(SLOWER)
    gate = [
        sys.executable,
        "-m",
        "tests.bench.instructions",
        "--checkout",
        tmp_path,
        "--against",
        ROOT,
        "--rounds",
        "2",
    ]
    run = subprocess.run(gate, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "trigger: over 10% more" in run.stdout
