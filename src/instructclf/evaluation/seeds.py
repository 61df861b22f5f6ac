"""One estimator, several seeds → its score on each: one lucky draw of shots says little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instructclf.engine.progress import Progress
from instructclf.evaluation.running import Outcome, Run, check_parameters, execute, plan_runs
from instructclf.evaluation.splitting import check_split
from instructclf.sampling import ShotSampler


@dataclass(frozen=True, eq=False)
class SeedScores:
    """How an estimator did on one test set, trained once for every seed.

    Parameters
    ----------
    scores : ndarray of shape (n_seeds,)
        Accuracy under each seed.
    fit_seconds : ndarray of shape (n_seeds,)
        How long each ``fit`` took. The first one loads the model, if it was not loaded yet.
    predict_seconds : ndarray of shape (n_seeds,)
        How long each ``predict`` of the whole test set took.
    n_test : int
        How many texts were predicted under each seed.
    shots : list of ndarray of shape (n_shots,)
        Indices of the training rows drawn under each seed, in the order drawn.
    n_shots : int or None
        How many rows were asked for; ``None`` means all.

    See Also
    --------
    evaluate_seeds : Makes one.
    """

    scores: NDArray[np.float64]
    fit_seconds: NDArray[np.float64]
    predict_seconds: NDArray[np.float64]
    n_test: int
    shots: list[NDArray[np.intp]]
    n_shots: int | None

    @property
    def n_seeds(self) -> int:
        """Return the number of seeds."""
        return len(self.scores)

    @property
    def mean(self) -> float:
        """Return the mean accuracy."""
        return float(np.mean(self.scores))

    @property
    def std(self) -> float:
        """Return the standard deviation of the accuracy over the seeds, NaN for one seed."""
        return float(np.std(self.scores, ddof=1)) if self.n_seeds > 1 else float("nan")

    @property
    def texts_per_second(self) -> float:
        """Return how many texts were predicted a second, over all seeds."""
        seconds = float(np.sum(self.predict_seconds))
        return self.n_test * self.n_seeds / seconds if seconds > 0 else float("inf")


def evaluate_seeds(
    estimator: Any,
    X_train: Sequence[str],
    y_train: ArrayLike,
    X_test: Sequence[str],
    y_test: ArrayLike,
    *,
    n_shots: int | None = None,
    n_seeds: int = 5,
    sampler: str | ShotSampler = "balanced",
    random_state: int | None = 0,
    verbose: int | bool = 0,
) -> SeedScores:
    """Train on a few rows and test, once for every seed.

    Each seed draws its own rows and sets every ``random_state`` of a clone of the estimator. The
    draw depends on the seed and the rows alone: whatever classifier is evaluated with the same
    ``random_state`` and ``n_shots`` learns from the same rows, and the first three of five seeds
    are those of three.

    Parameters
    ----------
    estimator : estimator with fit and predict
        Any scikit-learn classifier of texts. It is cloned, never fitted itself.
    X_train : sequence of str, length n_train
        The texts to draw from.
    y_train : array-like of shape (n_train,)
        Their labels.
    X_test : sequence of str, length n_test
        The texts to predict.
    y_test : array-like of shape (n_test,)
        Their labels.
    n_shots : int or None, default=None
        How many rows are drawn. ``None`` takes all. 0 is for an estimator that learns from no
        row: it gets one row of each label, to know their names, and these do not count as shots.
    n_seeds : int, default=5
        How many times.
    sampler : str or object with a select method, default="balanced"
        How the rows are drawn.
    random_state : int or None, default=0
        Where all seeds come from. ``None`` gives other seeds at each call.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    SeedScores
        Accuracy and seconds under each seed.

    Raises
    ------
    InvalidParameterError
        If a parameter is outside its domain.
    InvalidTextsError
        If texts are not a sequence of strings, or there are none.
    InvalidLabelsError
        If labels do not fit the texts, or test and training labels have nothing in common.
    InvalidShotsError
        If ``n_shots`` rows cannot be drawn.

    See Also
    --------
    compare : The same for several estimators, as a table.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from instructclf.datasets import load_reviews
    >>> from instructclf.evaluation import evaluate_seeds
    >>> train, test = load_reviews("train"), load_reviews("test")
    >>> scores = evaluate_seeds(
    ...     DummyClassifier(strategy="uniform"),
    ...     train.texts,
    ...     train.labels,
    ...     test.texts,
    ...     test.labels,
    ...     n_shots=16,
    ... )
    >>> bool(0.4 < scores.mean < 0.6)
    True
    """
    check_parameters(
        "evaluate_seeds",
        estimator=estimator,
        n_shots=n_shots,
        n_seeds=n_seeds,
        random_state=random_state,
        verbose=verbose,
    )
    split = check_split(X_train, y_train, X_test, y_test)
    runs = plan_runs(
        split, n_shots=n_shots, n_seeds=n_seeds, sampler=sampler, random_state=random_state
    )
    outcomes = []
    with Progress("seeds", n_seeds, verbose=verbose) as progress:
        for run in runs:
            outcomes.append(execute(run, estimator, split))
            progress.advance(note=f"accuracy {outcomes[-1].accuracy:.3f}")
    return collect(runs, outcomes, n_test=len(split.X_test), n_shots=n_shots)


def collect(
    runs: Sequence[Run], outcomes: Sequence[Outcome], *, n_test: int, n_shots: int | None
) -> SeedScores:
    """Put the outcomes of the runs of one estimator together."""
    return SeedScores(
        scores=np.array([outcome.accuracy for outcome in outcomes]),
        fit_seconds=np.array([outcome.fit_seconds for outcome in outcomes]),
        predict_seconds=np.array([outcome.predict_seconds for outcome in outcomes]),
        n_test=n_test,
        shots=[run.shots for run in runs],
        n_shots=n_shots,
    )
