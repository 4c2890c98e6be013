"""A server that a test session starts for itself: as another user than root, in a folder of its own."""

import atexit
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from support.ports import reserved_port

START_S = 60.0


class ServerProgram(ABC):
    """A server that can be stopped, killed and started again.

    Args:
        folder: Holds what it keeps and its log; it is given to the user that runs it.
        port: Where it listens on 127.0.0.1.
        users: Who runs it where the tests run as root: the first of these that there is.

    Attributes:
        folder, port: As given.
        password: Of the user `linkly`, who may do everything.
        as_user: What is put before a command that root may not run.
    """

    def __init__(self, folder: Path, port: int, users: Sequence[str]) -> None:
        self.folder, self.port = folder, port
        self.password = secrets.token_hex(8)
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

    def make(self) -> None:
        """Make the data folder: a copy of one that is made once in this process, in a tenth of the time."""
        first = _first_of(type(self))
        self.password = first.password
        self.run("cp", "-a", f"{first.folder}/.", str(self.folder))

    @abstractmethod
    def make_data(self) -> None:
        """Make a data folder, for a server with this password on any port."""

    @abstractmethod
    def start(self, *settings: str) -> None:
        """Start it and wait until it answers; `settings` are texts like `max_connections=20`."""

    @abstractmethod
    def stop(self, how: signal.Signals = ...) -> None:
        """End it by a signal and wait; harmless when it does not run."""

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


@cache
def _first_of(kind: Callable[[Path, int], ServerProgram]) -> ServerProgram:
    folder = tempfile.mkdtemp(prefix="linkly-server-", dir="/tmp")
    atexit.register(shutil.rmtree, folder)
    first = kind(Path(folder), 0)
    first.make_data()
    return first


S = TypeVar("S", bound=ServerProgram)


@contextmanager
def running(make: Callable[[Path, int], S], name: str, *settings: str) -> Iterator[S]:
    """Run a server until the block ends, in a folder that has its name and goes with it."""
    # Not pytest's own folder: the server's user may not look into that of root.
    with tempfile.TemporaryDirectory(prefix=f"linkly-{name}-", dir="/tmp") as folder, reserved_port() as port:
        server = make(Path(folder), port)
        server.make()
        server.start(*settings)
        try:
            yield server
        finally:
            server.stop()


def _first(users: Sequence[str]) -> pwd.struct_passwd:
    for name in users:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError(f"the server does not run as root, and there is none of the users {', '.join(users)}")
