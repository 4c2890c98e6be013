"""How a program ended, in one sentence: exit code or signal, what to do, and the line that names its error."""

from __future__ import annotations

import re
import signal

from linkly_engine.process.program import Program

SHOWN_LINES = 5

_ERROR_LINE = re.compile(r"(?:Uncaught )?(?:[A-Za-z_][\w.]*)?(?:Error|Exception|Interrupt)(?: \[\w+\])?(?:: .+|$)")
_INSTALLER_LINE = re.compile(
    r"ERROR: (?P<pip>.+)|npm (?:error|ERR!) (?!code |errno |syscall |A complete log)(?P<npm>.*\w\W+\w.*)"
)
INSTALLER_LINES = 2


def explain(program: Program) -> str:
    """Return how a program ended and the last that it wrote, the end of a sentence that begins with its name."""
    code = program.returncode
    if code is None:
        text = "runs"
    elif code < 0:
        text = f"was ended by {_signal(-code)}"
    elif code == 0:
        text = "ended with exit code 0, but a worker's start command has to keep running"
    elif code == 126:
        text = "ended with exit code 126: a command cannot be executed; is it a program, and may it be run?"
    elif code == 127:
        text = "ended with exit code 127: a command was not found; is it installed, and on PATH?"
    else:
        text = f"ended with exit code {code}" + (f" ({_signal(code - 128)})" if code > 128 else "")
    lines = program.recent()
    error = error_line(lines)
    if error is not None:
        return f"{text}: {error}"
    lines = lines[-SHOWN_LINES:]
    return f"{text}; its last lines: {' | '.join(lines)}" if lines else f"{text}, without a word"


def error_line(lines: list[str]) -> str | None:
    """Return the line that names the error a program ended with; `None`: none does.

    Python writes it last, below its traceback; Node first, above its stack. pip and npm mark theirs, among warnings and
    repetitions; the first two are returned as one.
    """
    named = [line for line in lines if _ERROR_LINE.match(line)]
    if any(line.startswith("Traceback (") for line in lines):
        return named[-1] if named and named[-1] in lines[-SHOWN_LINES:] else None
    if named and any(line.startswith(("at ", "Node.js v")) for line in lines):
        return named[0]
    marked = [found["pip"] or found["npm"].strip() for found in map(_INSTALLER_LINE.fullmatch, lines) if found]
    return " | ".join(marked[:INSTALLER_LINES]) or None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
