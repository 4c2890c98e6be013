"""JSON that a server sends, as a value."""

from __future__ import annotations

import json
from typing import Any


def json_value(text: str) -> Any:
    """Return a JSON value; what Python cannot read (too deep, integers of thousands of digits) stays text."""
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return text
