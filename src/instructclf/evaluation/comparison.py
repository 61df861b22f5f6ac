"""Several estimators, the same rows → one table of scores and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, ClassVar

from numpy.typing import ArrayLike
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation.differences import PairedDifference, adjust_p_values
from instructclf.evaluation.metrics import note_two_seeds
from instructclf.evaluation.plans import Plan, execute_plans
from instructclf.evaluation.running import check_parameters, draw_seed, plan_runs
from instructclf.evaluation.scores import SeedScores, name_scorings
from instructclf.evaluation.splitting import check_split
from instructclf.evaluation.tables import Table
from instructclf.sampling import ShotSampler

_LONG_LOADING = 1.0
"""How many seconds of loading the caption of a report mentions."""


@dataclass(frozen=True, eq=False)
class ComparisonReport(Table):
    """The scores of several approaches on one test set, which print as a table.

    Parameters
    ----------
    scores : dict of str to SeedScores
        The scores of each approach, in the order of the table.

    See Also
    --------
    compare : Makes one.
    SeedScoresDisplay : Draws the scores.
    AccuracySecondsDisplay : Draws accuracy against time.
    """

    _title: ClassVar[str] = "Comparison"

    scores: dict[str, SeedScores]

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the figures, unrounded, as one dict for each approach.

        Returns
        -------
        list of dict
            With the key ``approach`` and those of `SeedScores.to_row`.
        """
        return [{"approach": name, **scores.to_row()} for name, scores in self.scores.items()]

    def differences(self, against: str, *, confidence: float = 0.95) -> dict[str, PairedDifference]:
        """Compare every approach with one of them, paired by seed and by text.

        Parameters
        ----------
        against : str
            The name of the approach that the others are compared with.
        confidence : float, default=0.95
            The confidence of the intervals.

        Returns
        -------
        dict of str to PairedDifference
            The score of each other approach minus the score of this one. Intervals are those of
            `SeedScores.compare`. P-values are adjusted for their number by Holm's method.

        Raises
        ------
        InvalidParameterError
            If no approach has this name.
        InvalidLabelsError
            If numbers of seeds differ and neither is 1.
        """
        if against not in self.scores:
            msg = (
                "The 'against' parameter must be the name of an approach, one of "
                f"{list(self.scores)!r}. Got {against!r} instead."
            )
            raise InvalidParameterError(msg)
        found = {
            name: scores.compare(self.scores[against], confidence=confidence)
            for name, scores in self.scores.items()
            if name != against
        }
        adjusted = adjust_p_values([difference.p_value for difference in found.values()])
        return {
            name: replace(difference, p_value=p_value)
            for (name, difference), p_value in zip(found.items(), adjusted, strict=True)
        }

    def _header(self) -> tuple[str, ...]:
        name = name_scorings(self.scores.values())
        return ("approach", "rows", name, "95% interval", "fit seconds", "texts per second")

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                name,
                _write_rows(scores),
                f"{scores.mean:.3f}",
                "{:.3f} to {:.3f}".format(*scores.interval()),
                _write_number(float(scores.fit_seconds.mean())),
                _write_number(scores.texts_per_second),
            )
            for name, scores in self.scores.items()
        ]

    def _caption(self) -> str:
        n_test = max(scores.n_test for scores in self.scores.values())
        counts = sorted({scores.n_seeds for scores in self.scores.values()})
        if counts == [1]:
            text = f"{n_test:,} test texts, one seed; intervals are over texts alone."
        else:
            n_seeds = " or ".join(str(count) for count in counts)
            alone = ", over texts alone where there is 1 seed" if 1 in counts else ""
            text = f"{n_test:,} test texts, {n_seeds} seeds; intervals are over both{alone}."
        loading = sum(scores.loading_seconds for scores in self.scores.values())
        loaded = f"Loading models took {_write_number(loading)} seconds, which fit seconds exclude."
        notes = (note_two_seeds(counts), loaded if loading >= _LONG_LOADING else "")
        return " ".join(filter(None, (text, *notes)))


