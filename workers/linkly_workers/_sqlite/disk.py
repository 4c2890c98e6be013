"""Where a batch waits for the disk: on the loop's thread, or on the writing thread.

Handing a commit to another thread and hearing of its end costs two wake-ups, a quarter of the throughput of 64 callers;
waiting for the disk on the loop's thread holds up everybody else. So the loop waits only while that is a small part of
what the batch has cost it anyway: for many writes at once, on a disk that has been quick. A single writer's commit, and
any commit on a disk that has stalled lately, leaves the loop free.
"""

from __future__ import annotations

WAIT_PER_WRITE_S = 15e-6
"""The loop waits this long for each write of a batch, less than what the call itself has cost."""

STALL_S = 0.010
"""A commit that takes longer is a stall."""

COMMITS_AFTER_STALL = 250
"""So many commits after a stall are left to the writing thread."""

_WEIGHT = 1 / 16


class Disk:
    """How long the commits to one file take, learnt from the last ones. No clock and no file in here.

    Attributes:
        commit_s: What a commit takes, a moving average of about 16; infinite before the first.
    """

    def __init__(self) -> None:
        self.commit_s = float("inf")
        self._left_to_thread = 0

    def is_quick_for(self, writes: int) -> bool:
        """Tell whether the loop may wait for the commit of a batch of so many writes."""
        return self._left_to_thread <= 0 and self.commit_s <= writes * WAIT_PER_WRITE_S

    def committed(self, took_s: float) -> None:
        """Learn from a commit, wherever it ran."""
        if took_s > STALL_S:
            self._left_to_thread = COMMITS_AFTER_STALL
            return  # one stall says nothing about the next ordinary commit
        self._left_to_thread -= 1
        if self.commit_s > STALL_S:
            self.commit_s = took_s
        self.commit_s += (took_s - self.commit_s) * _WEIGHT
