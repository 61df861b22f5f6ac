"""One estimator, several numbers of shots → its scores at each: how much more labels help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation.metrics import note_two_seeds
from instructclf.evaluation.plans import Plan, execute_plans
from instructclf.evaluation.running import check_parameters, draw_seed, plan_runs
from instructclf.evaluation.scores import SeedScores, write_scores
from instructclf.evaluation.splitting import check_split
from instructclf.evaluation.tables import Figures
from instructclf.sampling import ShotSampler


@dataclass(frozen=True, eq=False)
class LearningCurve(Figures):
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
        """Return the figures, unrounded, as one dict for each number of shots.

        Returns
        -------
        list of dict
            With the keys of `SeedScores.to_row`.
        """
        return [scores.to_row() for scores in self.scores.values()]

    def __str__(self) -> str:
        width = max(len(str(n_shots)) for n_shots in self.scores)
        lines = [f"{k:>{width}} shots: {write_scores(of)}" for k, of in self.scores.items()]
        note = note_two_seeds(of.n_seeds for of in self.scores.values())
        return "\n".join([*lines, *filter(None, [note])])


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

    Draws are nested with all samplers of this package: under one seed the rows of a larger number
    begin with those of a smaller one, so that only the added rows change the score.

    An estimator that chooses shots itself uses all the rows drawn here: its ``n_shots`` is set to
    ``None`` in the clones, or to the number of rows if it has several ``n_seeds``, each of which
    then draws a different order. At 0 shots it is set to 0 and ``calibration`` to ``None``, because
    no labelled row is left to calibrate with.

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
        The numbers of rows. 0 is for an estimator that needs no rows, such as `PromptClassifier`.
    n_seeds : int, default=5
        The number of draws.
    sampler : str or object with a select method, default="balanced"
        How the rows are drawn.
    scoring : {"accuracy", "balanced_accuracy"}, default="accuracy"
        The kind of score. Balanced accuracy is the mean over labels of the share of their texts
        that are right, so that no label counts more for being frequent in the test set.
    random_state : int or None, default=0
        Determines all seeds. ``None`` takes different seeds in each call.
    folder : str, path or None, default=None
        A folder with a file for each finished run, as for `evaluate_seeds`.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    LearningCurve
        The scores at each number of shots. Can be printed, or drawn with `LearningCurveDisplay`.

    Raises
    ------
    InvalidParameterError
        If a parameter is outside its domain.
    InvalidTextsError
        If texts are not a sequence of strings, or are empty.
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
    for n_shots, chosen in prepared.items():
        check_parameters(
            "learning_curve",
            estimator=chosen,
            n_shots=n_shots,
            n_seeds=n_seeds,
            scoring=scoring,
            random_state=random_state,
            folder=folder,
            verbose=verbose,
        )
    random_state = draw_seed(random_state)
    split = check_split(X_train, y_train, X_test, y_test)
    plans = {}
    for n_shots, chosen in prepared.items():
        runs = plan_runs(
            split, n_shots=n_shots, n_seeds=n_seeds, sampler=sampler, random_state=random_state
        )
        plans[f"{n_shots} shots"] = Plan(chosen, split, runs, n_shots)
    scores = execute_plans("learning curve", plans, scoring=scoring, folder=folder, verbose=verbose)
    return LearningCurve(dict(zip(counts, scores.values(), strict=True)))


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
    """Return a clone that takes every row it is given as a shot."""
    if not hasattr(estimator, "get_params"):
        return estimator
    changes: dict[str, Any] = {}
    parameters = estimator.get_params(deep=True)
    for name in parameters:
        if name.split("__")[-1] == "n_shots":
            changes[name] = _shots_to_choose(parameters, name, n_shots)
        if name.split("__")[-1] == "calibration" and n_shots == 0:
            changes[name] = None
    prepared: Any = clone(estimator)
    return prepared.set_params(**changes)


def _shots_to_choose(parameters: dict[str, Any], name: str, n_shots: int) -> int | None:
    """Return the number that makes an estimator choose all rows it is given."""
    n_seeds = parameters.get(f"{name.removesuffix('n_shots')}n_seeds", 1)
    # With a number each seed draws an order. None means the order given, the same for all seeds.
    return n_shots if n_shots == 0 or n_seeds > 1 else None
