"""What `worker::*` answers about the workers of config.yaml."""

from __future__ import annotations

import msgspec

from linkly_engine.project.member import Kind, Member, State


class WorkerRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One worker of config.yaml.

    Attributes:
        name: Its name there.
        kind: shipped, module (a class of one's own), or path (a program in a process of its own).
        running: Whether it serves calls.
        status: How it is; waiting: it ended by itself and is started again soon.
        pid: Of its own process, if it has one.
        functions: How many functions it serves.
        restarts: How often it was started again.
        path: Folder of the program.
        reason: Why it does not run, or not by the settings of config.yaml.
    """

    name: str
    kind: Kind
    running: bool
    status: State
    pid: int | None
    functions: int
    restarts: int
    path: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET


class WorkerList(msgspec.Struct):
    """The workers of config.yaml, in its order.

    Attributes:
        config_path: The file; null while the embedded defaults run.
        workers: One row for each entry.
        config_error: Why the file as it is now is not applied; null if it is.
    """

    config_path: str | None
    workers: list[WorkerRow]
    config_error: str | None = None


class WorkerStatus(WorkerRow, kw_only=True):
    """One worker in full.

    Attributes:
        started_at_ms: Since the epoch; null while it does not run.
        function_ids: What it serves.
        logs_dir: Where the log files of its program are.
        stdout_tail: Last lines of its output.
        stderr_tail: Last lines of its errors.
        hint: What to do next.
    """

    started_at_ms: int | None
    function_ids: list[str]
    logs_dir: str | None
    stdout_tail: list[str]
    stderr_tail: list[str]
    hint: str | None


class WorkerLogs(msgspec.Struct):
    """The last lines that a worker's program wrote.

    Attributes:
        name: The worker.
        logs_dir: Where the log files are; null for a worker in the engine's process, whose lines are the engine's.
        stdout: Its output, the last line last.
        stderr: Its errors, likewise.
    """

    name: str
    logs_dir: str | None
    stdout: list[str]
    stderr: list[str]


class WorkerNames(msgspec.Struct):
    """What the workers of config.yaml are called there.

    Attributes:
        names: The engine's id of a worker, as in `engine::workers::list` -> its name in config.yaml.
    """

    names: dict[str, str]


class WorkerOwner(msgspec.Struct):
    """Whose a connection is.

    Attributes:
        name: Of the program in config.yaml; null if it belongs to none.
    """

    name: str | None


def hint(member: Member, connected: bool) -> str | None:
    """Return what to do next about a worker that does not run, or runs and has no connection; `None`: nothing."""
    name, state = member.name, member.state
    if state == "stopped":
        return f"start it with `linkly worker start {name}`"
    if state in ("failed", "waiting") and member.child is not None:
        return f"see what it wrote with `linkly worker logs {name}`; a change of its files starts it again"
    if state == "failed":
        return f"correct its entry in config.yaml, or try again with `linkly worker restart {name}`"
    if state == "running" and member.child is not None and not connected:
        return "it runs, but has not connected: it has to connect to the address in its environment variable III_URL"
    return None
