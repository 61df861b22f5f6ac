"""One estimator, several seeds → its score on each: one lucky draw of shots says little."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import ArrayLike

from instructclf.engine.running.progress import Progress
from instructclf.evaluation.collecting import collect
from instructclf.evaluation.running import check_parameters, describe_score, plan_runs
from instructclf.evaluation.scores import SeedScores
from instructclf.evaluation.splitting import check_split
from instructclf.evaluation.storing import Store
from instructclf.sampling import ShotSampler


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
    scoring: str = "accuracy",
    random_state: int | None = 0,
    folder: str | PathLike[str] | None = None,
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
    scoring : {"accuracy", "balanced_accuracy"}, default="accuracy"
        What the scores are. Balanced accuracy is the mean over labels of the share of their texts
        that are right, so that no label counts more for being frequent in the test set.
    random_state : int or None, default=0
        Where all seeds come from. ``None`` gives other seeds at each call.
    folder : str, path or None, default=None
        Where a file of JSON is kept for each finished run, and read instead of running it again.
        It is recognised by the estimator's class, source and parameters, the rows, the seed and
        the versions; where any of these has changed, it is run again.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    SeedScores
        Predictions, score and seconds under each seed, with intervals. Print it.

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
    DataFormatError
        If a file in the folder does not hold what it should.

    See Also
    --------
    compare : The same for several estimators, as a table.

    Notes
    -----
    Within ``joblib.parallel_config`` the seeds are run by its workers, without a progress bar.
    Seconds are then those of workers that share the machine.

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
        scoring=scoring,
        random_state=random_state,
        folder=folder,
        verbose=verbose,
    )
    split = check_split(X_train, y_train, X_test, y_test)
    runs = plan_runs(
        split, n_shots=n_shots, n_seeds=n_seeds, sampler=sampler, random_state=random_state
    )
    store = Store(folder, split)
    n_jobs: Any = None  # what a joblib.parallel_config around this says, else 1
    if effective_n_jobs(n_jobs) > 1:
        outcomes: Any = Parallel()(delayed(store.execute)(run, estimator) for run in runs)
        return collect(runs, outcomes, split=split, n_shots=n_shots, scoring=scoring)
    outcomes = []
    with Progress("seeds", n_seeds, verbose=verbose) as progress:
        for run in runs:
            outcomes.append(store.execute(run, estimator))
            progress.advance(note=describe_score(outcomes[-1], split, scoring))
    return collect(runs, outcomes, split=split, n_shots=n_shots, scoring=scoring)
