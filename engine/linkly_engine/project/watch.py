"""Watches one file, also one that does not exist yet: editors replace files by renaming, others write in place.

It says that something happened, not what: its caller reads the file again and compares.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio

log = logging.getLogger("linkly.engine")

QUIET_MS = 150
"""A change is reported when nothing more has happened for so long ..."""
DEBOUNCE_MS = 400
"""... and after so long in any case."""

LOOK_AGAIN_MS = 5_000
"""How often the file is read without an event: some file systems send none."""


async def watch_file(path: Path, changed: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Call `changed` after each change of a file, until this is cancelled.

    Args:
        path: The file; its folder has to exist. Where it is a symbolic link, its target is watched too.
        changed: Awaited before further changes are looked at.
    """
    # Costs memory and time that the start of the engine should not spend.
    from watchfiles import awatch

    logging.getLogger("watchfiles.main").setLevel(logging.WARNING)  # it counts changes, also those that are none
    names, folders = _names_and_folders(path)
    async with anyio.create_task_group() as tasks:
        # Runs when watching has begun: what happened before that would be missed.
        tasks.start_soon(changed)
        try:
            async for changes in awatch(
                *folders,
                # A mounted configuration is changed by exchanging a link whose name begins with two dots.
                watch_filter=lambda _, changed_path: (
                    (name := Path(changed_path).name) in names or name.startswith("..")
                ),
                debounce=DEBOUNCE_MS,
                step=QUIET_MS,
                recursive=False,
                rust_timeout=LOOK_AGAIN_MS,
                yield_on_timeout=True,
            ):
                del changes
                await changed()
        except Exception as error:
            log.warning(
                "%s cannot be watched, changes are not applied by themselves: %s; send SIGHUP to apply them",
                path,
                error,
            )


def _names_and_folders(path: Path) -> tuple[set[str], set[Path]]:
    target = path.resolve()
    return {path.name, target.name}, {path.parent, target.parent}
