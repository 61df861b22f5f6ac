"""Seconds of the runs that are done → seconds of those that are left, by cost and not by count."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np


class Cost(NamedTuple):
    """What a run takes, compared with runs of the same kind."""

    kind: Hashable = None
    weight: float = 1.0


class RemainingTime:
    """Estimates how long groups of similar runs still take.

    A group takes as long for each run as it has taken so far. A group that has not begun takes as
    long as others of its kind, by weight.

    Parameters
    ----------
    counts : mapping of str to int
        The number of runs of each group.
    costs : mapping of str to Cost
        What a run of each group takes.
    """

    def __init__(self, counts: Mapping[str, int], costs: Mapping[str, Cost]) -> None:
        self._counts, self._costs = counts, costs
        self._seconds: dict[str, list[float]] = {name: [] for name in counts}

    def add(self, group: str, seconds: float) -> None:
        """Count a run as done."""
        self._seconds[group].append(seconds)

    def estimate(self) -> float | None:
        """Return the seconds that are left, or ``None`` if nothing tells how long a group takes."""
        left = 0.0
        for group, done in self._seconds.items():
            n_left = self._counts[group] - len(done)
            each = self._estimate_run(group) if n_left else 0.0
            if each is None:
                return None
            left += n_left * each
        return left

    def _estimate_run(self, group: str) -> float | None:
        if done := self._seconds[group]:
            return float(np.mean(done))
        kind, weight = self._costs[group]
        rates = [
            np.mean(seconds) / self._costs[other].weight
            for other, seconds in self._seconds.items()
            if seconds and self._costs[other].kind == kind
        ]
        return float(np.mean(rates)) * weight if rates else None
