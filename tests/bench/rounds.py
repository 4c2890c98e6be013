"""Sides by turns: each once a round, another one first every time; what else the machine does weighs on all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import load
from tests.bench.processes import THIS
from tests.bench.row import Goal, Measure, Missing, Row


@dataclass
class Result:
    """What the rounds of one row have brought.

    Attributes:
        row: Its name.
        title: Its title.
        figures: By side and name, one value a round.
        skipped: Why a side was not measured.
        pairs: Which side is compared with which.
        goals: What was hoped for.
        client: What has loaded over HTTP; empty if nothing has.
    """

    row: str
    title: str
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    goals: tuple[Goal, ...] = ()
    client: str = ""

    def ratios(self, side: str, peer: str, figure: str) -> list[float]:
        """Return a figure of a side divided by that of another one, round by round."""
        ours, theirs = self.figures[side][figure], self.figures[peer][figure]
        return [mine / other if other else float("inf") for mine, other in zip(ours, theirs, strict=True)]

    def reached(self, goal: Goal) -> float | None:
        """Return the median that a goal is about, None where it was not measured."""
        for side in (goal.side, goal.peer or goal.side):
            if goal.figure not in self.figures.get(side, {}):
                return None
        if goal.peer is not None:
            return statistics.median(self.ratios(goal.side, goal.peer, goal.figure))
        return statistics.median(self.figures[goal.side][goal.figure])

    def as_json(self) -> dict[str, Any]:
        """Return everything for a file."""
        goals = [{**vars(goal), "reached": self.reached(goal)} for goal in self.goals]
        return {**vars(self), "goals": goals, "ratios": self._all_ratios()}

    def _all_ratios(self) -> dict[str, dict[str, float]]:
        return {
            f"{side} / {peer}": {
                figure: statistics.median(self.ratios(side, peer, figure))
                for figure in self.figures[side]
                if figure in self.figures[peer]
            }
            for side, peer in self.pairs
        }


Open = Callable[[], AbstractContextManager[Measure]]


def run(
    row: Row,
    *,
    rounds: int | None = None,
    seconds: float | None = None,
    against: Path | None = None,
    only: Sequence[str] = (),
) -> Result:
    """Measure a row.

    Args:
        row: What to measure.
        rounds: In place of the row's own number.
        seconds: The length of a turn, in place of the row's own.
        against: Another checkout, in place of the peers.
        only: Texts, one of which the name of a side must contain.
    """
    sides, pairs = _sides(row, against)
    wanted = {name: opening for name, opening in sides.items() if not only or any(text in name for text in only)}
    result = Result(row.name, row.title, goals=() if against else row.goals)
    with ExitStack() as stack:
        opened: dict[str, Measure] = {}
        for name, opening in wanted.items():
            try:
                opened[name] = stack.enter_context(opening())
            except Missing as reason:
                result.skipped[name] = str(reason)
        names = list(opened)
        result.figures = {name: {} for name in names}
        for number in range(0 if row.warm_up else 1, (rounds or row.rounds) + 1):
            turn = number % len(names) if names else 0
            for name in names[turn:] + names[:turn]:
                figures = opened[name](seconds or row.seconds)
                if number:
                    for figure, value in figures.items():
                        result.figures[name].setdefault(figure, []).append(value)
    for figures_of_side in result.figures.values():
        figures_of_side.update(row.over_rounds(figures_of_side))
    if any(load.CLIENT_CPU in figures for figures in result.figures.values()):
        result.client = load.client()
    result.pairs = [pair for pair in pairs if pair[0] in result.figures and pair[1] in result.figures]
    return result


def _sides(row: Row, against: Path | None) -> tuple[dict[str, Open], list[tuple[str, str]]]:
    sides: dict[str, Open] = {}
    pairs: list[tuple[str, str]] = []
    for name, opening in row.ours.items():
        sides[name] = partial(opening, THIS)
        if against is not None:
            sides[f"{name}, other"] = partial(opening, against)
            pairs.append((name, f"{name}, other"))
        else:
            pairs += [(name, peer) for peer in row.peers]
    if against is None:
        sides |= row.peers
    return sides, pairs
