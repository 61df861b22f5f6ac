"""One estimator, folds and seeds → its score on each, for data without a test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedKFold

from instructclf.evaluation.intervals import Interval, t_interval, t_p_value
from instructclf.evaluation.metrics import check_same_scoring, write_scoring
from instructclf.evaluation.plans import Plan, execute_plans
from instructclf.evaluation.running import check_parameters, draw_seed, plan_runs
from instructclf.evaluation.scores import SeedScores
from instructclf.evaluation.splitting import Split
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels, check_same_length
from instructclf.inputs.texts import check_texts
from instructclf.sampling import ShotSampler


@dataclass(frozen=True, eq=False)
class FoldScores:
    """The scores of an estimator on each fold, trained once for every seed.

    Parameters
    ----------
    folds : list of SeedScores
        The scores on each fold. Shots are counted among the training rows of the fold.
    test_rows : list of ndarray
        The test rows of each fold.
    n_rows : int
        The number of all rows.

    See Also
    --------
    cross_validate_seeds : Makes one.
    """

    folds: list[SeedScores]
    test_rows: list[NDArray[np.intp]]
    n_rows: int

    @property
    def scores(self) -> NDArray[np.float64]:
        """Return the scores, of shape (n_folds, n_seeds)."""
        return np.array([fold.scores for fold in self.folds])

    @property
    def mean(self) -> float:
        """Return the mean score over folds and seeds."""
        return float(self.scores.mean())

    @property
    def std(self) -> float:
        """Return the standard deviation over folds of the mean over seeds."""
        return float(self.scores.mean(axis=1).std(ddof=1))

    def interval(self, confidence: float = 0.95) -> Interval:
        """Return the interval of the mean, corrected for the training rows that folds share.

        Because of these, scores differ less than those of independent sets would. Student's
        interval over folds takes the variance ``(1/n_folds + n_test/n_train) s²`` (Nadeau and
        Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003). With few
        shots, folds share fewer of the rows that are learned from, and the interval is too wide.

        Parameters
        ----------
        confidence : float, default=0.95
            The share of such intervals that hold the true mean.

        Returns
        -------
        Interval
            Both ends.
        """
        values = self.scores.mean(axis=1)
        found = t_interval(values, confidence, test_to_train=self._test_to_train())
        return found.within(0.0, 1.0)

    def compare(self, other: FoldScores, *, confidence: float = 0.95) -> FoldDifference:
        """Compare with other scores on the same folds, by the corrected paired t-test.

        Parameters
        ----------
        other : FoldScores
            Scores on the same folds.
        confidence : float, default=0.95
            The confidence of the interval.

        Returns
        -------
        FoldDifference
            These scores minus the others.

        Raises
        ------
        InvalidLabelsError
            If the folds are not the same.
        InvalidParameterError
            If the two have different kinds of scores.
        """
        check_same_scoring(self.folds[0].scoring, other.folds[0].scoring)
        same = len(self.folds) == len(other.folds) and all(
            map(np.array_equal, self.test_rows, other.test_rows)
        )
        if not same:
            msg = "Only scores on the same folds can be paired: give both the same random_state."
            raise InvalidLabelsError(msg)
        differences = self.scores.mean(axis=1) - other.scores.mean(axis=1)
        ratio = self._test_to_train()
        return FoldDifference(
            difference=float(differences.mean()),
            interval=t_interval(differences, confidence, test_to_train=ratio).within(-1.0, 1.0),
            p_value=t_p_value(differences, test_to_train=ratio),
            confidence=confidence,
        )

    def _test_to_train(self) -> float:
        n_test = np.mean([len(rows) for rows in self.test_rows])
        return float(n_test / (self.n_rows - n_test))

    def __str__(self) -> str:
        low, high = self.interval()
        n_folds, n_seeds = self.scores.shape
        return (
            f"{write_scoring(self.folds[0].scoring)}{self.mean:.3f} [{low:.3f}, {high:.3f}] over "
            f"{n_folds} folds x {n_seeds} seeds"
        )


@dataclass(frozen=True)
class FoldDifference:
    """The difference between two approaches, paired by fold.

    Parameters
    ----------
    difference : float
        Mean score of the first minus that of the second.
    interval : Interval
        The interval of the difference, for other rows of the same kind.
    p_value : float
        The p-value of the corrected paired t-test, two-sided.
    confidence : float
        The confidence of the interval.

    See Also
    --------
    FoldScores.compare : Makes one.
    """

    difference: float
    interval: Interval
    p_value: float
    confidence: float

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.difference:+.3f} [{low:+.3f}, {high:+.3f}], p = {self.p_value:.3g}"


def cross_validate_seeds(
    estimator: Any,
    X: Sequence[str],
    y: ArrayLike,
    *,
    n_shots: int | None = None,
    n_seeds: int = 3,
    n_folds: int = 5,
    sampler: str | ShotSampler = "balanced",
    scoring: str = "accuracy",
    random_state: int | None = 0,
    folder: str | PathLike[str] | None = None,
    verbose: int | bool = 0,
) -> FoldScores:
    """Test on each fold, after training on a few rows of the other folds, for every seed.

    Folds are stratified and shuffled. Every fold and every seed draws different shots.

    Parameters
    ----------
    estimator : estimator with fit and predict
        Any scikit-learn classifier of texts. It is cloned, never fitted itself.
    X : sequence of str, length n_texts
        The texts.
    y : array-like of shape (n_texts,)
        Their labels.
    n_shots : int or None, default=None
        How many rows are drawn outside the fold. ``None`` takes all.
    n_seeds : int, default=3
        The number of seeds in each fold.
    n_folds : int, default=5
        The number of folds.
    sampler : str or object with a select method, default="balanced"
        How the rows are drawn.
    scoring : {"accuracy", "balanced_accuracy"}, default="accuracy"
        The kind of score. Balanced accuracy is the mean over labels of the share of their texts
        that are right, so that no label counts more for being frequent in the test set.
    random_state : int or None, default=0
        Determines folds and seeds. ``None`` takes different ones in each call.
    folder : str, path or None, default=None
        A folder with a file for each finished run, as for `evaluate_seeds`.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    FoldScores
        The score for each fold and seed, with a corrected interval. Can be printed.

    Raises
    ------
    InvalidParameterError
        If a parameter is outside its domain.
    InvalidTextsError
        If texts are not a sequence of strings, or are empty.
    InvalidLabelsError
        If labels do not fit the texts, or a label has fewer rows than there are folds.
    InvalidShotsError
        If ``n_shots`` rows cannot be drawn.

    See Also
    --------
    evaluate_seeds : The same with a separate test set, which is better with many rows.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from instructclf.evaluation import cross_validate_seeds
    >>> texts, labels = [f"text {i}" for i in range(20)], ["a", "b"] * 10
    >>> print(cross_validate_seeds(DummyClassifier(), texts, labels, n_shots=4))
    0.500 [0.500, 0.500] over 5 folds x 3 seeds
    """
    check_parameters(
        "cross_validate_seeds",
        estimator=estimator,
        n_shots=n_shots,
        n_seeds=n_seeds,
        n_folds=n_folds,
        scoring=scoring,
        random_state=random_state,
        folder=folder,
        verbose=verbose,
    )
    random_state = draw_seed(random_state)
    texts, labels = check_texts(X), check_labels(y)
    check_same_length(texts, labels)
    test_rows = _choose_folds(labels, n_folds, random_state)
    seeds = np.random.SeedSequence(random_state).spawn(n_folds)
    plans = {}
    for number, (rows, seed) in enumerate(zip(test_rows, seeds, strict=True), start=1):
        split = _leave_out(texts, labels, rows)
        runs = plan_runs(
            split, n_shots=n_shots, n_seeds=n_seeds, sampler=sampler, random_state=seed
        )
        plans[f"fold {number}"] = Plan(estimator, split, runs, n_shots)
    scores = execute_plans("folds", plans, scoring=scoring, folder=folder, verbose=verbose)
    return FoldScores(list(scores.values()), test_rows, len(texts))


def _choose_folds(labels: NDArray[Any], n_folds: int, random_state: int) -> list[NDArray[np.intp]]:
    names, counts = np.unique(labels, return_counts=True)
    if counts.min() < n_folds:
        rarest = names[counts.argmin()]
        msg = (
            f"Label {rarest.item()!r} has {counts.min()} rows, fewer than the {n_folds} folds. "
            "Take fewer folds or give more rows."
        )
        raise InvalidLabelsError(msg)
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=random_state)
    return [test for _, test in folds.split(np.zeros(len(labels)), labels)]


def _leave_out(texts: list[str], labels: NDArray[Any], rows: NDArray[np.intp]) -> Split:
    training = np.setdiff1d(np.arange(len(texts)), rows)
    return Split(
        [texts[i] for i in training.tolist()],
        labels[training],
        [texts[i] for i in rows.tolist()],
        labels[rows],
    )
