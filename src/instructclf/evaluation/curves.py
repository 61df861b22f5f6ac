"""One estimator, several numbers of shots → its scores at each: what another label is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.datasets.extras import import_data_extra
from instructclf.engine.running.progress import Progress
from instructclf.evaluation.collecting import collect
from instructclf.evaluation.running import check_parameters, describe_score, plan_runs, settle
from instructclf.evaluation.scores import SeedScores
from instructclf.evaluation.splitting import check_split
from instructclf.evaluation.storing import Store
from instructclf.sampling import ShotSampler


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The scores of one estimator at several numbers of shots.

    Parameters
    ----------
    scores : dict of int to SeedScores
        The scores at each number of shots, in ascending order.

    See Also
    --------
    learning_curve : Makes one.
    LearningCurveDisplay : Draws some.
    """

    scores: dict[int, SeedScores]

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the figures, unrounded, one dict for each number of shots.

        Returns
        -------
        list of dict
            With the keys of `SeedScores.to_row`.
        """
        return [scores.to_row() for scores in self.scores.values()]

    def to_frame(self) -> Any:
        """Return the figures, unrounded, as a data frame.

        Returns
        -------
        pandas.DataFrame
            A row for each number of shots.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        pandas = import_data_extra("pandas", needed_for="A data frame")
        return pandas.DataFrame(self.to_rows())

    def __str__(self) -> str:
        width = max(len(str(n_shots)) for n_shots in self.scores)
        return "\n".join(f"{k:>{width}} shots: {of}" for k, of in self.scores.items())


def learning_curve(
    estimator: Any,
    X_train: Sequence[str],
    y_train: ArrayLike,
    X_test: Sequence[str],
    y_test: ArrayLike,
    *,
    shots: Sequence[int] = (4, 8, 16, 32, 64),
    n_seeds: int = 5,
    sampler: str | ShotSampler = "balanced",
    scoring: str = "accuracy",
    random_state: int | None = 0,
    folder: str | PathLike[str] | None = None,
    verbose: int | bool = 0,
) -> LearningCurve:
    """Train on more and more rows and test each time, with several seeds.

    Draws are nested, with all samplers of this package: under one seed the rows of a larger number
    begin with those of a smaller one, so that steps of the curve are due to the rows added.

    An estimator that chooses shots itself uses all the rows drawn here: its ``n_shots`` is set to
    ``None`` in the clones, or to their number where it has several ``n_seeds``, each of which then
    draws an order of its own. At 0 shots it is set to 0, and ``calibration`` to ``None``, as there
    is no labelled row to calibrate with.

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
    shots : sequence of int, default=(4, 8, 16, 32, 64)
        The numbers of rows. 0 is for an estimator that can do without, such as `PromptClassifier`.
    n_seeds : int, default=5
        How many draws.
    sampler : str or object with a select method, default="balanced"
        How the rows are drawn.
    scoring : {"accuracy", "balanced_accuracy"}, default="accuracy"
        What the scores are. Balanced accuracy is the mean over labels of the share of their texts
        that are right, so that no label counts more for being frequent in the test set.
    random_state : int or None, default=0
        Where all seeds come from. ``None`` gives others at each call.
    folder : str, path or None, default=None
        Where finished runs are kept, as for `evaluate_seeds`.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    LearningCurve
        The scores at each number of shots. Print it, or draw it with `LearningCurveDisplay`.

    Raises
    ------
    InvalidParameterError
        If a parameter is outside its domain.
    InvalidTextsError
        If texts are not a sequence of strings, or there are none.
    InvalidLabelsError
        If labels do not fit the texts, or test and training labels have nothing in common.
    InvalidShotsError
        If so many rows cannot be drawn.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from instructclf.datasets import load_reviews
    >>> from instructclf.evaluation import learning_curve
    >>> train, test = load_reviews("train"), load_reviews("test")
    >>> curve = learning_curve(
    ...     make_pipeline(TfidfVectorizer(), LogisticRegression()),
    ...     *(train.texts, train.labels, test.texts, test.labels),
    ...     shots=[8, 64],
    ...     n_seeds=3,
    ... )
    >>> curve.scores[8].mean < curve.scores[64].mean
    True
    """
    counts = _check_shots(shots)
    prepared = {n_shots: _learn_from_all_rows(estimator, n_shots) for n_shots in counts}
    for n_shots, own in prepared.items():
        check_parameters(
            "learning_curve",
            estimator=own,
            n_shots=n_shots,
            n_seeds=n_seeds,
            scoring=scoring,
            random_state=random_state,
            folder=folder,
            verbose=verbose,
        )
    random_state = settle(random_state)
    split = check_split(X_train, y_train, X_test, y_test)
    plans = {
        n_shots: plan_runs(
            split, n_shots=n_shots, n_seeds=n_seeds, sampler=sampler, random_state=random_state
        )
        for n_shots in counts
    }
    store = Store(folder, split)
    scores = {}
    with Progress("learning curve", len(counts) * n_seeds, verbose=verbose) as progress:
        for n_shots, runs in plans.items():
            outcomes = []
            for run in runs:
                outcomes.append(store.execute(run, prepared[n_shots]))
                note = describe_score(outcomes[-1], split, scoring)
                progress.advance(note=f"{n_shots} shots, {note}")
            scores[n_shots] = collect(runs, outcomes, split=split, n_shots=n_shots, scoring=scoring)
    return LearningCurve(scores)


def _check_shots(shots: Any) -> list[int]:
    try:
        counts = sorted(set(shots))
    except TypeError:
        counts = []
    if not counts:
        msg = (
            "The 'shots' parameter of learning_curve must be a sequence of int, with at least one. "
            f"Got {shots!r} instead."
        )
        raise InvalidParameterError(msg)
    return counts


def _learn_from_all_rows(estimator: Any, n_shots: int) -> Any:
    """Return a clone that takes every row it is given for a shot."""
    if not hasattr(estimator, "get_params"):
        return estimator
    changes: dict[str, Any] = {}
    parameters = estimator.get_params(deep=True)
    for name in parameters:
        if name.split("__")[-1] == "n_shots":
            changes[name] = _own_shots(parameters, name, n_shots)
        if name.split("__")[-1] == "calibration" and n_shots == 0:
            changes[name] = None
    prepared: Any = clone(estimator)
    return prepared.set_params(**changes)


def _own_shots(parameters: dict[str, Any], name: str, n_shots: int) -> int | None:
    """Return how many of the rows given an estimator is to choose: all, in one way or another."""
    n_seeds = parameters.get(f"{name.removesuffix('n_shots')}n_seeds", 1)
    # Of a number each seed makes a draw. There is nothing to draw from None, which says "as given".
    return n_shots if n_shots == 0 or n_seeds > 1 else None
