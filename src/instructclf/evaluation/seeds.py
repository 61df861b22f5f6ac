"""One estimator, several seeds → its score under each, because a single draw may be lucky."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from numpy.typing import ArrayLike

from instructclf.evaluation.plans import Plan, execute_plans
from instructclf.evaluation.running import check_parameters, plan_runs
from instructclf.evaluation.scores import SeedScores
from instructclf.evaluation.splitting import check_split
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

    Each seed draws different rows and sets every ``random_state`` of a clone of the estimator. The
    draw depends on the seed and the rows alone: all classifiers that are evaluated with the same
    ``random_state`` and ``n_shots`` learn from the same rows, and the first three of five seeds
    are the same as three seeds.

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
        The number of seeds.
    sampler : str or object with a select method, default="balanced"
        How the rows are drawn.
    scoring : {"accuracy", "balanced_accuracy"}, default="accuracy"
        The kind of score. Balanced accuracy is the mean over labels of the share of their texts
        that are right, so that no label counts more for being frequent in the test set.
    random_state : int or None, default=0
        Determines all seeds. ``None`` takes different seeds in each call.
    folder : str, path or None, default=None
        A folder with a file for each finished run, which is read instead of repeating the run. A
        run is recognised by the estimator's class and parameters, the files of its model, the
        rows, the seed and the versions of instructclf and scikit-learn. If any of these change, the
        run is repeated. Changes of code are not noticed: then empty the folder.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    SeedScores
        Predictions, score and seconds under each seed, with intervals. Can be printed.

    Raises
    ------
    InvalidParameterError
        If a parameter is outside its domain.
    InvalidTextsError
        If texts are not a sequence of strings, or are empty.
    InvalidLabelsError
        If labels do not fit the texts, or test and training labels have nothing in common.
    InvalidShotsError
        If ``n_shots`` rows cannot be drawn.
    CheckpointError
        If a file in the folder is damaged.

    See Also
    --------
    compare : The same for several estimators, as a table.

    Notes
    -----
    Within ``joblib.parallel_config`` its workers execute the seeds at the same time. Seconds are
    then those of workers that share the machine.

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
    plans = {"": Plan(estimator, split, runs, n_shots)}
    return execute_plans("seeds", plans, scoring=scoring, folder=folder, verbose=verbose)[""]
