"""What a row is: sides to measure by turns, and what is hoped for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

Figures = Mapping[str, float]
"""What one turn measured, by name: `"requests/s"`, `"p99 ms"`, `"CPU us"`."""

OfRounds = Mapping[str, list[float]]
"""The figures of a side, one value a round."""

Measure = Callable[[float], Figures]
"""Measures a side that is open, for so many seconds."""

OpenOurs = Callable[[Path], AbstractContextManager[Measure]]
"""Opens linkly of a checkout."""

OpenPeer = Callable[[], AbstractContextManager[Measure]]
"""Opens what linkly is compared with; raises `Missing` where that cannot be had."""


class Missing(Exception):
    """A peer cannot be installed or found here; the text says what is missing."""


@dataclass(frozen=True)
class Goal:
    """What a figure should be, or its ratio to a peer's.

    Attributes:
        side: Of linkly.
        figure: Its name.
        bound: The least (or with `at_most` the largest) value.
        peer: The figure is divided by that of this peer in the same round.
        at_most: Less is better.
    """

    side: str
    figure: str
    bound: float
    peer: str | None = None
    at_most: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        name: For the command line.
        title: What is done, as a phrase.
        ours: Sides of linkly.
        peers: What they are compared with.
        goals: What is hoped for.
        rounds: How often every side has its turn, unless the command says otherwise.
        seconds: How long a turn is.
        warm_up: One more round comes first, and is not kept.
        only_named: It takes long: only a command that names it measures it.
        over_rounds: Returns what only all rounds of a side together tell, from their figures.
    """

    name: str
    title: str
    ours: Mapping[str, OpenOurs]
    peers: Mapping[str, OpenPeer] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()
    rounds: int = 5
    seconds: float = 3.0
    warm_up: bool = True
    only_named: bool = False
    over_rounds: Callable[[OfRounds], OfRounds] = lambda _: {}
