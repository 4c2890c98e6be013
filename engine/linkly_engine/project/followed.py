"""The config file that a project follows: what was applied of it last, and why the file as it is now is not.

It reads and compares; what runs is `linkly_engine.project.project`'s to change.
"""

from __future__ import annotations

import asyncio
import logging

from linkly.errors import ConfigError
from linkly.worker import Worker
from linkly_engine.project.config import Config
from linkly_engine.project.loader import read

log = logging.getLogger("linkly.engine")


class FollowedFile:
    """The file by which `config` was read, or where one may be made.

    Attributes:
        path: Where it is.
        refusal: Why the file as it is now is not applied; `None`: it is.
    """

    def __init__(self, config: Config) -> None:
        self.path = config.path
        self.refusal: str | None = None
        self._text = config.read  # what was looked at last: the file may have changed since
        self._unreadable: str | None = None

    async def news(self, *, forced: bool) -> tuple[Config, list[Worker]] | None:
        """Read the file again; return the config and its in-process workers, checked, not started.

        Args:
            forced: Also when its text did not change.

        Returns:
            `None` if the file did not change, or is gone or cannot be used, which is logged.
        """
        if not self._changed(forced):
            return None
        try:
            # Reading imports the modules of workers, and that may take its time.
            config, workers = await asyncio.to_thread(read, self.path)
        except ConfigError as error:
            self.refusal = error.message
            end = "\n" if "\n" in error.message else "; "
            log.error("%s%snothing was changed, the earlier configuration stays in force", error.message, end)
            return None
        self.refusal = None
        for note in config.notes:
            log.info("%s: %s", self.path.name, note)
        return config, workers

    def _changed(self, forced: bool) -> bool:
        try:
            text = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            if self._text is not None:
                log.warning("%s is gone; what runs keeps running", self.path)
            self._text = self._unreadable = None
            return False
        except OSError as error:
            # Out of file descriptors, no permission, a share that is away: the file as it was stays in force.
            if self._unreadable != error.strerror:
                log.error("%s cannot be read: %s; what runs keeps running", self.path, error.strerror)
            self._unreadable = error.strerror
            return False
        self._unreadable = None
        changed = text != self._text or forced
        self._text = text
        return changed
