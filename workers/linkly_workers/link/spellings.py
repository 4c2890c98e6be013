"""How codes are written in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from linkly.errors import ConfigError


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
