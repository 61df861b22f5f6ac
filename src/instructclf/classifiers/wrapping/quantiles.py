"""Probabilities of the right labels of held-out rows → how probable a label in a set must be.

Split conformal prediction: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World"
(Springer 2005), as told by Angelopoulos and Bates, "Conformal Prediction: A Gentle Introduction"
(Foundations and Trends in Machine Learning 16(4), 2023). The score of a label is one minus its
probability, that of Sadinle, Lei and Wasserman, "Least Ambiguous Set-Valued Classifiers with
Bounded Error Levels" (Journal of the American Statistical Association 114, 2019), which gives the
smallest sets. A quantile of these scores is a quantile of probabilities, counted from the largest.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray


def rows_needed(confidence_level: float) -> int:
    """Return the number of held-out rows from which a quantile at this level can be taken."""
    level = _exact(confidence_level)
    return ceil(level / (1 - level))


def find_least_probability(right: NDArray[np.float64], confidence_level: float) -> float:
    """Return the least probability of a label in a set, from those of the right labels of rows.

    The right label of one more text of the same kind is that probable or more with a probability
    of at least ``confidence_level``. Proof: its rank among ``n + 1`` exchangeable probabilities is
    uniform, so it is one of the ``k`` largest in ``k`` of ``n + 1`` cases, and in more if some are
    equal.
    """
    rank = ceil((len(right) + 1) * _exact(confidence_level))
    return float(np.sort(right)[len(right) - rank])


def _exact(level: float) -> Fraction:
    """Return a level as it is written: as a float, 0.55 times 100 exceeds 55."""
    return Fraction(repr(float(level)))
