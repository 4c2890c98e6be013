"""What a Dockerfile and a service of compose.yaml say, done without a container engine.

The steps run in a folder that stands for the root of the image. Where the tests are root and the kernel lets them, its
command then runs as the image's user, as process 1, without capabilities, on a root file system that is read-only.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from dockerfile_parse import DockerfileParser

SYSTEM_PYTHON = "/usr/bin/python3"
_ENTER = 'mount -o remount,bind,ro / && mount -t tmpfs tmpfs /tmp && exec "$@"'
_UNSHARE = ("unshare", "--pid", "--fork", "--mount", "--mount-proc")


@cache
def can_contain() -> bool:
    """Return whether a program can have namespaces of its own here."""
    if os.getuid() != 0:
        return False
    tried = (*_UNSHARE, "sh", "-c", _ENTER, "sh", "setpriv", "--reuid=10001", SYSTEM_PYTHON, "-c", "import ensurepip")
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


class Image:
    """An image of one checkout.

    Args:
        dockerfile: What is built; the folder that holds it is what the build sees.
        root: An empty folder, which everybody may look into.

    Attributes:
        environment: What its programs see.
        user: Who runs them: two numbers.
        command: What it runs.
    """

    def __init__(self, dockerfile: Path, root: Path) -> None:
        self._context = dockerfile.parent
        self._root = root
        self._folder = "/"
        self.user = ""
        self.environment: dict[str, str] = {}
        self.command: list[str] = []
        # What the base image has: a Python, one that the image's user may run.
        python = SYSTEM_PYTHON if can_contain() else sys.executable
        subprocess.run([python, "-m", "venv", root / "base"], check=True)
        for step in DockerfileParser(str(dockerfile)).structure:
            self._take(step["instruction"], step["value"])

    def located(self, text: str) -> str:
        """Return a text with the absolute paths of the image where they are; `/tmp` is that of the container."""
        return re.sub(r"(?<![\w.:/-])/(?!tmp\b)(?=[a-z])", f"{self._root}/", text)

    def path(self, inside: str) -> Path:
        """Return where an absolute path of the image is."""
        return self._root / inside.lstrip("/")

    def words(self, command: list[str], environment: Mapping[str, str]) -> list[str]:
        """Return what runs a command in a container of this image, with variables beside its own."""
        seen = {**self.environment, **environment}
        words = ["env", "-i", f"--chdir={self.path(self._folder)}", *(f"{key}={value}" for key, value in seen.items())]
        words += [self.located(word) for word in command]
        if not can_contain():
            return words
        user, _, group = self.user.partition(":")
        bare = ("--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
        # It ends with who started it, who ends with the test; a change of the user would undo that.
        bound = ("setpriv", "--pdeathsig=KILL")
        as_user = ("setpriv", f"--reuid={user}", f"--regid={group}", *bare)
        return [*bound, *_UNSHARE, "sh", "-c", _ENTER, "sh", *as_user, *bound, *words]

    def _take(self, instruction: str, value: str) -> None:
        match instruction:
            case "FROM":
                self._folder, self.environment = "/", {"PATH": f"{self._root}/base/bin:/usr/bin:/bin"}
            case "WORKDIR":
                self._folder = value
                self.path(value).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(value)
            case "RUN":
                self._run(value)
            case "ENV":
                for each in shlex.split(value):
                    name, _, text = each.partition("=")
                    self.environment[name] = self.located(text).replace("$PATH", self.environment["PATH"])
            case "USER":
                self.user = value
            case "CMD":
                self.command = json.loads(value)
            case "COMMENT":
                pass
            case _:
                raise NotImplementedError(f"{instruction}: this stand-in for a container engine does not know it")

    def _copy(self, value: str) -> None:
        *sources, target = value.split()
        if sources[0].startswith("--from="):
            assert sources[1:] == [target], "both stages are one folder here"
            return
        place = self.path(self._folder) / target
        for source in sources:
            found = self._context / source
            if found.is_dir():
                shutil.copytree(found, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(found, place)

    def _run(self, value: str) -> None:
        done = subprocess.run(
            ["sh", "-ec", self.located(value)],
            cwd=self.path(self._folder),
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
