"""Several estimators, the same rows → one table: who is better, who is faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from numpy.typing import ArrayLike
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.datasets.extras import import_data_extra
from instructclf.engine.running.progress import Progress
from instructclf.evaluation.collecting import collect
from instructclf.evaluation.differences import PairedDifference, adjust_p_values
from instructclf.evaluation.html_tables import write_html
from instructclf.evaluation.running import (
    Outcome,
    Run,
    check_parameters,
    describe_score,
    plan_runs,
    settle,
)
from instructclf.evaluation.scores import SeedScores
from instructclf.evaluation.splitting import Split, check_split
from instructclf.evaluation.storing import Store
from instructclf.evaluation.tables import (
    write_caption,
    write_cells,
    write_header,
    write_markdown,
    write_text,
)
from instructclf.sampling import ShotSampler


@dataclass(frozen=True, eq=False)
class ComparisonReport:
    """The scores of several approaches on one test set; printed, a table.

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

    scores: dict[str, SeedScores]

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the figures, unrounded, one dict an approach.

        Returns
        -------
        list of dict
            With the key ``approach`` and those of `SeedScores.to_row`.
        """
        return [{"approach": name, **own.to_row()} for name, own in self.scores.items()]

    def to_frame(self) -> Any:
        """Return the figures, unrounded, as a data frame.

        Returns
        -------
        pandas.DataFrame
            A row for each approach.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        pandas = import_data_extra("pandas", needed_for="A data frame")
        return pandas.DataFrame(self.to_rows())

    def to_markdown(self) -> str:
        """Return the table in Markdown.

        Returns
        -------
        str
            The table and, below it, what its figures are averages over.
        """
        table = write_markdown(write_cells(self.scores), write_header(self.scores))
        return f"{table}\n\n{write_caption(self.scores)}"

    def to_html(self) -> str:
        """Return the table in HTML, as a notebook shows it.

        Returns
        -------
        str
            A ``table`` element with a caption and header cells, for any page, light or dark.
            Names are escaped.
        """
        return write_html(
            write_cells(self.scores), write_caption(self.scores), write_header(self.scores)
        )

    def differences(self, against: str, *, confidence: float = 0.95) -> dict[str, PairedDifference]:
        """Compare every approach with one of them, paired by seed and by text.

        Parameters
        ----------
        against : str
            The name of the approach that the others are compared with.
        confidence : float, default=0.95
            That of the intervals.

        Returns
        -------
        dict of str to PairedDifference
            The others, each minus that one. Intervals are those of `SeedScores.compare`. P-values
            are adjusted for their number, as Holm does.

        Raises
        ------
        InvalidParameterError
            If there is no approach of this name.
        InvalidLabelsError
            If numbers of seeds differ, other than by being 1.
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

    def __str__(self) -> str:
        table = write_text(write_cells(self.scores), write_header(self.scores))
        return f"{table}\n\n{write_caption(self.scores)}"

    def _repr_html_(self) -> str:
        return self.to_html()


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
        The name of each approach and any scikit-learn classifier of texts. None is fitted itself.
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
        How many seeds, for all approaches or for each. An approach that draws nothing at random
        needs only one.
    sampler : str or object with a select method, default="balanced"
        How the rows are drawn.
    scoring : {"accuracy", "balanced_accuracy"}, default="accuracy"
        What the scores are. Balanced accuracy is the mean over labels of the share of their texts
        that are right, so that no label counts more for being frequent in the test set.
    random_state : int or None, default=0
        Where all seeds come from. ``None`` gives others at each call.
    folder : str, path or None, default=None
        Where a file of JSON is kept for each finished run, and read instead of running it again,
        as for `evaluate_seeds`. A comparison that was cut off goes on where it was.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    ComparisonReport
        The scores of each approach. Print it.

    Raises
    ------
    InvalidParameterError
        If a parameter is outside its domain, or a dict does not have the names of the approaches.
    InvalidTextsError
        If texts are not a sequence of strings, or there are none.
    InvalidLabelsError
        If labels do not fit the texts, or test and training labels have nothing in common.
    InvalidShotsError
        If the shots cannot be drawn.

    See Also
    --------
    evaluate_seeds : The same for one estimator, with the details.

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
    >>> report.to_rows()[0]["shots"]
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
    random_state = settle(random_state)
    split = check_split(X_train, y_train, X_test, y_test)
    plans = {
        name: plan_runs(
            split,
            n_shots=shots[name],
            n_seeds=seeds[name],
            sampler=sampler,
            random_state=random_state,
        )
        for name in estimators
    }
    outcomes = _execute_all(
        estimators, plans, split, scoring=scoring, folder=folder, verbose=verbose
    )
    return ComparisonReport(
        {
            name: collect(runs, outcomes[name], split=split, n_shots=shots[name], scoring=scoring)
            for name, runs in plans.items()
        }
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
    """Return the value of each approach, whether one was given for all or one for each."""
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


def _execute_all(
    estimators: Mapping[str, Any],
    plans: Mapping[str, Sequence[Run]],
    split: Split,
    *,
    scoring: str,
    folder: str | PathLike[str] | None,
    verbose: int | bool,
) -> dict[str, list[Outcome]]:
    """Run all plans, one approach after the other."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in plans}
    store = Store(folder, split)
    n_runs = sum(len(runs) for runs in plans.values())
    with Progress("compare", n_runs, verbose=verbose) as progress:
        for name, runs in plans.items():
            for run in runs:
                progress.advance(0, note=name)
                try:
                    outcome = store.execute(run, estimators[name])
                except Exception as error:
                    error.add_note(f"This happened while comparing, in approach {name!r}.")
                    raise
                outcomes[name].append(outcome)
                progress.advance(note=f"{name}, {describe_score(outcome, split, scoring)}")
    return outcomes
