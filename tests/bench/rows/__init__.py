"""The rows, one module for those that are alike; a module offers its rows as `ROWS`."""

from tests.bench.row import Row
from tests.bench.rows import (
    call,
    click,
    flood,
    memory,
    postgres,
    postgres_redirect,
    queue,
    redirect,
    soak,
    start,
    trigger,
    write,
)

MODULES = (redirect, call, trigger, write, postgres, postgres_redirect, queue, click, memory, start, flood, soak)
ROWS: dict[str, Row] = {row.name: row for module in MODULES for row in module.ROWS}
"""By name, in the order of the table."""
