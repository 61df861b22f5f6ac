"""Label log-likelihoods → the bias and temperature that make them probabilities.

By default the bias of a label is its mean log-likelihood over labelled texts, each class counted
alike (Bhatt and Ivanova, "RBCorr", 2026). Estimated at ``fit``, it depends on no test row, and a
text's answer on no neighbour.

Three earlier ways differ in the texts they look at, and take the mean of probabilities: texts
without content ("contextual"), random words of the domain ("domain"), and the very texts to predict
("batch", whose bias there is none of before ``predict``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

_PRIOR_SCALE = 0.2
"""Of the logarithm of the temperature: by how much few rows may move it without strong evidence."""
_TEMPERATURES = np.exp(np.arange(-56, 185) / 80)  # 1 is one of them, exactly


@dataclass(frozen=True)
class Calibration:
    """How log-likelihoods become probabilities: ``softmax((S - bias) / temperature)``.

    Parameters
    ----------
    bias : ndarray of shape (n_classes,)
        What is taken from each label's log-likelihood. Its mean is 0.
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
        return _log_softmax((scores - self.bias) / self.temperature)


@dataclass(frozen=True)
class BatchCalibration:
    """Calibration by the very texts that are read together (Zhou et al., 2024).

    The bias is that of ``fit_prior`` over the texts given, so nothing is learned in ``fit``. It is
    right where all labels are equally frequent among these texts, and it makes the answer for a
    text depend on its neighbours: a text alone gets the same probability for every label.
    """

    def log_probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log-probabilities of the labels, each row's depending on all rows.

        Parameters
        ----------
        scores : ndarray of shape (n_texts, n_classes)
            Label log-likelihoods.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Log-probabilities, whose exponentials sum to 1 in each row.
        """
        return fit_prior(scores).log_probabilities(scores)


def no_calibration(n_classes: int) -> Calibration:
    """Return the calibration that only normalises."""
    return Calibration(np.zeros(n_classes), 1.0, 0)


def fit_calibration(scores: NDArray[np.float64], codes: NDArray[np.intp]) -> Calibration:
    """Estimate bias and temperature from labelled rows.

    The bias is shrunk towards 0 by ``max(0, 1 - (K - 1) s² / ‖b‖²)``, where s² is the mean squared
    standard error of its K components: what noise alone would give is taken off. The
    temperature is the most probable one between 0.5 and 10, where its logarithm has a Cauchy
    distribution around 0 before rows are seen (on such priors: Gelman et al., "A Weakly
    Informative Default Prior Distribution for Logistic and Other Regression Models", Annals of
    Applied Statistics, 2008). Rows that say little leave it near 1; its tails let those that
    say much take it anywhere.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_classes)
        Label log-likelihoods of rows that were no shots in their own prompt.
    codes : ndarray of shape (n_rows,)
        The position of each row's label.

    Returns
    -------
    Calibration
        The estimate.
    """
    n_rows, n_classes = scores.shape
    present = np.unique(codes)
    if n_rows <= len(present) or len(present) < n_classes:
        # Nothing tells bias from noise, or some label's rows are missing, which would be bias.
        return no_calibration(n_classes)
    relative = scores - scores.mean(axis=1, keepdims=True)
    means = np.array([relative[codes == code].mean(axis=0) for code in present])
    bias = _shrink(means.mean(axis=0), _squared_error(relative, means, codes, present))
    return Calibration(bias, _fit_temperature(scores - bias, codes), n_rows)


def fit_prior(scores: NDArray[np.float64]) -> Calibration:
    """Estimate the bias from texts without labels: what the model answers to them on average.

    ``b_c = log mean_j exp S_c(x_j)``, centred. Dividing a text's label probabilities by this mean
    is contextual calibration [1]_ where the texts have no content, domain-context calibration [2]_
    where they are random words of the domain, and batch calibration [3]_ where they are the texts
    to predict. The mean is over probabilities in the whole vocabulary, as in the code of [1]_ and
    [2]_: a text to which the model would rather answer something else weighs less. Nothing is
    shrunk, and the temperature is 1.

    Parameters
    ----------
    scores : ndarray of shape (n_texts, n_classes)
        Label log-likelihoods.

    Returns
    -------
    Calibration
        The estimate.

    References
    ----------
    .. [1] Zhao et al., "Calibrate Before Use: Improving Few-shot Performance of Language Models",
       ICML 2021.
    .. [2] Fei et al., "Mitigating Label Biases for In-context Learning", ACL 2023.
    .. [3] Zhou et al., "Batch Calibration: Rethinking Calibration for In-Context Learning and
       Prompt Engineering", ICLR 2024.
    """
    bias = logsumexp(scores, axis=0)  # the number of texts is the same for all labels
    return Calibration(bias - bias.mean(), 1.0, len(scores))


def _squared_error(
    relative: NDArray[np.float64],
    means: NDArray[np.float64],
    codes: NDArray[np.intp],
    present: NDArray[np.intp],
) -> float:
    """Return the bias components' mean squared standard error, from the spread within classes."""
    residuals = relative - means[np.searchsorted(present, codes)]
    variance = (residuals**2).sum(axis=0) / (len(codes) - len(present))
    counts = np.array([(codes == code).sum() for code in present])
    return float((variance * (1.0 / counts).sum() / len(present) ** 2).mean())


def _shrink(bias: NDArray[np.float64], squared_error: float) -> NDArray[np.float64]:
    squared_length = float(bias @ bias)
    if squared_length == 0:
        return bias
    return bias * max(0.0, 1.0 - (len(bias) - 1) * squared_error / squared_length)


def _fit_temperature(scores: NDArray[np.float64], codes: NDArray[np.intp]) -> float:
    rows = np.arange(len(codes))
    likelihoods = [_log_softmax(scores / t)[rows, codes].sum() for t in _TEMPERATURES]
    losses = np.log1p((np.log(_TEMPERATURES) / _PRIOR_SCALE) ** 2) - likelihoods
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
