"""Which ends of a program no second attempt can help: only a change of its files, or of the machine.

A missing command, a missing module, a syntax error. Told by the exit code and by what interpreters write last. Pure;
when in doubt a program is started again.
"""

from __future__ import annotations

import re

COMMAND_CODES = (126, 127)
"""Of a shell: the command cannot be executed, or is not there."""

_PYTHON = re.compile(r"(?:ModuleNotFoundError|SyntaxError|IndentationError|TabError)(?:: |\Z)")
_PYTHON_FILE = re.compile(r"\S*python\S*: can't open file .*\[Errno 2\]|\S*python\S*: No module named ")
_PYTHON_SOURCE = re.compile(r'File "([^"]*)"')
_NODE = re.compile(
    r"(?:Uncaught )?(?:Error: Cannot find (?:module|package) |Error \[ERR_MODULE_NOT_FOUND\]|Error \[TransformError\])"
)
_NODE_SYNTAX = re.compile(r"SyntaxError: (?!.*\bJSON\b)")


def is_hopeless(returncode: int | None, lines: list[str]) -> bool:
    """Tell whether a program that has ended before it served would end in the same way again.

    Args:
        returncode: Its exit code, negative for a signal.
        lines: The last that it wrote to stderr, without colours and the blanks around them.
    """
    if returncode in COMMAND_CODES:
        return True
    if returncode is None or returncode <= 0 or not lines:
        return False
    last = lines[-1]
    if _PYTHON_FILE.match(last):
        return True
    if _PYTHON.match(last) and not last.startswith("ModuleNotFoundError"):
        # Of a text that was read as code while it ran, the next one may be a better one.
        sources = [found[1] for line in lines for found in _PYTHON_SOURCE.finditer(line)]
        return bool(sources) and not sources[-1].startswith("<")
    if _PYTHON.match(last):
        return True
    # Node ends with its version, behind the error and the places of the program that led there.
    return last.startswith("Node.js v") and any(_NODE.match(line) or _NODE_SYNTAX.match(line) for line in lines)
