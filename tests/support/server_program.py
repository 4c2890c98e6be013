"""A server that a test session starts for itself: as another user than root, in a folder of its own."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

START_S = 60.0


class ServerProgram:
    """A server that can be stopped, killed and started again.

    Args:
        folder: Holds what it keeps and its log; it is given to the user that runs it.
        users: Who runs it where the tests run as root: the first of these that there is.

    Attributes:
        folder: As given.
        as_user: What is put before a command that root may not run.
    """

    def __init__(self, folder: Path, users: Sequence[str]) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.as_user: list[str] = []
        if os.getuid() == 0:
            user = _first(users)
            os.chown(folder, user.pw_uid, user.pw_gid)
            self.as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / "log").read_text(errors="replace")

    def run(self, program: str | Path, *words: str) -> None:
        """Run a program that makes something for the server, and wait."""
        command = [*self.as_user, str(program), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr

    def launch(self, program: str | Path, *words: str, answers: Callable[[], bool]) -> None:
        """Start it and wait until it `answers`; it ends with the test process, however that ends."""
        bound_to_us = ["setpriv", "--pdeathsig=QUIT"] if shutil.which("setpriv") else []
        command = [*self.as_user, *bound_to_us, str(program), *words]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        end = time.monotonic() + START_S
        while not answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < end, f"no answer: {self.log}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)

    def end(self, how: signal.Signals) -> None:
        """End it by a signal and wait; harmless when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(START_S)


def _first(users: Sequence[str]) -> pwd.struct_passwd:
    for name in users:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError(f"the server does not run as root, and there is none of the users {', '.join(users)}")
