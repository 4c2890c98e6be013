"""The benchmarks can be run: the figures themselves are never asserted."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.bench import page, peers
from tests.bench.growth import GROWTHS
from tests.bench.processes import THIS
from tests.bench.rows import ROWS, soak

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


def measured(interpreter: str, reached: float) -> dict[str, Any]:
    """Return what `--json` keeps of a row and of a growth of it."""
    machine = {"commit": "abc", "interpreter": interpreter, "load": "0.1 0.2 0.3"}
    row = {
        "row": "redirect",
        "title": "a redirect",
        "figures": {"linkly": {"requests/s": [reached]}, "peer": {"requests/s": [1.0]}},
        "goals": [
            {
                "side": "linkly",
                "figure": "requests/s",
                "bound": 3.0,
                "peer": "peer",
                "at_most": False,
                "reached": reached,
            }
        ],
        "ratios": {},
        "skipped": {},
    }
    growth = {"title": "Redirects", "axis": "links", "plotted": ["requests/s"], "points": {"10": row, "100": row}}
    return {"redirect": {"machine": machine, **row}, "growth-links": {"machine": machine, **growth}}


def test_the_goals_of_a_second_file_have_a_table_that_names_both_interpreters() -> None:
    written = page.tables(measured("CPython 3.11.7 in /a", 2.0), {}, measured("CPython 3.11.2 in /b", 4.0))
    first, second = written.split("## The same with an optimised build of Python")
    assert "| redirect | requests/s | 2.00 | peer: 1.00 | 2.00 | ≥ 3.00x |" in first
    assert "measured with CPython 3.11.7 in /a" in second
    assert "With CPython 3.11.2 in /b" in second
    assert "| redirect | requests/s | 4.00 | peer: 1.00 | **4.00** | ≥ 3.00x |" in second


def test_a_file_makes_the_same_page_and_plots_again(tmp_path: Path) -> None:
    if not (peers.python_folder() / "bin" / "python").exists():
        pytest.skip("the peers, and what draws, are not installed: `python -m tests.bench` does that")
    file = tmp_path / "performance.md"

    def written(introduction: str) -> list[bytes]:
        file.write_text(introduction)
        page.write(measured("CPython", 2.0), page=file)
        return [file.read_bytes(), (tmp_path / "performance" / "growth-links.svg").read_bytes()]

    first = written(f"# Performance\n{page.MARK}\nwhat was here before")
    assert b"before" not in first[0]
    assert b"![Redirects](performance/growth-links.svg)" in first[0]
    assert written(first[0].decode()) == first


@pytest.mark.parametrize(("mb_a_minute", "mb_an_hour"), [(0, [0, 0, 0]), (1, [60, 60, 60])])
def test_a_soak_tells_by_how_much_memory_grew(mb_a_minute: float, mb_an_hour: list[float]) -> None:
    """The first tenth, where caches fill, is not growth."""
    minutes = [float(number) for number in range(40)]
    memory = [50.0, 90.0, 95.0, 99.0, *(100 + mb_a_minute * minute for minute in range(36))]
    told = soak.growth({"minutes": minutes, "memory MB": memory})
    assert told["MB/h"] == pytest.approx(mb_an_hour)
    assert (told["first MB"], told["last MB"]) == ([50], [memory[-1]])
    assert told["last / settled"] == [memory[-1] / 100]


def test_a_soak_too_short_for_a_slope_has_none() -> None:
    assert "MB/h" not in soak.growth({"minutes": [0.1, 0.2, 0.3], "memory MB": [1.0, 2.0, 3.0]})
