"""Does a start command watch its sources by itself? Then the engine leaves source changes to it.

A judgement from text: the command, and the scripts of package.json it leads to.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_TOOLS = "nodemon|watchfiles|watchexec|watchmedo|ts-node-dev|tsnd|cargo-watch|bacon|entr|air|reflex|supervisor|uv-watch"
_WATCHES = re.compile(
    rf"(?:^|[\s;&|(/'\"])(?:{_TOOLS})(?=$|[\s'\"])"
    r"|(?:^|[\s;&|(/])(?:tsx|cargo|rolldown|bun)\s+(?:-\S+\s+)*watch(?=$|\s)"
    r"|(?:^|\s)(?:--watch|--watch-path|--hot|--reload)(?=$|[\s=])"
)
_SCRIPT = re.compile(
    r"(?:^|[\s;&|(])(?:npm|pnpm|yarn|bun)\s+(?:-\S+\s+)*(?:(?:run|run-script)\s+)?(?:-\S+\s+)*([\w:.@/-]+)"
)
_DEPTH = 5


def watches_itself(command: str, folder: Path) -> bool:
    """Tell whether a command reloads its program when sources change, as `tsx watch` or `uvicorn --reload` do."""
    return _watches(command, _scripts(folder), _DEPTH)


def _watches(command: str, scripts: dict[str, Any], depth: int) -> bool:
    if _WATCHES.search(command):
        return True
    if depth == 0:
        return False
    called = (scripts.get(match[1]) for match in _SCRIPT.finditer(command))
    return any(isinstance(script, str) and _watches(script, scripts, depth - 1) for script in called)


def _scripts(folder: Path) -> dict[str, Any]:
    try:
        package = json.loads((folder / "package.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    scripts = package.get("scripts") if isinstance(package, dict) else None
    return scripts if isinstance(scripts, dict) else {}
