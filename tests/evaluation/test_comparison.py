import math
import sys
from dataclasses import replace
from html.parser import HTMLParser

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
from instructclf.exceptions import InvalidShotsError, MissingExtraError

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


def answers(accuracy):
    """Answer so many of 4,000 texts right."""
    right = np.arange(4000) < round(4000 * accuracy)
    return np.where(right, np.array(["p", "n"] * 2000), "x")


def scores(accuracies, *, n_shots=16, n_rows=16, fit_seconds=1.0, predict_seconds=2.0):
    n_seeds = len(accuracies)
    return SeedScores(
        y_test=np.array(["p", "n"] * 2000),
        predictions=np.array([answers(accuracy) for accuracy in accuracies]),
        fit_seconds=np.full(n_seeds, fit_seconds),
        predict_seconds=np.full(n_seeds, predict_seconds),
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
    assert [row["n_rows"] for row in report.to_rows()] == [4, 40]


def test_rows_are_the_unrounded_figures(report):
    *_, last = report.to_rows()
    low, high = report.scores["tuning"].interval()
    known = {
        "approach": "tuning",
        "n_rows": 16,
        "n_seeds": 3,
        "accuracy": pytest.approx(0.88),
        "low": low,
        "high": high,
        "std": pytest.approx(0.02),
        "fit_seconds": pytest.approx(56.78),
        "texts_per_second": pytest.approx(4000 / 60),
    }
    assert {name: last[name] for name in known} == known
    unknown = last.keys() - known.keys()
    assert unknown == {"ensemble_accuracy", "log_loss", "calibration_error"}
    assert all(math.isnan(last[name]) for name in unknown)
    assert math.isnan(report.to_rows()[0]["std"])


def test_markdown_is_a_table_with_its_caption(report):
    every, none, tuning = interval_cells(report)
    assert report.to_markdown() == (
        "| approach   |       rows | accuracy |   95% interval | fit seconds | texts per second |\n"
        "| ---------- | ---------: | -------: | -------------: | ----------: | ---------------: |\n"
        f"| all rows   | all 32,000 |    0.825 | {every} |         123 |            2,000 |\n"
        f"| zero\\|shot |          0 |    0.750 | {none} |        0.00 |            2,000 |\n"
        f"| tuning     |         16 |    0.880 | {tuning} |        56.8 |             66.7 |\n"
        "\n"
        "4,000 test texts, 1 or 3 seeds; intervals are over both, over texts alone where there is "
        "1 seed."
    )


def test_printed_columns_line_up(report):
    every, none, tuning = interval_cells(report)
    assert str(report).splitlines()[:-1] == [
        "approach         rows  accuracy    95% interval  fit seconds  texts per second",
        "---------  ----------  --------  --------------  -----------  ----------------",
        f"all rows   all 32,000     0.825  {every}          123             2,000",
        f"zero|shot           0     0.750  {none}         0.00             2,000",
        f"tuning             16     0.880  {tuning}         56.8              66.7",
        "",
    ]


def interval_cells(report):
    return ["{:.3f} to {:.3f}".format(*of.interval()) for of in report.scores.values()]


def test_caption_says_how_many_seeds():
    both = ComparisonReport({"a": scores([0.5, 0.6, 0.7]), "b": scores([0.5, 0.6, 0.7, 0.7])})
    assert str(both).endswith("4,000 test texts, 3 or 4 seeds; intervals are over both.")
    one = ComparisonReport({"a": scores([0.5])})
    assert str(one).endswith("4,000 test texts, one seed; intervals are over texts alone.")


def test_caption_says_that_two_seeds_are_few():
    report = ComparisonReport({"a": scores([0.5, 0.6]), "b": scores([0.5, 0.6, 0.7])})
    note = "Two seeds make wide intervals, at worst from 0 to 1: five or more narrow them."
    assert str(report).endswith(f"2 or 3 seeds; intervals are over both. {note}")
    assert note in report.to_html()


def test_caption_shows_loading_apart_from_fit_seconds():
    loaded = replace(scores([0.5]), loading_seconds=12.34)
    report = ComparisonReport({"a": loaded, "b": replace(loaded, loading_seconds=0.1)})
    assert str(report).endswith("Loading models took 12.4 seconds, which fit seconds exclude.")


def test_frame_holds_the_rows(report):
    pytest.importorskip("pandas")
    frame = report.to_frame()
    assert frame["approach"].tolist() == list(report.scores)
    assert frame["accuracy"].tolist() == [of.mean for of in report.scores.values()]


def test_frame_without_pandas_says_how_to_get_it(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="A data frame needs pandas. Install it with"):
        report.to_frame()


class Table(HTMLParser):
    """Reads what a table says, cell by cell, and which elements it opens."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.scopes, self.open, self.caption, self.seen = [], [], [], "", set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "th":
            self.scopes.append(dict(attrs)["scope"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # every element is closed, in order

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        if self.open and self.open[-1] == "caption":
            self.caption += data


def test_html_has_the_cells_of_the_table_with_headers_and_caption(report):
    table = Table(report.to_html())
    assert table.open == []
    assert [row[:3] for row in table.rows] == [
        ["approach", "rows", "accuracy"],
        ["all rows", "all 32,000", "0.825"],
        ["zero|shot", "0", "0.750"],
        ["tuning", "16", "0.880"],
    ]
    assert table.scopes == ["col"] * 6 + ["row"] * 3
    assert str(report).endswith(table.caption)
    assert report._repr_html_() == report.to_html()


def test_names_in_html_are_escaped():
    name = "<script>alert('&')</script>"
    table = Table(ComparisonReport({name: scores([0.5])}).to_html())
    assert "script" not in table.seen
    assert table.rows[1][0] == name


def test_differences_are_those_of_the_scores_with_adjusted_p_values():
    rng = np.random.default_rng(0)
    names = ["base", "other", "third"]
    report = ComparisonReport(
        {n: noisy(rng, a) for n, a in zip(names, (0.5, 0.6, 0.52), strict=True)}
    )
    found = report.differences("base")
    alone = {n: report.scores[n].compare(report.scores["base"]) for n in names[1:]}
    assert list(found) == ["other", "third"]
    for name, difference in found.items():
        assert difference.interval == alone[name].interval
    smaller, larger = sorted(alone, key=lambda n: alone[n].p_value)
    assert found[smaller].p_value == pytest.approx(2 * alone[smaller].p_value)
    expected = max(2 * alone[smaller].p_value, alone[larger].p_value)
    assert found[larger].p_value == pytest.approx(expected)


def noisy(rng, accuracy):
    truth = np.array(["p", "n"] * 100)
    right = rng.random((4, 200)) < accuracy
    rows = [np.arange(4)] * 4
    return SeedScores(truth, np.where(right, truth, "x"), np.ones(4), np.ones(4), rows, 4)


def test_difference_from_an_unknown_approach_is_refused(report):
    with pytest.raises(InvalidParameterError, match="'against' .* one of .* Got 'svm' instead"):
        report.differences("svm")


def test_comparison_that_was_cut_off_goes_on_where_it_was(tmp_path):
    estimators = {"svm": SVM, "second": Failing()}
    with pytest.raises(RuntimeError):
        compare(estimators, *TRAIN, *TEST, n_shots=4, n_seeds=3, folder=tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(times) == 3
    estimators = {"svm": SVM, "second": DummyClassifier()}
    compare(estimators, *TRAIN, *TEST, n_shots=4, n_seeds=3, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in times.items())


def test_progress_counts_all_runs_on_standard_error(capsys):
    compare({"svm": SVM, "dummy": DummyClassifier()}, *TRAIN, *TEST, n_seeds=2, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "4/4" in err
    assert "dummy, accuracy 0.500" in err


def test_failure_says_in_which_approach():
    with pytest.raises(RuntimeError, match="happened during comparison, at 'second'"):
        compare({"first": SVM, "second": Failing()}, *TRAIN, *TEST, n_seeds=1)


def test_wrong_request_fails_before_anything_is_fitted():
    with pytest.raises(InvalidShotsError, match="n_shots=100 is more than"):
        compare({"a": Failing(), "b": SVM}, *TRAIN, *TEST, n_shots={"a": 4, "b": 100})


@pytest.mark.parametrize("estimators", [{}, SVM, [SVM]])
def test_anything_but_named_estimators_is_refused(estimators):
    with pytest.raises(InvalidParameterError, match="must be a dict of names and estimators"):
        compare(estimators, *TRAIN, *TEST)


def test_names_are_texts():
    with pytest.raises(InvalidParameterError, match="texts for names, which stand in .* Got 1"):
        compare({"a": SVM, 1: SVM}, *TRAIN, *TEST)


def test_a_name_of_two_lines_takes_one_line_in_markdown():
    lines = ComparisonReport({"two\nlines": scores([0.5])}).to_markdown().splitlines()
    assert lines[2].startswith("| two lines |")


def test_without_a_seed_all_approaches_still_learn_from_the_same_rows():
    report = compare({"a": SVM, "b": SVM}, *TRAIN, *TEST, n_shots=8, n_seeds=2, random_state=None)
    for one, other in zip(*(scores.shots for scores in report.scores.values()), strict=True):
        assert one.tolist() == other.tolist()
    again = compare({"a": SVM}, *TRAIN, *TEST, n_shots=8, n_seeds=2, random_state=None)
    drawn = [np.concatenate(one.scores["a"].shots).tolist() for one in (report, again)]
    assert drawn[0] != drawn[1]


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
