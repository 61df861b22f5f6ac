"""Outcomes of one estimator under several seeds → its scores and their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from instructclf.evaluation.differences import PairedDifference, compare_correct
from instructclf.evaluation.intervals import (
    Interval,
    percentile_interval,
    resample_means,
    t_interval,
)
from instructclf.evaluation.metrics import (
    answer_weights,
    check_same_scoring,
    expected_calibration_error,
    name_scoring,
    normalise,
    note_two_seeds,
    write_scoring,
)
from instructclf.exceptions import InvalidLabelsError


@dataclass(frozen=True, eq=False)
class SeedScores:
    """The scores of an estimator on one test set, trained once for every seed.

    Other metrics can be computed from ``predictions`` with any function of ``sklearn.metrics``.

    Parameters
    ----------
    y_test : ndarray of shape (n_test,)
        The true labels.
    predictions : ndarray of shape (n_seeds, n_test)
        The labels predicted under each seed.
    fit_seconds : ndarray of shape (n_seeds,)
        The duration of each ``fit``, without loading the model.
    predict_seconds : ndarray of shape (n_seeds,)
        The duration of each prediction of the whole test set.
    shots : list of ndarray of shape (n_shots,)
        Indices of the training rows drawn under each seed, in the order drawn.
    n_shots : int or None
        The number of rows that was requested; ``None`` means all.
    classes : ndarray of shape (n_classes,) or None, default=None
        All labels, sorted. ``None`` takes those of ``y_test``.
    log_probabilities : ndarray of shape (n_seeds, n_test, n_classes) or None, default=None
        The log-probability of each label, columns as in ``classes``. ``None`` if the estimator has
        no probabilities.
    loss_curves : list of ndarray, default=()
        The training loss of each epoch under each seed, if the estimator has a ``loss_curve_``. An
        estimator with ``n_seeds`` has a curve for each of these.
    scoring : {"accuracy", "balanced_accuracy"}, default="accuracy"
        The kind of ``scores`` and all figures derived from them: the share of the texts that are
        right, or the mean over labels of the share of their texts that are right.
    loading_seconds : float, default=0.0
        How long language models took to load that were not loaded yet, over all seeds.

    See Also
    --------
    evaluate_seeds : Makes one.
    """

    y_test: NDArray[Any]
    predictions: NDArray[Any]
    fit_seconds: NDArray[np.float64]
    predict_seconds: NDArray[np.float64]
    shots: list[NDArray[np.intp]]
    n_shots: int | None
    classes: NDArray[Any] | None = None
    log_probabilities: NDArray[np.float64] | None = None
    loss_curves: Sequence[NDArray[np.float64]] = field(default=())
    scoring: str = "accuracy"
    loading_seconds: float = 0.0

    @property
    def n_seeds(self) -> int:
        """Return the number of seeds."""
        return len(self.predictions)

    @property
    def n_test(self) -> int:
        """Return the number of test texts."""
        return len(self.y_test)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Return which predictions are right, of shape (n_seeds, n_test)."""
        return self.predictions == self.y_test

    @property
    def scores(self) -> NDArray[np.float64]:
        """Return the score under each seed, of shape (n_seeds,)."""
        return self._credits(self.correct).mean(axis=1)

    @property
    def mean(self) -> float:
        """Return the mean score."""
        return float(np.mean(self.scores))

    @property
    def std(self) -> float:
        """Return the standard deviation of the score over the seeds, NaN for one seed."""
        return float(np.std(self.scores, ddof=1)) if self.n_seeds > 1 else float("nan")

    def t_interval(self, confidence: float = 0.95) -> Interval:
        """Return Student's interval of the mean over seeds, on this test set.

        It is about the mean over all possible seeds on these texts, and not about other texts. With
        two seeds it is often 0 to 1: take five or more.

        Parameters
        ----------
        confidence : float, default=0.95
            The share of such intervals that hold the true mean.

        Returns
        -------
        Interval
            Both ends, NaN for one seed.
        """
        return t_interval(self.scores, confidence).within(0.0, 1.0)

    def interval(
        self,
        confidence: float = 0.95,
        *,
        n_resamples: int = 2000,
        random_state: int | None = 0,
    ) -> Interval:
        """Return the interval of the mean over seeds and texts, by the crossed bootstrap.

        Seeds and texts are both resampled with replacement (Owen, "The Pigeonhole Bootstrap",
        Annals of Applied Statistics 1(2), 2007), and the contribution of the seeds is widened to
        correct for their small number. With one seed only texts are resampled. For balanced
        accuracy texts are resampled within their labels; if a label has few texts, the interval is
        too narrow.

        Parameters
        ----------
        confidence : float, default=0.95
            The share of such intervals that hold the true mean.
        n_resamples : int, default=2000
            The number of resamples.
        random_state : int or None, default=0
            Determines the resamples.

        Returns
        -------
        Interval
            Both ends, within 0 and 1.
        """
        draws = resample_means(
            self._credits(self.correct),
            groups=self._groups(),
            n_resamples=n_resamples,
            random_state=random_state,
        )
        return percentile_interval(draws, confidence).within(0.0, 1.0)

    @property
    def ensemble_score(self) -> float:
        """Return the score of the mean log-probabilities over seeds, NaN without probabilities."""
        if self.log_probabilities is None or self.classes is None:
            return float("nan")
        likeliest = self.log_probabilities.mean(axis=0).argmax(axis=1)
        return float(self._credits(self.classes[likeliest] == self.y_test).mean())

    @property
    def log_loss(self) -> float:
        """Return scikit-learn's log loss, averaged over seeds, NaN without probabilities."""
        if self.log_probabilities is None or self.classes is None:
            return float("nan")
        codes = np.searchsorted(self.classes, self.y_test)
        every = np.arange(len(self.classes))
        losses = [
            log_loss(codes, normalise(np.exp(scores)), labels=every)
            for scores in self.log_probabilities
        ]
        return float(np.mean(losses))

    def calibration_error(self, n_bins: int = 15) -> float:
        """Return the expected calibration error, averaged over seeds.

        It is the mean difference between the probability of the predicted label and its accuracy,
        over bins of equal width (Guo et al., "On Calibration of Modern Neural Networks", ICML
        2017).

        Parameters
        ----------
        n_bins : int, default=15
            The number of bins between 0 and 1.

        Returns
        -------
        float
            The error, NaN without probabilities.
        """
        if self.log_probabilities is None:
            return float("nan")
        errors = [
            expected_calibration_error(confidence, correct, n_bins)
            for confidence, correct in zip(self.confidence, self.likeliest_correct, strict=True)
        ]
        return float(np.mean(errors))

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Return the probability of the likeliest label, of shape (n_seeds, n_test)."""
        return np.exp(self._get_log_probabilities().max(axis=2))

    @property
    def likeliest_correct(self) -> NDArray[np.bool_]:
        """Return for which texts the likeliest label is true, of shape (n_seeds, n_test)."""
        likeliest = self._get_log_probabilities().argmax(axis=2)
        return np.asarray(self.classes)[likeliest] == self.y_test

    @property
    def texts_per_second(self) -> float:
        """Return the number of texts predicted per second, over all seeds."""
        seconds = float(np.sum(self.predict_seconds))
        return self.n_test * self.n_seeds / seconds if seconds > 0 else float("inf")

    def compare(
        self,
        other: SeedScores,
        *,
        confidence: float = 0.95,
        n_resamples: int = 2000,
        random_state: int | None = 0,
    ) -> PairedDifference:
        """Compare with other scores on the same texts, paired by seed and by text.

        The interval and the p-value come from the crossed bootstrap of ``interval``, applied to
        the differences. Both scores need the same ``random_state``, so that a seed stands for the
        same rows.

        Parameters
        ----------
        other : SeedScores
            Scores on the same test set with the same number of seeds. One of the two may have only
            one seed.
        confidence : float, default=0.95
            The confidence of the interval.
        n_resamples : int, default=2000
            The number of resamples.
        random_state : int or None, default=0
            Determines the resamples.

        Returns
        -------
        PairedDifference
            These scores minus the others.

        Raises
        ------
        InvalidLabelsError
            If test sets or numbers of seeds differ.
        InvalidParameterError
            If the two have different kinds of scores.
        """
        check_same_scoring(self.scoring, other.scoring)
        if not np.array_equal(self.y_test, other.y_test):
            msg = (
                f"Only scores on the same test set can be paired. These have {self.n_test} and "
                f"{other.n_test} texts, and not the same labels."
            )
            raise InvalidLabelsError(msg)
        if self.n_seeds != other.n_seeds and 1 not in (self.n_seeds, other.n_seeds):
            msg = (
                f"Scores are paired by seed, and these have {self.n_seeds} and {other.n_seeds} "
                "seeds. Evaluate both with the same n_seeds and random_state."
            )
            raise InvalidLabelsError(msg)
        return compare_correct(
            self.correct,
            other.correct,
            weights=answer_weights(self.y_test, self.scoring),
            groups=self._groups(),
            confidence=confidence,
            n_resamples=n_resamples,
            random_state=random_state,
        )

    def to_row(self) -> dict[str, Any]:
        """Return the figures, unrounded.

        Returns
        -------
        dict
            With the keys ``n_rows`` (of training), ``n_seeds``, ``accuracy``
            (mean), ``low`` and ``high`` (of ``interval()``), ``std``, ``ensemble_accuracy``,
            ``log_loss``, ``calibration_error``, ``fit_seconds`` (mean) and ``texts_per_second``.
            With another ``scoring`` its name stands in place of ``accuracy``. Missing figures are
            NaN.
        """
        low, high = self.interval()
        return {
            "n_rows": len(self.shots[0]),
            "n_seeds": self.n_seeds,
            self.scoring: self.mean,
            "low": low,
            "high": high,
            "std": self.std,
            f"ensemble_{self.scoring}": self.ensemble_score,
            "log_loss": self.log_loss,
            "calibration_error": self.calibration_error(),
            "fit_seconds": float(self.fit_seconds.mean()),
            "texts_per_second": self.texts_per_second,
        }

    def __str__(self) -> str:
        return f"{write_scores(self)}\n{note_two_seeds([self.n_seeds])}".rstrip()

    def _credits(self, correct: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the contribution of each answer to the score, times the number of texts."""
        return correct * answer_weights(self.y_test, self.scoring)

    def _groups(self) -> NDArray[Any] | None:
        return None if self.scoring == "accuracy" else self.y_test

    def _get_log_probabilities(self) -> NDArray[np.float64]:
        if self.log_probabilities is None:
            msg = "These scores have no probabilities, as the estimator has no predict_proba."
            raise AttributeError(msg)
        return self.log_probabilities


def write_scores(scores: SeedScores) -> str:
    """Return the score and its interval in one line."""
    low, high = scores.interval()
    seeds = "1 seed" if scores.n_seeds == 1 else f"{scores.n_seeds} seeds"
    texts = "1 text" if scores.n_test == 1 else f"{scores.n_test:,} texts"
    return (
        f"{write_scoring(scores.scoring)}{scores.mean:.3f} [{low:.3f}, {high:.3f}] over {seeds} "
        f"and {texts}"
    )


def name_scorings(scores: Iterable[SeedScores]) -> str:
    """Return the kind of scores in words, or all kinds if they differ."""
    return " or ".join(dict.fromkeys(name_scoring(one.scoring) for one in scores))
