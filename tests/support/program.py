"""Programs as processes, whose output is read while they run."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

WAIT_S = 30.0
"""How long a test waits for a line that has to come, or for the end of a process."""


class Program:
    """A process that runs in a session of its own, and what it has written so far.

    Args:
        words: The command.
        folder: Where it runs.
        environment: Variables beside those of this process.
        stream: What is read: one stream, or both as one. The other one is dropped.
        options: For `subprocess.Popen`.

    Attributes:
        lines: What it has written, without line ends.
    """

    def __init__(
        self,
        words: Iterable[str],
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stream: Literal["stdout", "stderr", "both"] = "both",
        **options: Any,
    ) -> None:
        streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        streams["stderr" if stream == "stderr" else "stdout"] = subprocess.PIPE
        if stream == "both":
            streams["stderr"] = subprocess.STDOUT
        self.process: subprocess.Popen[str] = subprocess.Popen(
            list(words),
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
            **streams,
            **options,
        )
        self.lines: list[str] = []
        self._source = self.process.stdout or self.process.stderr
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._source is not None
        for line in self._source:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def until(self, wanted: str | Callable[[str], bool], within_s: float = WAIT_S) -> str:
        """Return the first line, of the past or to come, that contains a text or fits.

        Raises:
            AssertionError: Its output ended, or the time was over, without such a line.
        """
        fits = (lambda line: wanted in line) if isinstance(wanted, str) else wanted
        end, seen = time.monotonic() + within_s, 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if fits(line):
                        return line
                seen = len(self.lines)
                if self._ended or not self._changed.wait(end - time.monotonic()):
                    said = "\n".join(self.lines)
                    raise AssertionError(f"it never said {wanted!r}; what it said:\n{said}")

    async def line(self, wanted: str | Callable[[str], bool]) -> str:
        """Return what `until` returns, without blocking the loop."""
        return await asyncio.to_thread(self.until, wanted)

    @property
    def running(self) -> bool:
        """It has not ended, or nobody has asked since."""
        return self.process.returncode is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def wait(self, within_s: float = WAIT_S) -> int:
        """Wait for the end of the process and of its output; return the exit code.

        Raises:
            subprocess.TimeoutExpired: It did not end in time; it is killed.
        """
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._reader.join(WAIT_S)
            if self._source is not None and not self._reader.is_alive():
                self._source.close()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit code."""
        self.send(number)
        return self.wait()

    async def ended(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Return what `end` returns, without blocking the loop."""
        return await asyncio.to_thread(self.end, number)

    def stop(self) -> None:
        """End the process if it runs; kill it if it does not end in time."""
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait()

    def kill(self) -> None:
        """End the process, and what it has started, as a power cut does; one that has ended is left alone."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.wait()
