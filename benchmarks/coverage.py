"""How often 95 % intervals contain the true mean: crossed bootstrap, widened or not, Student's t.

    python benchmarks/coverage.py

Simulated seeds have an effect on the probability of being right, and so have texts: seven in eight
are easy and right with a probability of 0.9, the others of 0.1. The true mean is 0.8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tables import Table, markdown

from instructclf.evaluation.intervals import (
    Interval,
    crossed_means,
    percentile_interval,
    resample_means,
    t_interval,
)

TRUE = 0.8
N_TRIALS = 300
N_DRAWS = 400
SETTINGS = (*((n, 2000, 0.03) for n in (2, 3, 5, 10, 20)), (20, 300, 0.01))
"""Seeds, texts, and the standard deviation of the seeds' effects."""


def main() -> None:
    """Print the shares."""
    rows = [
        (str(n_seeds), f"{n_texts:,}", f"{100 * spread:.0f} %", *shares(*setting))
        for setting in SETTINGS
        for n_seeds, n_texts, spread in [setting]
    ]
    header = ("seeds", "texts", "sd over seeds", "crossed bootstrap",
              "widened (`interval`)", "t over seeds")  # fmt: skip
    title = f"How often 95% intervals contain the true mean, in {N_TRIALS} simulated experiments"
    print(markdown(Table(title, header, rows)))


def shares(n_seeds: int, n_texts: int, spread: float) -> list[str]:
    """Return how often each interval contains the true mean."""
    rng = np.random.default_rng(0)
    held = [
        [interval.low <= TRUE <= interval.high for interval in _intervals(right, rng)]
        for right in (_simulate(n_seeds, n_texts, spread, rng) for _ in range(N_TRIALS))
    ]
    return [f"{100 * share:.0f}%" for share in np.mean(held, axis=0)]


def _simulate(
    n_seeds: int, n_texts: int, spread: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    of_seeds = rng.normal(0, spread, (n_seeds, 1))
    of_texts = np.where(rng.random((1, n_texts)) < 7 / 8, 0.9, 0.1)
    return rng.random((n_seeds, n_texts)) < of_texts + of_seeds


def _intervals(right: NDArray[np.bool_], rng: np.random.Generator) -> list[Interval]:
    n_seeds, n_texts = right.shape
    seeds = rng.integers(n_seeds, size=(N_DRAWS, n_seeds))
    texts = rng.integers(n_texts, size=(N_DRAWS, n_texts))
    return [
        percentile_interval(crossed_means(right.astype(float), seeds, texts)),
        percentile_interval(resample_means(right, n_resamples=N_DRAWS)),
        t_interval(right.mean(axis=1)),
    ]


if __name__ == "__main__":
    main()
