"""Short codes: made by a generator that cannot be guessed, or chosen by the user; and how the store spells them."""

from __future__ import annotations

import asyncio
import re
import secrets
import string
from collections.abc import Awaitable, Callable

from linkly.errors import ConfigError, LinklyError

ALPHABET = string.ascii_lowercase + string.digits
MAX_LENGTH = 64

_CHOSEN = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_LENGTH}}}")

GROW_AFTER = 4
"""Taken codes in a row after which codes get longer: by then more than half of them are probably taken."""


class InvalidCode(LinklyError):
    """A chosen code cannot be used."""

    code = "INVALID_CODE"


class CodeMaker:
    """Makes random codes of `[a-z0-9]`; they grow by a character when the short ones run out."""

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


class Spellings:
    """Finds the spelling that the store has of a code.

    Where the case of a code does not count, new codes are kept in lower case. Links of a time when it counted keep
    theirs, so that their clicks stay with them and the setting can be taken back.

    Args:
        codes_with_capitals: As `LinkStore` has it.
        case_sensitive: `Ab` and `ab` are two codes: every code is written as it is given.
    """

    def __init__(self, codes_with_capitals: Callable[[], Awaitable[list[str]]], *, case_sensitive: bool) -> None:
        self._codes_with_capitals = codes_with_capitals
        self._case_sensitive = case_sensitive
        self._capitals: dict[str, str] = {}
        self._learning = asyncio.Lock()  # so that what was read last is what is known

    async def learn(self) -> None:
        """Read from the store which codes are not all lower case.

        Raises:
            ConfigError: Two codes differ in nothing but their case, which does not count.
        """
        if self._case_sensitive:
            return
        async with self._learning:
            capitals = await self._codes_with_capitals()
            self._capitals = {code.lower(): code for code in capitals}
            if len(self._capitals) < len(capitals):
                twice = next(code for code in capitals if self._capitals[code.lower()] != code)
                raise ConfigError(
                    f"link: case_sensitive: false would make one code of `{twice}` and "
                    f"`{self._capitals[twice.lower()]}`, which are two links; delete one of them first"
                )

    def of(self, code: str) -> str:
        """Return a code as the store has it, or as a new one is kept."""
        if self._case_sensitive:
            return code
        folded = code.lower()
        return self._capitals.get(folded, folded)
