import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation import ComparisonReport, SeedScores, compare, evaluate_seeds
from instructclf.exceptions import InvalidShotsError

TRAIN = (
    [f"good {i}" for i in range(20)] + [f"bad {i}" for i in range(20)],
    ["p"] * 20 + ["n"] * 20,
)
TEST = (["good", "bad", "good bad", "other"], ["p", "n", "p", "n"])
SVM = make_pipeline(TfidfVectorizer(), LinearSVC())


class Failing(ClassifierMixin, BaseEstimator):
    """Cannot be fitted."""

    def fit(self, X, y):
        message = "out of memory"
        raise RuntimeError(message)

    def predict(self, X): ...


def scores(accuracies, *, n_shots=16, n_rows=16, fit_seconds=1.0, predict_seconds=2.0):
    n_seeds = len(accuracies)
    return SeedScores(
        scores=np.array(accuracies),
        fit_seconds=np.full(n_seeds, fit_seconds),
        predict_seconds=np.full(n_seeds, predict_seconds),
        n_test=4000,
        shots=[np.arange(n_rows)] * n_seeds,
        n_shots=n_shots,
    )


@pytest.fixture
def report():
    """Return the report of three approaches with known figures."""
    return ComparisonReport(
        {
            "all rows": scores([0.8251], n_shots=None, n_rows=32000, fit_seconds=123.4),
            "zero|shot": scores([0.75], n_shots=0, n_rows=0, fit_seconds=0.004),
            "tuning": scores([0.86, 0.88, 0.9], fit_seconds=56.78, predict_seconds=60.0),
        }
    )


def test_scores_are_those_of_evaluate_seeds():
    report = compare({"svm": SVM, "dummy": DummyClassifier()}, *TRAIN, *TEST, n_shots=4, n_seeds=3)
    for name, estimator in {"svm": SVM, "dummy": DummyClassifier()}.items():
        alone = evaluate_seeds(estimator, *TRAIN, *TEST, n_shots=4, n_seeds=3)
        assert_array_equal(report.scores[name].scores, alone.scores)
        assert_array_equal(report.scores[name].shots, alone.shots)


def test_approaches_keep_their_order():
    names = ["z", "a", "m"]
    report = compare(dict.fromkeys(names, DummyClassifier()), *TRAIN, *TEST, n_seeds=1)
    assert list(report.scores) == names
    assert [row["approach"] for row in report.to_rows()] == names


def test_shots_and_seeds_may_differ_between_approaches():
    report = compare(
        {"few": SVM, "all": SVM},
        *TRAIN,
        *TEST,
        n_shots={"few": 4, "all": None},
        n_seeds={"few": 3, "all": 1},
    )
    assert [len(of.scores) for of in report.scores.values()] == [3, 1]
    assert [row["shots"] for row in report.to_rows()] == [4, 40]


def test_rows_are_the_unrounded_figures(report):
    *_, last = report.to_rows()
    assert last == {
        "approach": "tuning",
        "shots": 16,
        "n_seeds": 3,
        "accuracy": pytest.approx(0.88),
        "std": pytest.approx(0.02),
        "fit_seconds": pytest.approx(56.78),
        "texts_per_second": pytest.approx(4000 / 60),
    }
    assert math.isnan(report.to_rows()[0]["std"])


def test_markdown_is_a_table_with_its_caption(report):
    assert report.to_markdown() == (
        "| approach   |      shots | accuracy ± sd | fit seconds | texts per second |\n"
        "| ---------- | ---------: | ------------: | ----------: | ---------------: |\n"
        "| all rows   | all 32,000 |         0.825 |         123 |            2,000 |\n"
        "| zero\\|shot |          0 |         0.750 |        0.00 |            2,000 |\n"
        "| tuning     |         16 | 0.880 ± 0.020 |        56.8 |             66.7 |\n"
        "\n"
        "4,000 test texts; ± standard deviation over 3 seeds; one seed where none is given."
    )


def test_printed_columns_line_up(report):
    assert str(report).splitlines() == [
        "approach        shots  accuracy ± sd  fit seconds  texts per second",
        "---------  ----------  -------------  -----------  ----------------",
        "all rows   all 32,000          0.825          123             2,000",
        "zero|shot           0          0.750         0.00             2,000",
        "tuning             16  0.880 ± 0.020         56.8              66.7",
        "",
        "4,000 test texts; ± standard deviation over 3 seeds; one seed where none is given.",
    ]


def test_caption_says_how_many_seeds():
    both = ComparisonReport({"a": scores([0.5, 0.6]), "b": scores([0.5, 0.6, 0.7])})
    assert str(both).endswith("4,000 test texts; ± standard deviation over 2 or 3 seeds.")
    assert str(ComparisonReport({"a": scores([0.5])})).endswith("4,000 test texts, one seed.")


def test_progress_counts_all_runs_on_standard_error(capsys):
    compare({"svm": SVM, "dummy": DummyClassifier()}, *TRAIN, *TEST, n_seeds=2, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "4/4" in err
    assert "dummy 0.500" in err


def test_failure_says_in_which_approach():
    with pytest.raises(RuntimeError, match="happened while comparing, in approach 'second'"):
        compare({"first": SVM, "second": Failing()}, *TRAIN, *TEST, n_seeds=1)


def test_wrong_request_fails_before_anything_is_fitted():
    with pytest.raises(InvalidShotsError, match="n_shots=100 is more than"):
        compare({"a": Failing(), "b": SVM}, *TRAIN, *TEST, n_shots={"a": 4, "b": 100})


@pytest.mark.parametrize("estimators", [{}, SVM, [SVM]])
def test_anything_but_named_estimators_is_refused(estimators):
    with pytest.raises(InvalidParameterError, match="must be a dict of names and estimators"):
        compare(estimators, *TRAIN, *TEST)


@pytest.mark.parametrize("parameter", ["n_shots", "n_seeds"])
@pytest.mark.parametrize("given", [{"a": 4}, {"a": 4, "b": 4, "c": 4}])
def test_dict_with_other_names_is_refused(parameter, given):
    message = f"'{parameter}' parameter of compare, given as a dict, must have the names"
    with pytest.raises(InvalidParameterError, match=message):
        compare({"a": SVM, "b": SVM}, *TRAIN, *TEST, **{parameter: given})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_shots", {"a": -1}, "'n_shots' parameter of compare must be an int .* Got -1 instead"),
        ("n_seeds", 0, "'n_seeds' parameter of compare must be an int .* Got 0 instead"),
        ("n_shots", 0, "'n_shots' parameter of compare can be 0 only for an estimator that learns"),
    ],
)
def test_parameters_outside_their_domain_are_refused(name, value, message):
    with pytest.raises(InvalidParameterError, match=message):
        compare({"a": SVM}, *TRAIN, *TEST, **{name: value})


def test_transformer_among_the_estimators_is_refused():
    with pytest.raises(InvalidParameterError, match="of compare must be an object implementing"):
        compare({"a": SVM, "b": TfidfVectorizer()}, *TRAIN, *TEST)
