"""A project with a real `linkly` process, and the programs that are its clients."""

import asyncio
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from linkly import Client, Function, trigger
from support.engine_process import COMMAND
from support.ports import reserved_port
from support.program import WAIT_S, Program


class ProjectWithClients:
    """A project folder, the `linkly` process that runs in it, and the programs that are its clients."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.worker_port, self.http_port = (stack.enter_context(reserved_port()) for _ in range(2))
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
        self.engine = self._run(COMMAND, folder=self.folder, environment=self.environment)
        async with asyncio.timeout(WAIT_S), Client(self.url, name="is-it-up"):
            pass

    async def kill(self) -> None:
        """End the engine as a power cut does."""
        assert self.engine is not None
        await self.engine.ended(signal.SIGKILL)

    def run_client(self, command: list[str]) -> Program:
        """Run a program that finds the engine by its environment; it ends with the module."""
        program = self._run(command, environment={"III_URL": self.url, "OTEL_ENABLED": "true"})
        self.programs.append(program)
        return program

    def _run(self, words: Sequence[str], **options: Any) -> Program:
        program = Program(words, **options)
        self._stack.push_async_callback(asyncio.to_thread, program.stop)
        return program

    async def trigger(self, *words: str, code: int = 0) -> str:
        """Run `linkly trigger` and return what it prints; on stderr for a failure."""
        output, errors = await self.run("trigger", *words, "--port", str(self.worker_port), code=code)
        return errors if code else output

    async def run(self, *words: str, code: int = 0, time_out: float = WAIT_S) -> tuple[str, str]:
        """Run `linkly` in the project folder; return what it printed on stdout and stderr."""
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, *words),
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
            engine = [] if self.engine is None else [self.engine]
            said = "\n".join(line for program in (*engine, *self.programs) for line in program.lines)
            pytest.fail(f"never came: {what}; the engine and the programs said:\n{said}")
