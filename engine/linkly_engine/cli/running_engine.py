"""The engine that runs a project, as commands see it: whether it runs, and runs this project; the state of its workers.

Each question is a short connection of its own. The engine follows config.yaml by itself; commands only wait for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from linkly_engine.cli.command import Failure, Target
from linkly_engine.cli.engine_link import EngineLink, EngineUnreachable, Late
from linkly_engine.cli.show import note
from linkly_engine.cli.worker_port import Where

CALL_MS = 10_000
READY_S = 120.0
POLL_S = 0.15
REFUSED_AFTER_S = 3.0
"""How long the engine may still speak of the file as it was before it was changed."""

Row = dict[str, Any]


class CallFailed(Failure):
    """A function answered with an error.

    Attributes:
        code: Of the error.
    """

    def __init__(self, error: Any) -> None:
        body: dict[str, Any] = error if isinstance(error, dict) else {"message": str(error)}
        super().__init__(str(body.get("message", "")))
        self.code = str(body.get("code", ""))


class RunningEngine:
    """An engine at an address."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self.where = f"{where.address}:{where.port}"

    def call(self, function_id: str, payload: Any, timeout_ms: int = CALL_MS) -> Any:
        """Call a function.

        Raises:
            EngineUnreachable: There is no engine, or no answer in time.
            CallFailed: It answered with an error.
        """
        link = EngineLink(self._where, timeout_ms)
        try:
            answer = link.call(function_id, payload)
        finally:
            link.close()
        if answer.get("error") is not None:
            raise CallFailed(answer["error"])
        return answer.get("result")

    def listing(self) -> dict[str, Any]:
        """Return the answer of `worker::list`."""
        return dict(self.call("worker::list", {}))


def find_engine(target: Target) -> tuple[RunningEngine | None, str]:
    """Look for the engine that runs a config file.

    Returns:
        The engine, or `None` and why: none runs, or it runs another project.
    """
    where = target.where()
    engine = RunningEngine(where)
    try:
        listing = engine.listing()
    except Late as error:
        return None, str(error)
    except EngineUnreachable:
        return None, "engine not running; start it with `linkly`" + (where.doubt and f". {where.doubt}")
    except CallFailed:
        return None, f"what runs at {engine.where} knows no projects"
    theirs = listing.get("config_path")
    if theirs is None:
        return None, f"the engine at {engine.where} runs without a config.yaml; start one here with `linkly`"
    if Path(theirs).resolve() != target.path.resolve():
        return None, f"the engine at {engine.where} runs another project ({theirs})"
    return engine, ""


def wait_until_running(engine: RunningEngine, names: list[str]) -> int:
    """Wait until workers run; return 0, 1 if one has failed, 2 if one is not ready in time. Says what happens."""
    said: dict[str, str] = {}
    code = 0

    def all_known(rows: dict[str, Row]) -> bool:
        nonlocal code
        left = False
        for name in names:
            row = rows.get(name)
            status = str(row.get("status")) if row is not None else "not there yet"
            reason = str((row or {}).get("reason") or "")
            if said.get(name) != status + reason and row is not None:
                note(f"  {name}: {status}" + (f" ({reason})" if reason else ""))
                said[name] = status + reason
            if status in ("failed", "stopped"):
                code = 1
            elif status != "running":
                left = True
        return not left

    if _poll(engine, all_known):
        return code
    note(f"not ready after {READY_S:g} s: " + ", ".join(names))
    return code or 2


def wait_until_gone(engine: RunningEngine, names: list[str]) -> int:
    """Wait until workers are no longer listed; return 0, or 2 if they still are."""
    if _poll(engine, lambda rows: not any(name in rows for name in names)):
        return 0
    note(f"not applied after {READY_S:g} s")
    return 2


def _poll(engine: RunningEngine, done: Callable[[dict[str, Row]], bool]) -> bool:
    started = time.monotonic()
    while (passed := time.monotonic() - started) < READY_S:
        listing = engine.listing()
        if done({str(row.get("name")): row for row in listing.get("workers") or []}):
            return True
        refused = listing.get("config_error")
        if refused and passed > REFUSED_AFTER_S:
            raise Failure(f"the engine keeps the earlier configuration: {refused}")
        time.sleep(POLL_S)  # the state of another process, which reports no changes
    return False