def compare(
    estimators: Mapping[str, Any],
    X_train: Sequence[str],
    y_train: ArrayLike,
    X_test: Sequence[str],
    y_test: ArrayLike,
    *,
    n_shots: int | Mapping[str, int | None] | None = None,
    n_seeds: int | Mapping[str, int] = 5,
    sampler: str | ShotSampler = "balanced",
    scoring: str = "accuracy",
    random_state: int | None = 0,
    folder: str | PathLike[str] | None = None,
    verbose: int | bool = 0,
) -> ComparisonReport:
    """Train several estimators on the same rows and test them, once for every seed.

    Under one seed every approach with the same number of shots learns from the same rows, as
    `evaluate_seeds` draws them.

    Parameters
    ----------
    estimators : dict of str to estimator
        The name of each approach and any scikit-learn classifier of texts. Only clones are fitted.
    X_train : sequence of str, length n_train
        The texts to draw from.
    y_train : array-like of shape (n_train,)
        Their labels.
    X_test : sequence of str, length n_test
        The texts to predict.
    y_test : array-like of shape (n_test,)
        Their labels.
    n_shots : int, dict of str to int or None, or None, default=None
        How many rows are drawn, for all approaches or for each; ``None`` means all rows.
    n_seeds : int or dict of str to int, default=5
        The number of seeds, for all approaches or for each. An approach without randomness needs
        only one.
    sampler : str or object with a select method, default="balanced"
        How the rows are drawn.
    scoring : {"accuracy", "balanced_accuracy"}, default="accuracy"
        The kind of score. Balanced accuracy is the mean over labels of the share of their texts
        that are right, so that no label counts more for being frequent in the test set.
    random_state : int or None, default=0
        Determines all seeds. ``None`` takes different seeds in each call.
    folder : str, path or None, default=None
        A folder with a file for each finished run, which is read instead of repeating the run, as
        for `evaluate_seeds`. An interrupted comparison continues with the next run.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    ComparisonReport
        The scores of each approach. Can be printed.

    Raises
    ------
    InvalidParameterError
        If a parameter is outside its domain, or a dict does not have the names of the approaches.
    InvalidTextsError
        If texts are not a sequence of strings, or are empty.
    InvalidLabelsError
        If labels do not fit the texts, or test and training labels have nothing in common.
    InvalidShotsError
        If the shots cannot be drawn.

    See Also
    --------
    evaluate_seeds : The same for one estimator, with the details.

    Notes
    -----
    Within ``joblib.parallel_config`` its workers execute the seeds of an approach at the same time.
    Seconds are then those of workers that share the machine.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import LinearSVC
    >>> from instructclf.datasets import load_reviews
    >>> from instructclf.evaluation import compare
    >>> train, test = load_reviews("train"), load_reviews("test")
    >>> report = compare(
    ...     {"TF-IDF + SVM": make_pipeline(TfidfVectorizer(), LinearSVC())},
    ...     train.texts,
    ...     train.labels,
    ...     test.texts,
    ...     test.labels,
    ...     n_shots=16,
    ...     n_seeds=2,
    ... )
    >>> report.to_rows()[0]["n_rows"]
    16
    """
    if not isinstance(estimators, Mapping) or not estimators:
        msg = (
            "The 'estimators' parameter of compare must be a dict of names and estimators, with "
            f"at least one. Got {estimators!r} instead."
        )
        raise InvalidParameterError(msg)
    _check_names(estimators)
    shots = _give_each("n_shots", n_shots, estimators)
    seeds = _give_each("n_seeds", n_seeds, estimators)
    for name, estimator in estimators.items():
        check_parameters(
            "compare",
            estimator=estimator,
            n_shots=shots[name],
            n_seeds=seeds[name],
            scoring=scoring,
            random_state=random_state,
            folder=folder,
            verbose=verbose,
        )
    random_state = draw_seed(random_state)
    split = check_split(X_train, y_train, X_test, y_test)
    plans = {}
    for name, estimator in estimators.items():
        runs = plan_runs(
            split,
            n_shots=shots[name],
            n_seeds=seeds[name],
            sampler=sampler,
            random_state=random_state,
        )
        plans[name] = Plan(estimator, split, runs, shots[name])
    return ComparisonReport(
        execute_plans("comparison", plans, scoring=scoring, folder=folder, verbose=verbose)
    )


def _check_names(estimators: Mapping[Any, Any]) -> None:
    for name in estimators:
        if not isinstance(name, str):
            msg = (
                "The 'estimators' parameter of compare must have texts for names, which stand in "
                f"the table. Got {name!r}."
            )
            raise InvalidParameterError(msg)


def _give_each(parameter: str, value: Any, estimators: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for each approach: its own from a dict, or else the same for all."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(estimators, value)
    if value.keys() != estimators.keys():
        wrong = sorted(value.keys() ^ estimators.keys(), key=str)
        msg = (
            f"The '{parameter}' parameter of compare, given as a dict, must have the names of the "
            f"estimators as keys. {wrong[0]!r} is in one of them only."
        )
        raise InvalidParameterError(msg)
    return dict(value)


def _write_rows(scores: SeedScores) -> str:
    n_rows = len(scores.shots[0])
    return f"all {n_rows:,}" if scores.n_shots is None else f"{n_rows:,}"


def _write_number(value: float) -> str:
    """Return three significant digits, or a whole number from 100 on."""
    if value >= 99.95:  # rounds to 100
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
