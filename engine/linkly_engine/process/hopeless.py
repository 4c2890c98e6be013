"""Which ends of a program would repeat themselves: a missing command, a missing module, a syntax error.

Only a change of its files or of the machine helps. Judged by the exit code and the last lines that interpreters write;
in doubt a program is started again.
"""

from __future__ import annotations

import re

COMMAND_CODES = (126, 127)
"""Exit codes of a shell: the command cannot be executed, or does not exist."""

_PYTHON_MODULE = re.compile(
    r"ModuleNotFoundError(?:: |\Z)|\S*python\S*: (?:can't open file .*\[Errno 2\]|No module named )"
)
_PYTHON_SYNTAX = re.compile(r"(?:Syntax|Indentation|Tab)Error(?:: |\Z)")
_PYTHON_SOURCE = re.compile(r'File "([^"]*)"')
_NODE = re.compile(
    r"(?:Uncaught )?(?:Error: Cannot find (?:module|package) |Error \[ERR_MODULE_NOT_FOUND\]|Error \[TransformError\])"
)
_NODE_SYNTAX = re.compile(r"SyntaxError: (?!.*\bJSON\b)")


def is_hopeless(returncode: int | None, lines: list[str]) -> bool:
    """Return whether a program that ended before it served would end in the same way again.

    Args:
        returncode: Its exit code, negative for a signal.
        lines: The last that it wrote to stderr, without colours and the blanks around them.
    """
    if returncode in COMMAND_CODES:
        return True
    if returncode is None or returncode <= 0 or not lines:
        return False
    last = lines[-1]
    if _PYTHON_MODULE.match(last):
        return True
    if _PYTHON_SYNTAX.match(last):
        # In a text that was compiled while it ran (`<string>`), the next one may be correct.
        sources = [found[1] for line in lines for found in _PYTHON_SOURCE.finditer(line)]
        return bool(sources) and not sources[-1].startswith("<")
    # Node writes its version last, behind the error and its stack.
    return last.startswith("Node.js v") and any(_NODE.match(line) or _NODE_SYNTAX.match(line) for line in lines)
