"""Sessions of processes: their members, and how one is ended. Also the guard's program.

Every script of a worker is the leader of a session of its own, so that everything it starts can be found and ended
with it. This file is run as `python -I -S sessions.py` too, as the guard that ends all sessions when the engine is
killed: it must import nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

GUARD_GRACE_S = 3.0
STEP_S = 0.05


def members(session: int) -> list[int]:
    """Return the processes of a session or of its leader's process group, without those that have ended.

    Where there is no /proc, only the process group can be asked, and its leader stands for it.
    """
    try:
        names = os.listdir("/proc")
    except OSError:
        return [session] if _group_exists(session) else []
    found: list[int] = []
    for name in names:
        if name.isdigit():
            fields = _stat(int(name))
            # State, parent, process group, session; a zombie only waits for its parent.
            if len(fields) > 3 and fields[0] not in ("Z", "X") and str(session) in (fields[2], fields[3]):
                found.append(int(name))
    return found


def send(session: int, number: int) -> None:
    """Send a signal to everything in a session; nothing happens if it is empty."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, number)
    for pid in members(session):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) != session:
                os.kill(pid, number)


def started(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot: a later process with the same number differs in it."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else None


def end_all(sessions: dict[int, str | None], grace_s: float = GUARD_GRACE_S) -> None:
    """End sessions with SIGTERM, and with SIGKILL those that are left after `grace_s`.

    Args:
        sessions: Session -> when its leader started.
        grace_s: Time between the two signals.
    """
    # The kernel does not reuse the number of a session while one of its processes lives. Afterwards another process
    # may have the number, with another start time.
    ours = [session for session, since in sessions.items() if started(session) in (None, since)]
    for session in ours:
        send(session, signal.SIGTERM)
    until = time.monotonic() + grace_s
    while any(members(session) for session in ours):
        if time.monotonic() >= until:
            for session in ours:
                send(session, signal.SIGKILL)
            return
        time.sleep(STEP_S)  # not children of this process: the kernel does not report their end


def guard() -> None:
    """Take `+SESSION` and `-SESSION` lines from stdin; at its end, end the sessions that are left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions: dict[int, str | None] = {}
    for line in sys.stdin.buffer:
        session = int(line[1:])
        if line[:1] == b"+":
            sessions[session] = started(session)
        else:
            sessions.pop(session, None)
    end_all(sessions)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode("ascii", "replace").split()
    except OSError:
        return []


if __name__ == "__main__":
    guard()
