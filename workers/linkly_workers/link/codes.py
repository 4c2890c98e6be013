"""Short codes: made by a generator that cannot be guessed, or chosen by the user."""

from __future__ import annotations

import re
import secrets
import string

from linkly.errors import LinklyError

ALPHABET = string.ascii_lowercase + string.digits
MAX_LENGTH = 64

_CHOSEN = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_LENGTH}}}")

GROW_AFTER = 4
"""Taken codes in a row after which codes get longer: by then more than half of them are probably taken."""


class InvalidCode(LinklyError):
    """A chosen code cannot be used."""

    code = "INVALID_CODE"


class CodeMaker:
    """Makes random codes of `[a-z0-9]`; they grow by a character when the short ones run out.

    Args:
        length: Characters to start with.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._taken_in_a_row = 0

    def make(self) -> str:
        """Return a code, from the operating system's generator."""
        return "".join(secrets.choice(ALPHABET) for _ in range(self.length))

    def tell(self, *, taken: bool) -> None:
        """Note whether the last code was taken; after `GROW_AFTER` taken ones in a row codes get longer."""
        self._taken_in_a_row = self._taken_in_a_row + 1 if taken else 0
        if self._taken_in_a_row >= GROW_AFTER and self.length < MAX_LENGTH:
            self.length += 1
            self._taken_in_a_row = 0


def check_code(code: str) -> str:
    """Return a chosen code.

    Raises:
        InvalidCode: It would not survive in a URL path.
    """
    if not _CHOSEN.fullmatch(code):
        raise InvalidCode(f"code {code!r} cannot be used: 1 to {MAX_LENGTH} letters, digits, `-` and `_`")
    return code
