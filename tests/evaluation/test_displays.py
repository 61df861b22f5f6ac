import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import SelectiveClassifier
from instructclf.evaluation import (
    AccuracySecondsDisplay,
    ComparisonReport,
    FewShot,
    LearningCurve,
    LearningCurveDisplay,
    LossCurveDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    SeedScores,
    SeedScoresDisplay,
    area_under_risk_coverage,
    confusion_display,
)
from instructclf.exceptions import InvalidLabelsError, MissingExtraError

plt = pytest.importorskip("matplotlib.pyplot")
pytestmark = pytest.mark.usefixtures("pyplot")
RNG = np.random.default_rng(0)
TRUTH, PROBABILITIES = ["n", "p", "n", "p"], [0.1, 0.8, 0.7, 0.6]


def made(accuracy=0.7, *, n_seeds=3, classes=("n", "p"), n_shots=4, seconds=2.0, losses=()):
    """Make scores with probabilities, at about this accuracy."""
    classes = np.array(classes)
    truth = RNG.integers(len(classes), size=60)
    right = RNG.random((n_seeds, 60)) < accuracy
    answers = np.where(right, truth, (truth + 1) % len(classes))
    probabilities = np.full((n_seeds, 60, len(classes)), 0.3 / (len(classes) - 1))
    np.put_along_axis(probabilities, answers[:, :, np.newaxis], 0.7, axis=2)
    return SeedScores(
        y_test=classes[truth],
        predictions=classes[answers],
        fit_seconds=np.full(n_seeds, seconds),
        predict_seconds=np.full(n_seeds, 3 * seconds),
        shots=[np.arange(n_shots)] * n_seeds,
        n_shots=n_shots,
        classes=classes,
        log_probabilities=np.log(probabilities),
        loss_curves=[np.array(curve) for curve in losses],
    )


def fitted_network(seed=0):
    network = MLPClassifier(max_iter=300, tol=0.1, random_state=seed)
    return network.fit(np.eye(4), [0, 1, 0, 1])


@pytest.fixture(scope="module")
def report():
    return ComparisonReport(
        {
            "one seed": made(0.6, n_seeds=1, seconds=0.1),
            "a rather long name of an approach": made(0.8, losses=[[0.7, 0.3], [0.7, 0.2, 0.1]]),
        }
    )


@pytest.fixture(scope="module")
def curve():
    return LearningCurve({k: made(a, n_shots=k) for k, a in ((0, 0.5), (4, 0.6), (16, 0.8))})


@pytest.fixture(params=range(8))
def draw(request, report, curve):
    """Return what draws one kind of picture after the other."""
    scores = report.scores["a rather long name of an approach"]
    return (
        lambda ax=None: LearningCurveDisplay.from_curves({"one": curve, "two": curve}, ax=ax),
        lambda ax=None: SeedScoresDisplay.from_report(report, ax=ax),
        lambda ax=None: ReliabilityDisplay.from_scores(report.scores, ax=ax),
        lambda ax=None: confusion_display(scores, ax=ax),
        lambda ax=None: LossCurveDisplay.from_scores(report.scores, ax=ax),
        lambda ax=None: AccuracySecondsDisplay.from_report(report, ax=ax),
        lambda ax=None: ReliabilityDisplay.from_scores(scores, ax=ax),
        lambda ax=None: RiskCoverageDisplay.from_predictions(TRUTH, PROBABILITIES, name="a", ax=ax),
    )[request.param]


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_nothing_is_cut_off(draw, style):
    with plt.style.context(style):
        figure = draw().figure_
        figure.canvas.draw()
        drawn = figure.get_tightbbox(figure.canvas.get_renderer())  # in inches
        width, height = figure.get_size_inches()
        assert (drawn.x0 > -0.01, drawn.y0 > -0.01) == (True, True)
        assert (drawn.x1 < width + 0.01, drawn.y1 < height + 0.01) == (True, True)


def test_axes_given_are_drawn_on(draw):
    figure, ax = plt.subplots()
    display = draw(ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]


def test_axes_in_a_part_of_a_figure_are_drawn_on(draw):
    whole = plt.figure()
    left, _ = whole.subfigures(1, 2)
    upper, _ = left.subfigures(2, 1)
    for part in (left, upper):
        ax = part.subplots()
        display = draw(ax)
        assert display.ax_ is ax
        assert display.figure_ is whole  # which can be saved, as a part cannot
        whole.canvas.draw()


def test_legend_is_no_wider_than_the_part_of_a_figure_that_it_is_in():
    left, _ = plt.figure(figsize=(9, 4)).subfigures(1, 2)
    approaches = {f"approach {n}": [[0.5, 0.1]] for n in range(6)}
    ax = LossCurveDisplay(approaches).plot(left.subplots()).ax_
    assert ax.get_legend().get_window_extent().x1 <= left.bbox.x1


