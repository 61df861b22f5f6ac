"""Confidences of held-out rows, and which are right → the threshold that keeps a stated risk.

Fixed-sequence testing of Angelopoulos et al., "Learn then Test" (Annals of Applied Statistics
19(2), 2025), with exact binomial tests. The most confident rows are tested first, then one more at
a time, and the first test that fails ends the sequence, so that no test needs a correction for
their number. The sequence begins where the binomial test admits as many errors as among a third of
the rows: tests on fewer rows would end it by a single error. This decides more than the binary
search of Geifman and El-Yaniv (NeurIPS 2017), which divides ``1 - confidence`` by the number of its
tests; a test compares the two.
"""

from __future__ import annotations

from math import ceil, inf, log, log1p

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom


def rows_needed(risk: float, confidence: float) -> int:
    """Return the number of held-out rows that can show a risk, if all of them are right."""
    return ceil(log(1 - confidence) / log1p(-risk))


def errors_allowed(n_rows: NDArray[np.intp], risk: float, confidence: float) -> NDArray[np.intp]:
    """Return how many of so many rows may be wrong, -1 where no number is small enough.

    So many errors or fewer have a probability of at most ``1 - confidence`` if each row is wrong
    with a probability of ``risk``: the upper bound of Clopper and Pearson is at most ``risk``.
    """
    level = 1 - confidence
    least = binom.ppf(level, n_rows, risk)  # the fewest errors that are likely enough
    return (least - (binom.cdf(least, n_rows, risk) > level)).astype(np.intp)


def find_threshold(
    confidences: NDArray[np.float64],
    correct: NDArray[np.bool_],
    *,
    risk: float,
    confidence: float,
) -> float:
    """Return the confidence above which at most a share of ``risk`` is wrong, or infinity.

    For independent rows, the share exceeds ``risk`` with a probability of at most
    ``1 - confidence``. Proof: let G be the texts that are more confident than the first threshold
    of the sequence whose risk is too high. Given their number among the rows, errors in G are
    binomial with a probability of ``risk`` or more, and the test on G has to fail for no threshold
    beyond to be reached. Thresholds are those of rows, and texts must exceed them, because rows
    above the k-th are independent given its confidence.
    """
    order = np.argsort(-confidences, kind="stable")
    ranked, n_rows = confidences[order], len(confidences)
    n_decided = np.arange(n_rows + 1)
    n_wrong = np.concatenate([[0], np.cumsum(~correct[order])])
    allowed = errors_allowed(n_decided, risk, confidence)
    start = np.searchsorted(allowed, max(allowed[n_rows // 3], 0))
    # What the last row left out has, and 0 where none is left out.
    thresholds = np.append(ranked, 0.0)
    apart = np.append(True, np.append(ranked[:-1] > ranked[1:], True))  # equal ones stay together
    tested = n_decided[start:][apart[start:]]
    passed = np.cumprod(n_wrong[tested] <= allowed[tested], dtype=bool)
    return float(thresholds[tested[passed][-1]]) if passed.any() else inf
