"""Labels → which rows are learned from and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, check_cv

from instructclf.exceptions import InvalidLabelsError

Split = tuple[NDArray[np.intp], NDArray[np.intp]]
"""The rows to learn from and the rows held out."""
_FEW_ROWS = 512
"""Up to so many rows are cross-validated. Of more, as many, but at most a quarter, are held out."""
_N_FOLDS = 4


def split_rows(
    labels: NDArray[Any], cv: Any, random_state: Any, rows: Sequence[Any] | None = None
) -> list[Split]:
    """Return the rows to learn from and the rows held out, of each split.

    ``cv`` is ``"auto"``, a share of rows that are held out once, or whatever scikit-learn takes.

    Raises
    ------
    InvalidLabelsError
        If a label has a single row.
    """
    names, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        msg = (
            f"Label {names.tolist()[counts.argmin()]!r} has a single row, so it cannot be held "
            "out and learned from. Give at least two rows of each label, or fit one classifier "
            "alone."
        )
        raise InvalidLabelsError(msg)
    chosen = _choose(counts) if isinstance(cv, str) else cv
    splitter: Any = check_cv(_make_splitter(chosen, random_state), labels, classifier=True)
    taken = labels if rows is None else rows
    return [(np.asarray(a), np.asarray(b)) for a, b in splitter.split(taken, labels)]


def _choose(counts: NDArray[np.intp]) -> int | float:
    """Return a number of folds for few rows, or if a single split could not hold out each label."""
    n_rows = int(counts.sum())
    share = min(1 / _N_FOLDS, _FEW_ROWS / n_rows)
    if n_rows <= _FEW_ROWS or share * n_rows < len(counts):
        return min(_N_FOLDS, int(counts.min()))
    return share


def _make_splitter(cv: Any, random_state: Any) -> Any:
    if isinstance(cv, Integral):
        return StratifiedKFold(int(cv), shuffle=True, random_state=random_state)
    if isinstance(cv, Real):
        return StratifiedShuffleSplit(1, test_size=float(cv), random_state=random_state)
    return cv
