"""The benchmarks can be run: the figures themselves are never asserted."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bench import page
from tests.bench.growth import GROWTHS
from tests.bench.processes import THIS
from tests.bench.rows import ROWS

from support.program import WAIT_S


def bench(*words: str, env: Mapping[str, str] = {}) -> str:
    """Run the command and return what it printed."""
    command = [sys.executable, "-m", "tests.bench", *words]
    ran = subprocess.run(
        command,
        cwd=THIS,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * WAIT_S,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_list_names_every_row() -> None:
    assert [line.split()[0] for line in bench("--list").splitlines()] == [*ROWS, *GROWTHS]


def test_a_row_that_is_measured_ends_up_in_a_table_and_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    printed = bench("trigger", "--only", "Struct", "--rounds", "2", "--seconds", "0.1", "--json", str(file))
    row = json.loads(file.read_text())["trigger"]
    assert len(row["figures"]["frozen Struct in and out"]["us"]) == 2
    assert "frozen Struct in and out" in printed
    assert "dict in and out, us at most 2.30: not measured" in printed


def test_a_durable_redirect_is_counted_on_disk(tmp_path: Path) -> None:
    """The row itself holds rows against counter against redirects, and ends with an error where they differ."""
    file = tmp_path / "all.json"
    bench(
        "redirect", "--only", "linkly", "--rounds", "1", "--seconds", "1", "--against", str(THIS), "--json", str(file)
    )
    row = json.loads(file.read_text())["redirect"]
    assert list(row["figures"]) == ["linkly", "linkly, other"]
    assert row["ratios"]["linkly / linkly, other"].keys() >= {"requests/s", "p99 ms", "CPU us"}


def test_growth_becomes_a_table_with_a_column_for_a_point(tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    bench(
        "growth-functions",
        "--points",
        "10",
        "--only",
        "native",
        "--rounds",
        "1",
        "--seconds",
        "0.2",
        "--json",
        str(file),
    )
    written = page.tables(json.loads(file.read_text()), {"growth-functions": "![plot](plot.svg)"})
    assert "| | 10 |\n" in written
    assert "| linkly native, engine us | " in written


def test_a_report_of_http_load_without_wrk_says_so_and_why(tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path), "LINKLY_BENCH_CACHE": str(tmp_path / "cache")}
    printed = bench("route", "--only", "linkly", "--rounds", "1", "--seconds", "0.2", env=nothing)
    assert "HTTP load: a client of our own, for want of wrk: cannot run sh" in printed