@pytest.mark.parametrize(
    "draw_named",
    [
        lambda named: LearningCurveDisplay.from_curves(
            {name: LearningCurve({4: scores}) for name, scores in named.items()}
        ),
        ReliabilityDisplay.from_scores,
        LossCurveDisplay.from_scores,
        lambda named: AccuracySecondsDisplay.from_report(ComparisonReport(named)),
    ],
    ids=["learning curves", "reliability", "losses", "seconds"],
)
def test_legend_shows_names_that_begin_with_an_underscore(draw_named):
    scores = made(0.8, losses=[[0.7, 0.3]])
    legend = draw_named({"_base": scores, "tuned": scores}).ax_.get_legend()
    names = [text.get_text().partition(" (")[0] for text in legend.get_texts()]
    assert [name for name in names if name != "perfect"] == ["_base", "tuned"]


def test_without_matplotlib_the_error_names_the_extra(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match=r'needs matplotlib. .*"instructclf\[plots\]"'):
        draw()


def test_learning_curve_shows_means_and_intervals_at_the_shots(curve):
    display = LearningCurveDisplay.from_curves(curve, confidence=0.9)
    (line,) = display.ax_.lines
    assert_allclose(line.get_xdata(), [0, 4, 16])
    assert_allclose(line.get_ydata(), [scores.mean for scores in curve.scores.values()])
    (band,) = display.ax_.collections
    heights = band.get_paths()[0].vertices[:, 1]
    lows, highs = zip(*(scores.interval(0.9) for scores in curve.scores.values()), strict=True)
    assert_allclose([heights.min(), heights.max()], [min(lows), max(highs)])
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["0", "4", "16"]
    assert display.ax_.get_ylabel() == "accuracy, 90% interval"
    assert display.ax_.get_legend() is None  # one curve needs none


def test_doublings_have_the_same_width_and_so_has_the_step_from_zero(curve):
    ax = LearningCurveDisplay.from_curves(curve).ax_
    zero, four, sixteen = ax.transData.transform([(k, 0.5) for k in (0, 4, 16)])[:, 0]
    assert sixteen - four == pytest.approx(2 * (four - zero) / 2, rel=0.5)
    alone = LearningCurve({k: v for k, v in curve.scores.items() if k})
    assert LearningCurveDisplay.from_curves(alone).ax_.get_xscale() == "log"
    only = LearningCurve({0: curve.scores[0]})
    assert LearningCurveDisplay.from_curves(only).ax_.get_xscale() == "linear"


def test_seed_scores_have_a_dot_for_each_seed_and_the_table_s_order(report):
    ax = SeedScoresDisplay.from_report(report).ax_
    dots = [c.get_offsets() for c in ax.collections if len(c.get_offsets()) and c.get_paths()]
    drawn = sorted(x for row in dots for x, _ in row if x > 0)
    expected = sorted(x for scores in report.scores.values() for x in scores.scores)
    assert_allclose(drawn, expected)
    assert ax.yaxis_inverted()
    names = [tick.get_text().replace("\n", " ") for tick in ax.get_yticklabels()]
    assert names == list(report.scores)


def test_seed_scores_of_one_approach_need_no_name(report):
    ax = SeedScoresDisplay.from_scores(report.scores["one seed"]).ax_
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [""]


def test_reliability_shows_accuracy_of_each_bin(report):
    scores = report.scores["a rather long name of an approach"]
    ax = ReliabilityDisplay.from_scores(scores).ax_
    (dots,) = [c for c in ax.collections if c.get_offsets().any()]
    assert_allclose(dots.get_offsets(), [(0.7, scores.likeliest_correct.mean())])  # all in one bin
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["perfect", f"calibration error {scores.calibration_error():.3f}"]


def test_reliability_of_predictions_is_that_of_scores():
    scores = made(0.8, n_seeds=1)
    display = ReliabilityDisplay.from_predictions(
        scores.y_test, np.exp(scores.log_probabilities[0]), classes=scores.classes
    )
    assert display.answers[""].error == pytest.approx(scores.calibration_error())


def test_probabilities_of_another_shape_are_refused():
    with pytest.raises(InvalidLabelsError, match=r"shape \(2, 3\), .* Got shape \(2, 2\)"):
        ReliabilityDisplay.from_predictions(["a", "b"], np.eye(2), classes=["a", "b", "c"])


