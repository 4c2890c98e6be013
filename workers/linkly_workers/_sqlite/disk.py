"""Where a batch waits for the disk: on the loop's thread, or on the writing thread.

Handing a commit to another thread and hearing of its end costs two wake-ups: 13 to 33 % of the throughput of 64
callers. Waiting for the disk on the loop's thread holds up everybody else, so the loop waits only while that is part of
what the batch has cost it anyway: for many writes at once, on a disk that has been quick. A single writer's commit, and
any commit on a disk that has stalled lately, leaves the loop free.
"""

from __future__ import annotations

from math import inf

WAIT_PER_ROW_S = 15e-6
"""The loop waits this long for each row that a batch has changed, less than what the calls themselves have cost. Rows
count, not operations, because one operation may be the writes of many callers: 64 clicks."""

LONGEST_WAIT_S = 0.002
"""The loop waits no longer, however many rows: one caller may have changed them all."""

STALL_S = 0.010
"""A commit that takes longer is a stall."""

COMMITS_AFTER_STALL = 250
"""So many commits after a stall are left to the writing thread."""

_WEIGHT = 1 / 16


class Disk:
    """How long the commits to one file take, learnt from the last ones. It knows no clock and no file."""

    def __init__(self) -> None:
        self._commit_s = inf  # a moving average; before the first commit nothing is known
        self._left_to_thread = 0

    def is_quick_for(self, rows: int) -> bool:
        """Return whether the loop may wait for the commit of a batch that has changed so many rows."""
        return not self._left_to_thread and self._commit_s <= min(rows * WAIT_PER_ROW_S, LONGEST_WAIT_S)

    def committed(self, took_s: float) -> None:
        """Learn from a commit, wherever it ran.

        On the thread its time includes waiting for the interpreter's lock, so a loop that is busy with other things
        seems to have a slow disk, and keeps its time for them.
        """
        if took_s > STALL_S:
            self._left_to_thread = COMMITS_AFTER_STALL
            return  # one stall says nothing about the next ordinary commit
        self._left_to_thread = max(0, self._left_to_thread - 1)
        self._commit_s = took_s if self._commit_s == inf else self._commit_s + (took_s - self._commit_s) * _WEIGHT
