"""Why a writer does not get on: what its worker answers when it is asked whether it can serve."""

from __future__ import annotations

from linkly_workers._sqlite.writer import GroupCommitWriter

STANDSTILL_S = 3.0
"""A writer for which somebody waits and that has finished nothing for so long has stood still."""


def trouble(writer: GroupCommitWriter) -> str | None:
    """Say in one clause why writes do not go through now; `None` if nothing is known against it."""
    if not writer.file.is_there():
        return "its file was deleted or replaced"
    if writer.file.doubtful:
        return "the disk refuses to write"
    seconds = writer.standing_still_s
    if seconds >= STANDSTILL_S:
        return f"no write has ended for {seconds:.0f} s, {writer.waiting} wait"
    return None
