"""The index over clicks: what a click pays for it, and what a reader gains."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.processes import THIS, ours
from tests.bench.row import Figures, Measure, Row

LINKS = 1000
CLICKS = 1_000_000


@contextmanager
def indexed(index: str, checkout: Path = THIS) -> Iterator[Measure]:
    """Open a file whose clicks have an index."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ours("click_index.py", checkout, folder, index, LINKS, CLICKS) as program,
    ):

        def measure(seconds: float) -> Figures:
            return program.turn(seconds=seconds)

        yield measure


ROWS = (
    Row(
        name="click",
        title=f"a click, 64 of which share a commit, among {LINKS} links and 10^6 clicks; SQL alone",
        ours={"index by segment and code": partial(indexed, "segments")},
        peers={"index by code": partial(indexed, "code"), "no index": partial(indexed, "none")},
        seconds=2.0,
    ),
)
