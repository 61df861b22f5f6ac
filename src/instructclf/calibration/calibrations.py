"""What a calibrator looks at, and what it returns: a bias and a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Evidence(Protocol):
    """What a calibrator may look at: the rows of ``fit``, and what the fitted prompt says."""

    texts: list[str]
    """The texts of ``fit``."""
    codes: NDArray[np.intp]
    """The position of each text's label among the classes, of shape (n_texts,)."""
    n_classes: int
    classes: NDArray[Any]
    """The labels, sorted, which messages name."""
    shots: NDArray[np.intp]
    """Positions of the rows that the classifier has learned from."""
    what: str
    """What messages say of whom: "This classifier", or one of several questions."""

    def score(self, texts: Sequence[str], *, relative: bool = False) -> NDArray[np.float64]:
        """Return label log-likelihoods.

        Parameters
        ----------
        texts : sequence of str
            The texts.
        relative : bool, default=False
            Whether all scores of a text may be shifted by the same number, which takes less time.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            ``log p(label | prompt)`` of each text.
        """
        ...

    def score_shots(self, *, relative: bool = False) -> NDArray[np.float64] | None:
        """Score each shot as if it had not been one, or return ``None`` where that costs a fit.

        Parameters
        ----------
        relative : bool, default=False
            That of `score`.

        Returns
        -------
        ndarray of shape (n_shots, n_classes) or None
            The scores.
        """
        ...


@dataclass(frozen=True)
class Calibration:
    """How log-likelihoods become probabilities: ``softmax((S - bias) / temperature)``.

    Parameters
    ----------
    bias : ndarray of shape (n_classes,)
        What is subtracted from each label's log-likelihood. Its mean is 0.
    temperature : float
        What the differences are divided by.
    n_rows : int
        How many texts it was estimated from. 0 where nothing is changed.
    """

    bias: NDArray[np.float64]
    temperature: float
    n_rows: int

    def log_probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log-probabilities of the labels.

        Parameters
        ----------
        scores : ndarray of shape (n_texts, n_classes)
            Label log-likelihoods.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Log-probabilities, whose exponentials sum to 1 in each row.
        """
        return log_softmax((scores - self.bias) / self.temperature)


def no_calibration(n_classes: int) -> Calibration:
    """Return the calibration that only normalises.

    Parameters
    ----------
    n_classes : int
        The number of labels.

    Returns
    -------
    Calibration
        Without bias, at temperature 1.
    """
    return Calibration(np.zeros(n_classes), 1.0, 0)


def log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalise each row so that its exponentials sum to 1."""
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
