"""A row, its value in state, its job and its message are all there or all absent, wherever kill -9 comes.

20 seeds; `LINKLY_TEST_KILLS=1000` tries so many.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.atomic_program import FAILPOINTS

TESTS = Path(__file__).parents[1]
SEEDS = int(os.environ.get("LINKLY_TEST_KILLS", "20"))
SECONDS_A_SEED = 30

pytestmark = pytest.mark.slow


def verdicts(folder, mode, seeds):
    """Run the program that kills itself, and return what it has found of each seed."""
    ended = subprocess.run(
        [sys.executable, "-m", "support.atomic_program", str(folder), mode, "0", str(seeds)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=seeds * SECONDS_A_SEED,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_no_kill_separates_a_row_from_its_value_its_job_and_its_message(tmp_path):
    found = verdicts(tmp_path, "atomic", SEEDS)
    assert [verdict for verdict in found if verdict["wrong"]] == []
    killed = Counter(verdict["failpoint"] for verdict in found if verdict["killed"])
    assert set(killed) == set(FAILPOINTS), "some failpoint has killed nobody"
    made_later = sum(verdict["made_later"] for verdict in found)
    unanswered = sum(verdict["unanswered"] for verdict in found)
    assert 0 < made_later < unanswered, "every repetition met the same"


def test_the_same_harness_finds_what_kills_do_to_three_calls_one_after_another(tmp_path):
    found = verdicts(tmp_path, "apart", 10)
    assert len([verdict for verdict in found if verdict["wrong"]]) > 5
