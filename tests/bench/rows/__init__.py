"""The rows, one module each; a module offers its rows as `ROWS`."""

from tests.bench.row import Row
from tests.bench.rows import call, redirect, trigger

ROWS: dict[str, Row] = {row.name: row for module in (redirect, call, trigger) for row in module.ROWS}
"""By name, in the order of the table."""