@pytest.mark.parametrize("wrong", [1.2, -0.1, float("nan"), float("inf"), np.log(0.9)])
def test_values_that_are_no_probabilities_are_refused(wrong):
    given = [[0.9, 0.1], [0.2, wrong]]
    message = rf"hold numbers between 0 and 1, .* Got {wrong} in row 1, column 1 instead"
    with pytest.raises(InvalidParameterError, match=message):
        ReliabilityDisplay.from_predictions(["a", "b"], given, classes=["a", "b"])


def test_rounding_past_one_is_no_error():
    given = [[1 + 1e-7, 0], [0, 1]]
    display = ReliabilityDisplay.from_predictions(["a", "b"], given, classes=["a", "b"])
    assert display.answers[""].error == pytest.approx(0, abs=1e-6)


def test_labels_none_of_which_is_a_class_are_refused():
    message = r"holds \['0', '1'\], and the classes are \[0, 1\]. Give both of one type"
    with pytest.raises(InvalidLabelsError, match=message):
        ReliabilityDisplay.from_predictions(["0", "1"], [[0.9, 0.1], [0.1, 0.9]], classes=[0, 1])


def test_a_label_that_the_classifier_does_not_know_is_an_answer_it_got_wrong():
    given = [[0.9, 0.1], [0.1, 0.9]]
    display = ReliabilityDisplay.from_predictions(["a", "new"], given, classes=["a", "b"])
    assert display.answers[""].correct.tolist() == [True, False]


@pytest.mark.parametrize("classes", [["a", "b"], []])
def test_reliability_of_no_labels_is_refused(classes):
    with pytest.raises(InvalidLabelsError, match=r"0 sample\(s\) in y_true"):
        ReliabilityDisplay.from_predictions([], np.empty((0, len(classes))), classes=classes)


def test_reliability_without_classes_is_refused():
    with pytest.raises(InvalidLabelsError, match=r"No label in y_true .* classes are \[\]"):
        ReliabilityDisplay.from_predictions(["a"], np.empty((1, 0)), classes=[])


def test_reliability_without_probabilities_is_refused():
    scores = made()
    bare = SeedScores(scores.y_test, scores.predictions, np.ones(3), np.ones(3), [], None)
    with pytest.raises(AttributeError, match="no probabilities"):
        ReliabilityDisplay.from_scores(bare)


@pytest.mark.parametrize("n_classes", [2, 4, 15])
def test_confusion_is_scikit_learn_s_over_all_seeds(n_classes):
    scores = made(classes=[f"a label {i:02}" for i in range(n_classes)])
    display = confusion_display(scores)
    assert isinstance(display, ConfusionMatrixDisplay)
    truth = np.concatenate([scores.y_test] * 3)
    expected = confusion_matrix(truth, np.concatenate(scores.predictions), normalize="true")
    assert_allclose(display.confusion_matrix, expected)
    assert (display.text_ is None) == (n_classes > 12)


def test_short_labels_stand_upright():
    ax = confusion_display(made(classes=["a", "b", "c"])).ax_
    assert {tick.get_rotation() for tick in ax.get_xticklabels()} == {0.0}


def test_loss_curves_have_a_line_for_each_run(report):
    ax = LossCurveDisplay.from_scores(report.scores).ax_
    lines = [line for line in ax.lines if len(line.get_xdata()) > 1]
    assert [line.get_xdata().tolist() for line in lines] == [[1, 2], [1, 2, 3]]
    assert lines[1].get_ydata().tolist() == [0.7, 0.2, 0.1]


def test_losses_of_a_fitted_estimator_or_of_the_end_of_a_pipeline():
    network = fitted_network()
    pipeline = make_pipeline(FunctionTransformer(), network)
    nested = make_pipeline(FunctionTransformer(), pipeline)
    for estimator in (network, pipeline, nested):
        line = LossCurveDisplay.from_estimator(estimator).ax_.lines[0]
        assert_allclose(line.get_ydata(), network.loss_curve_)


def test_losses_of_the_estimator_in_a_few_shot_or_a_search():
    words = make_pipeline(TfidfVectorizer(), MLPClassifier(max_iter=300, tol=0.1))
    few = FewShot(words, n_shots=4, random_state=0)
    search = GridSearchCV(few, {"n_shots": [2, 4]}, cv=2)
    texts, labels = ["good", "bad", "fine", "poor"] * 4, ["p", "n"] * 8
    for estimator in (few, search):
        estimator.fit(texts, labels)
        fitted = getattr(estimator, "best_estimator_", estimator).estimator_[-1]
        line = LossCurveDisplay.from_estimator(estimator).ax_.lines[0]
        assert_allclose(line.get_ydata(), fitted.loss_curve_)


