"""Several estimators, the same rows → one table: who is better, who is faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.engine.progress import Progress
from instructclf.evaluation.running import Outcome, Run, check_parameters, execute, plan_runs
from instructclf.evaluation.seeds import SeedScores, collect
from instructclf.evaluation.splitting import Split, check_split
from instructclf.evaluation.tables import write_caption, write_cells, write_markdown, write_text
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
    """

    scores: dict[str, SeedScores]

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the figures, unrounded, one dict an approach.

        Returns
        -------
        list of dict
            With the keys ``approach``, ``shots`` (the number of training rows), ``n_seeds``,
            ``accuracy`` (mean), ``std`` (NaN for one seed), ``fit_seconds`` (mean) and
            ``texts_per_second``. ``pandas.DataFrame`` takes it as it is.
        """
        return [
            {
                "approach": approach,
                "shots": len(scores.shots[0]),
                "n_seeds": scores.n_seeds,
                "accuracy": scores.mean,
                "std": scores.std,
                "fit_seconds": float(scores.fit_seconds.mean()),
                "texts_per_second": scores.texts_per_second,
            }
            for approach, scores in self.scores.items()
        ]

    def to_markdown(self) -> str:
        """Return the table in Markdown.

        Returns
        -------
        str
            The table and, below it, what its figures are averages over.
        """
        return f"{write_markdown(write_cells(self.scores))}\n\n{write_caption(self.scores)}"

    def __str__(self) -> str:
        return f"{write_text(write_cells(self.scores))}\n\n{write_caption(self.scores)}"


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
    random_state: int = 0,
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
    random_state : int, default=0
        Where all seeds come from.
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
    >>> print(report.to_markdown().splitlines()[0])
    | approach     | shots | accuracy ± sd | fit seconds | texts per second |
    """
    if not isinstance(estimators, Mapping) or not estimators:
        msg = (
            "The 'estimators' parameter of compare must be a dict of names and estimators, with "
            f"at least one. Got {estimators!r} instead."
        )
        raise InvalidParameterError(msg)
    shots = _give_each("n_shots", n_shots, estimators)
    seeds = _give_each("n_seeds", n_seeds, estimators)
    for name, estimator in estimators.items():
        check_parameters(
            "compare",
            estimator=estimator,
            n_shots=shots[name],
            n_seeds=seeds[name],
            random_state=random_state,
            verbose=verbose,
        )
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
    outcomes = _execute_all(estimators, plans, split, verbose=verbose)
    n_test = len(split.X_test)
    return ComparisonReport(
        {
            name: collect(runs, outcomes[name], n_test=n_test, n_shots=shots[name])
            for name, runs in plans.items()
        }
    )


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
    verbose: int | bool,
) -> dict[str, list[Outcome]]:
    """Run all plans, one approach after the other."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in plans}
    n_runs = sum(len(runs) for runs in plans.values())
    with Progress("compare", n_runs, verbose=verbose) as progress:
        for name, runs in plans.items():
            for run in runs:
                progress.advance(0, note=name)
                try:
                    outcome = execute(run, estimators[name], split)
                except Exception as error:
                    error.add_note(f"This happened while comparing, in approach {name!r}.")
                    raise
                outcomes[name].append(outcome)
                progress.advance(note=f"{name} {outcome.accuracy:.3f}")
    return outcomes
