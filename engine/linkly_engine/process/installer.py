"""Runs the `setup` and `install` scripts of a worker, once, and again when what they depend on has changed."""

from __future__ import annotations

import logging
from pathlib import Path

from linkly.clock import Clock, time_limit
from linkly.errors import LinklyError
from linkly_engine.process.ending import explain
from linkly_engine.process.guard import Guard
from linkly_engine.process.installed import Installed
from linkly_engine.process.manifest import Manifest
from linkly_engine.process.output import Feed, Output
from linkly_engine.process.program import Program

log = logging.getLogger("linkly.process")

LIMIT_S = 1800.0


class InstallFailed(LinklyError):
    """A `setup` or `install` script failed; it is run again when a file of the worker changes.

    Attributes:
        outdated: A dependency file has changed while the script ran.
    """

    code = "install_failed"
    outdated = False


class Installer:
    """Installs what one worker needs, and notes it in the file `note`."""

    def __init__(self, name: str, folder: Path, *, note: Path, output: Output, guard: Guard, clock: Clock) -> None:
        self._name = name
        self._folder = folder
        self._installed = Installed(folder, note)
        self._output = output
        self._guard = guard
        self._clock = clock

    def needed(self) -> bool:
        """Return whether something has changed since the last installation."""
        return not self._installed.is_current()

    async def run(self, manifest: Manifest, environment: dict[str, str]) -> None:
        """Install.

        Raises:
            InstallFailed: A script failed, or took longer than half an hour.
        """
        before = self._installed.digests()
        self._installed.forget()
        for step in ("setup", "install"):
            command: str | None = getattr(manifest, step)
            if command is not None:
                log.info("worker `%s`: %s: %s", self._name, step, command)
                try:
                    await self._script(step, command, environment)
                except InstallFailed as error:
                    error.outdated = self._installed.digests() != before
                    raise
        try:
            self._installed.remember(before)
        except OSError as error:
            log.warning("worker `%s`: it cannot be noted that it is installed: %s", self._name, error)

    async def _script(self, step: str, command: str, environment: dict[str, str]) -> None:
        try:
            program = Program.start(
                command,
                folder=self._folder,
                environment=environment,
                feed=Feed(self._output),
                guard=self._guard,
            )
        except OSError as error:
            raise InstallFailed(f"`{step}` (`{command}`) cannot be run: {error}") from error
        try:
            async with time_limit(self._clock, LIMIT_S):
                await program.exited.wait()
        except TimeoutError as error:
            raise InstallFailed(f"`{step}` (`{command}`) has not ended in {LIMIT_S:g} s") from error
        finally:
            await program.end()
        if program.returncode != 0:
            raise InstallFailed(f"`{step}` (`{command}`) {explain(program)}")