def test_losses_of_an_estimator_fitted_with_several_seeds_are_a_line_for_each():
    members = [fitted_network(seed) for seed in (0, 1)]
    averaging = SimpleNamespace(n_seeds=2, estimators_=members)
    for estimator in (averaging, SimpleNamespace(shots_=[], estimator_=averaging)):
        ax = LossCurveDisplay.from_estimator(estimator).ax_
        lines = [line for line in ax.lines if len(line.get_xdata()) > 1]
        for line, member in zip(lines, members, strict=True):
            assert_allclose(line.get_ydata(), member.loss_curve_)
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert names == ["seed 1", "seed 2"]


def test_seeds_without_losses_and_other_ensembles_are_refused():
    prompts = SimpleNamespace(n_seeds=2, estimators_=[SimpleNamespace()] * 2)
    votes = SimpleNamespace(estimators_=[fitted_network()])
    for estimator in (prompts, votes):
        with pytest.raises(NotFittedError, match="This SimpleNamespace has no loss_curve_"):
            LossCurveDisplay.from_estimator(estimator)


def test_estimator_without_losses_is_refused():
    with pytest.raises(NotFittedError, match="This MLPClassifier has no loss_curve_. Fit it"):
        LossCurveDisplay.from_estimator(MLPClassifier())
    with pytest.raises(NotFittedError, match="have no loss curves, as no estimator had a"):
        LossCurveDisplay.from_scores(made())


@pytest.mark.parametrize(("seconds", "expected"), [("fit", 2), ("predict", 6), ("total", 8)])
def test_seconds_are_those_asked_for(report, seconds, expected):
    ax = AccuracySecondsDisplay.from_report(report, seconds=seconds).ax_
    drawn = [bar.lines[0].get_xdata()[0] for bar in ax.containers]
    assert drawn == [pytest.approx(expected / 20), pytest.approx(expected)]
    assert ("60 texts" in ax.get_xlabel()) == (seconds != "fit")


def test_scores_that_are_all_alike_can_be_drawn():
    """Sums of thirds are not quite 1, and the interval would end before its middle."""
    scores = made(1, n_seeds=10, classes=tuple("abcdefg"))
    for scoring in ("accuracy", "balanced_accuracy"):
        changed = replace(scores, scoring=scoring)
        AccuracySecondsDisplay.from_report(ComparisonReport({"": changed}))


@pytest.mark.parametrize("confidence", [95, 0, 1.0, "0.95"])
def test_confidence_that_is_no_share_is_refused(confidence, report, curve):
    for draw_with in (
        lambda of: SeedScoresDisplay.from_scores(report.scores, confidence=of),
        lambda of: AccuracySecondsDisplay.from_report(report, confidence=of),
        lambda of: LearningCurveDisplay.from_curves(curve, confidence=of),
    ):
        with pytest.raises(InvalidParameterError, match="'confidence' parameter must be a float"):
            draw_with(confidence)


def test_other_seconds_are_refused(report):
    with pytest.raises(InvalidParameterError, match="'seconds' parameter must be one of .* 'all'"):
        AccuracySecondsDisplay.from_report(report, seconds="all")


def test_risk_over_coverage_is_a_curve_over_the_least_possible_one():
    ax = RiskCoverageDisplay.from_predictions(TRUTH, PROBABILITIES, name="words").ax_
    curve, least = ax.get_lines()
    assert curve.get_label() == "words (area 0.146)"
    assert_allclose(curve.get_xydata(), [[0.25, 0], [0.5, 0], [0.75, 1 / 3], [1, 0.25]])
    assert_allclose(least.get_xydata(), [[0.25, 0], [0.5, 0], [0.75, 0], [1, 0.25]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("coverage", "risk")


def test_risk_over_coverage_shows_what_a_selective_classifier_decides():
    texts = [f"{word} {i}" for i in range(60) for word in ("good", "bad", "odd")]
    labels = ["p", "n", "p", "p", "n", "n"] * 30
    words = make_pipeline(TfidfVectorizer(), LogisticRegression())
    selective = SelectiveClassifier(words, risk=0.1, random_state=0).fit(texts, labels)
    ax = RiskCoverageDisplay.from_estimator(selective, texts, labels).ax_
    curve, _, stated, decided = ax.get_lines()
    assert curve.get_label().startswith("SelectiveClassifier (area")
    assert_allclose(stated.get_ydata(), 0.1)
    coverage, risk = decided.get_xydata()[0]
    answers = selective.predict(texts)
    given = np.not_equal(answers, None)
    assert 0 < coverage == given.mean() < 1
    assert risk == np.mean(answers[given] != np.array(labels)[given])
    RiskCoverageDisplay.from_estimator(selective.estimator_, texts, labels, name="inner", ax=ax)
    area = area_under_risk_coverage(labels, selective.predict_proba(texts))
    assert ax.get_lines()[4].get_label() == f"inner (area {area:.3f})"
