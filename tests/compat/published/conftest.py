"""Published iii clients as programs, and a real `linkly` process that they connect to.

The clients are installed once, all at the same time, into `tests/compat/.clients`. Without npm or without a package
registry a local run skips what it cannot install and says so; in CI that is a failure.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from linkly import Client, Function, trigger

PROGRAMS = Path(__file__).parents[1] / "programs"
CLIENTS = Path(__file__).parents[1] / ".clients"
PYTHON_CLIENTS = ["0.16.1", "0.19.7", "0.22.1", "0.25.0"]
NODE_CLIENT = "0.22.1"
WAIT_S = 30.0

IN_ITS_PLACE = (
    "import runpy, sys, linkly.iii; sys.modules.update(iii=linkly.iii, iii_observability=linkly.iii);"
    "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
)
"""Runs a program written for iii's Python client on linkly's own package."""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop for a module's processes and its tests."""
    return "asyncio", {"use_uvloop": True}


# --- installing ----------------------------------------------------------------------------------------------


def _commands(version: str, folder: Path) -> list[list[str]]:
    if version == "node":
        npm = shutil.which("npm") or "npm"
        packages = [f"iii-sdk@{NODE_CLIENT}", f"@iii-dev/helpers@{NODE_CLIENT}", "tsx@4"]
        return [
            [npm, "init", "--yes"],
            [npm, "pkg", "set", "type=module"],
            [npm, "install", "--no-audit", "--no-fund", "--prefer-offline", *packages],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"iii-sdk=={version}"],
    ]


def _install(version: str) -> str | None:
    """Fill a client's folder, unless an earlier run has finished that; return why it could not be done."""
    folder = CLIENTS / (f"node-{NODE_CLIENT}" if version == "node" else f"python-{version}")
    commands = _commands(version, folder)
    # Of this Python: iii's clients cannot start threads on 3.12.0 and 3.12.1 once the program's own code has ended.
    done, wanted = folder / ".done", "\n".join([sys.version, *(" ".join(command[1:]) for command in commands)])
    if done.exists() and done.read_text() == wanted:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in commands:
        try:
            finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
        except OSError as error:
            return f"cannot run {command[0]}: {error}"
        if finished.returncode:
            return f"cannot install a published client: {' '.join(command)}: {finished.stderr[-500:]}"
    done.write_text(wanted)
    return None


@pytest.fixture(scope="session")
def command() -> Callable[..., list[str]]:
    """Tell how to run a program with a client: `command("0.16.1", "node" or "linkly", "client", argument ...)`."""
    CLIENTS.mkdir(exist_ok=True)
    versions = [*PYTHON_CLIENTS, "node"]
    with (CLIENTS / ".lock").open("w") as lock, ThreadPoolExecutor(len(versions)) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second run in this checkout waits for the first one's installation
        reasons = dict(zip(versions, pool.map(_install, versions), strict=True))

    def words(version: str, program: str, *arguments: str) -> list[str]:
        if version == "linkly":
            return [sys.executable, "-c", IN_ITS_PLACE, str(PROGRAMS / f"{program}.py"), *arguments]
        reason = reasons[version]
        if reason is not None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        if version != "node":
            return [str(CLIENTS / f"python-{version}/bin/python"), str(PROGRAMS / f"{program}.py"), *arguments]
        source = next(PROGRAMS / f"{program}{end}" for end in (".ts", ".mjs") if (PROGRAMS / (program + end)).exists())
        # Beside its node_modules, where Node looks for what it imports.
        folder = CLIENTS / f"node-{NODE_CLIENT}"
        copy = folder / source.name
        shutil.copy(source, copy)
        loader = (folder / "node_modules/tsx/dist/loader.mjs").as_uri()
        compiler = ["--import", loader] if source.suffix == ".ts" else []
        return [str(shutil.which("node")), *compiler, str(copy), *arguments]

    return words


# --- processes -----------------------------------------------------------------------------------------------


class Program:
    """A process whose output is read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output: list[str] = []
        self._changed = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._changed:
                self.output.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()

    async def until(self, found: Callable[[str], bool]) -> str:
        """Return the first line, of the past or to come, that fits."""
        async with asyncio.timeout(WAIT_S), self._changed:
            seen = 0
            while True:
                for line in self.output[seen:]:
                    if found(line):
                        return line
                seen = len(self.output)
                await self._changed.wait()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end of the process and of its output."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(20):
                code = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            code = await self.process.wait()
        await self._reading
        return code


@asynccontextmanager
async def running(command: list[str], **options: Any) -> AsyncIterator[Program]:
    """Run a program until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    program = Program(process)
    try:
        yield program
    finally:
        await program.end()


