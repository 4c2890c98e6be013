"""Short codes: made by a generator that cannot be guessed, or chosen by the user."""

from __future__ import annotations

import re
import secrets
import string

from linkly.errors import LinklyError

ALPHABET = string.ascii_lowercase + string.digits
LENGTH = 6

_CHOSEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class InvalidCode(LinklyError):
    """A chosen code cannot be used."""

    code = "INVALID_CODE"


def make_code(length: int = LENGTH) -> str:
    """Return a random code of `[a-z0-9]`."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def check_code(code: str) -> str:
    """Return a chosen code.

    Raises:
        InvalidCode: It would not survive in a URL path.
    """
    if not _CHOSEN.fullmatch(code):
        raise InvalidCode(f"code {code!r} cannot be used: 1 to 64 letters, digits, `-` and `_`")
    return code
