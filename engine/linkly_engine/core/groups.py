"""A dict of groups: who owns what, who stands in line for what. Each group keeps the order of entry, none is empty."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

G = TypeVar("G", bound=Hashable)
M = TypeVar("M", bound=Hashable)
V = TypeVar("V")


class Groups(dict[G, dict[M, V]]):
    """Values by group and member."""

    def put(self, group: G, member: M, value: V) -> None:
        """Enter a value at the end of a group, or in place of the one that this member has."""
        members = self.get(group)
        if members is None:
            self[group] = {member: value}
        else:
            members[member] = value

    def take(self, group: G, member: M) -> V | None:
        """Take a value out and return it; `None` if there is none."""
        members = self.get(group)
        if members is None:
            return None
        value = members.pop(member, None)
        if not members:
            del self[group]
        return value

    def of(self, group: G) -> list[V]:
        """Return the values of a group, in order."""
        members = self.get(group)
        return [*members.values()] if members is not None else []

    def first(self, group: G) -> V | None:
        """Return the value that was entered first."""
        members = self.get(group)
        return next(iter(members.values())) if members is not None else None

    def last(self, group: G) -> V | None:
        """Return the value that was entered last."""
        members = self.get(group)
        return next(reversed(members.values())) if members is not None else None