class Linkly:
    """A project folder, the `linkly` process that runs in it, and the programs that are its clients."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.worker_port, self.http_port = _free_ports(2)
        self.url = f"ws://127.0.0.1:{self.worker_port}"
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.http_port}", timeout=WAIT_S)
        self.engine: Program | None = None
        self.programs: list[Program] = []
        self.environment: dict[str, str] = {}
        self._stack = stack

    def write_config(self) -> None:
        """Write the project that the clients need, on ports of its own."""
        (self.folder / "config.yaml").write_text(
            "workers:\n"
            f"  - name: iii-worker-manager\n    config: {{port: {self.worker_port}}}\n"
            "  - name: state\n"
            "  - name: database\n"
            f"  - name: http\n    config: {{port: {self.http_port}}}\n"
        )

    async def start(self) -> None:
        """Start the engine and wait until it takes connections."""
        words = [sys.executable, "-m", "linkly_engine"]
        self.engine = await self._stack.enter_async_context(
            running(words, cwd=self.folder, env={**os.environ, **self.environment})
        )
        async with asyncio.timeout(WAIT_S), Client(self.url, name="is-it-up"):
            pass

    async def kill(self) -> None:
        """End the engine as a power cut does."""
        assert self.engine is not None
        await self.engine.end(signal.SIGKILL)

    async def run_client(self, command: list[str]) -> Program:
        """Run a program that finds the engine by its environment; it ends with the module."""
        environment = {**os.environ, "III_URL": self.url, "OTEL_ENABLED": "true"}
        program = await self._stack.enter_async_context(running(command, env=environment))
        self.programs.append(program)
        return program

    async def trigger(self, *words: str, code: int = 0) -> str:
        """Run `linkly trigger` and return what it prints; on stderr for a failure."""
        output, errors = await self.run("trigger", *words, "--port", str(self.worker_port), code=code)
        return errors if code else output

    async def run(self, *words: str, code: int = 0, time_out: float = WAIT_S) -> tuple[str, str]:
        """Run `linkly` in the project folder; return what it printed on stdout and stderr."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "linkly_engine", *words),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(time_out):
            output, errors = await process.communicate()
        assert process.returncode == code, f"linkly {' '.join(words)}: {output.decode()}{errors.decode()}"
        return output.decode(), errors.decode()

    async def until_there(self, *function_ids: str) -> None:
        """Wait until clients have registered these functions, and what they registered before them."""

        async def all_there(bus: Client) -> bool:
            listed = await bus.trigger("engine::functions::list", {})
            return set(function_ids) <= {row["function_id"] for row in listed["functions"]}

        await self.until("engine::functions-available", all_there, f"functions {', '.join(function_ids)}")

    async def until_logged(self, body: str, **data: Any) -> dict[str, Any]:
        """Wait until `engine::logs::list` answers a line with this body, whose data has these values; return it."""
        found: list[dict[str, Any]] = []

        async def is_there(bus: Client) -> bool:
            for record in (await bus.trigger("engine::logs::list", {"limit": 200}))["logs"]:
                if record["body"] == body and data.items() <= record["attributes"].get("log.data", {}).items():
                    found.append(record)
            return bool(found)

        await self.until("log", is_there, f"log line {body} {data}")
        return found[0]

    async def until(self, event: str, is_so: Callable[[Client], Awaitable[bool]], what: str) -> None:
        """Wait until something is so; ask again whenever a trigger type says that it may have changed."""
        changed = asyncio.Event()

        async def note(payload: Any) -> None:
            changed.set()

        try:
            async with asyncio.timeout(WAIT_S), Client(self.url, name="watch") as bus:
                bus.register_function(Function("watch::note", note))
                bus.register_trigger("watch::note", trigger(event))
                while not await is_so(bus):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            said = "\n".join(line for program in self.programs for line in program.output)
            pytest.fail(f"never came: {what}; the programs said:\n{said}")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:  # all held until all are chosen, so that none is chosen twice
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@pytest.fixture(scope="module")
async def new_project() -> AsyncIterator[Callable[[Path], Linkly]]:
    """Make projects in folders that are there; at the end of the module whatever runs in them is stopped."""
    async with AsyncExitStack() as stack:

        def make(folder: Path) -> Linkly:
            linkly = Linkly(folder, stack)
            stack.push_async_callback(linkly.http.aclose)
            return linkly

        yield make


@pytest.fixture(scope="module")
def new_linkly(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], Linkly]
) -> Callable[[], Awaitable[Linkly]]:
    """Make running engines."""

    async def make() -> Linkly:
        linkly = new_project(tmp_path_factory.mktemp("project"))
        linkly.write_config()
        await linkly.start()
        return linkly

    return make
