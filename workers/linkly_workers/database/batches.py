"""How many rows are read at a time where a result is too large to be kept: `Database.stream`."""

from __future__ import annotations

BATCH_BYTES = 131_072
MOST_ROWS = 500


class Batches:
    """Begins with one row, since nobody knows how large it is, and ends at about `BATCH_BYTES` a batch.

    Attributes:
        rows: How many to ask for next.
    """

    def __init__(self) -> None:
        self.rows = 1

    def came(self, rows: int, size: int) -> None:
        """Note how large a batch was, in bytes."""
        fitting = BATCH_BYTES * rows // (size or 1)
        self.rows = max(1, min(MOST_ROWS, 2 * rows, fitting))
