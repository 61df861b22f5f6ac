import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation import LearningCurve, SeedScores, evaluate_seeds
from instructclf.evaluation.metrics import expected_calibration_error
from instructclf.exceptions import InvalidLabelsError
from tests.fixtures import LABELS, TEXTS

RNG = np.random.default_rng(0)
TRAIN = (
    [f"good {i} {i % 7}" for i in range(30)] + [f"bad {i} {i % 7}" for i in range(30)],
    ["p"] * 30 + ["n"] * 30,
)
TEST = (["good 3", "bad 2", "good bad 1", "4 5", "good 6", "2"], ["p", "n", "p", "n", "n", "p"])
REGRESSION = make_pipeline(TfidfVectorizer(token_pattern=r"\w+"), LogisticRegression())
SVM = make_pipeline(TfidfVectorizer(), LinearSVC())


def refit(estimator, scores):
    """Fit once more on the shots of each seed, in a simple loop."""
    for shots in scores.shots:
        yield estimator.fit([TRAIN[0][i] for i in shots], [TRAIN[1][i] for i in shots])


def made(correct, **options):
    """Make the scores of these answers."""
    correct = np.asarray(correct, dtype=bool)
    truth = np.array(["p"] * correct.shape[1])
    seconds = np.ones(len(correct))
    shots = [np.arange(4)] * len(correct)
    return SeedScores(truth, np.where(correct, "p", "n"), seconds, seconds, shots, 4, **options)


def test_predictions_and_probabilities_are_those_of_a_simple_loop():
    scores = evaluate_seeds(REGRESSION, *TRAIN, *TEST, n_shots=6, n_seeds=3)
    for seed, fitted in enumerate(refit(REGRESSION, scores)):
        assert_array_equal(scores.predictions[seed], fitted.predict(TEST[0]))
        assert_allclose(np.exp(scores.log_probabilities[seed]), fitted.predict_proba(TEST[0]))
    assert scores.classes.tolist() == ["n", "p"]
    assert_array_equal(scores.correct, scores.predictions == np.array(TEST[1]))


def test_ensemble_multiplies_probabilities():
    scores = evaluate_seeds(REGRESSION, *TRAIN, *TEST, n_shots=4, n_seeds=5)
    product = np.ones((len(TEST[0]), 2))
    for fitted in refit(REGRESSION, scores):
        product = product * fitted.predict_proba(TEST[0])
    together = np.array(["n", "p"])[product.argmax(axis=1)]
    assert scores.ensemble_score == np.mean(together == np.array(TEST[1]))


def test_ensemble_weighs_all_seeds_and_not_the_surest_alone():
    given = np.log([[[0.2, 0.8]], [[0.6, 0.4]], [[0.95, 0.05]]])  # the product is for the first
    undecided = np.log([[[0.9, 0.1]], [[0.3, 0.7]], [[0.3, 0.7]], [[0.3, 0.7]]])  # for the second
    for log_probabilities, right in ((given, False), (undecided, True)):
        scores = made(
            np.ones((len(log_probabilities), 1)),
            classes=np.array(["n", "p"]),
            log_probabilities=log_probabilities,
        )
        assert scores.ensemble_score == right


def test_log_loss_is_that_of_scikit_learn():
    scores = evaluate_seeds(REGRESSION, *TRAIN, *TEST, n_shots=6, n_seeds=3)
    losses = [log_loss(TEST[1], f.predict_proba(TEST[0])) for f in refit(REGRESSION, scores)]
    assert scores.log_loss == pytest.approx(np.mean(losses))


def test_calibration_error_is_the_mean_over_seeds():
    scores = evaluate_seeds(REGRESSION, *TRAIN, *TEST, n_shots=6, n_seeds=3)
    errors = []
    for fitted in refit(REGRESSION, scores):
        sure = fitted.predict_proba(TEST[0]).max(axis=1)
        errors.append(expected_calibration_error(sure, fitted.predict(TEST[0]) == TEST[1], 8))
    assert scores.calibration_error(8) == pytest.approx(np.mean(errors))


@pytest.mark.parametrize("n_bins", [0, -1, 2.5])
def test_bins_are_counted(n_bins):
    scores = evaluate_seeds(REGRESSION, *TRAIN, *TEST, n_shots=6, n_seeds=1)
    with pytest.raises(InvalidParameterError, match=f"'n_bins' .* Got {n_bins} instead"):
        scores.calibration_error(n_bins)


def test_a_difference_stays_among_differences():
    """Two seeds, as far apart as can be, which widens the interval beyond all bounds."""
    one, other = made([[1] * 9, [0] * 9]), made([[0] * 9, [0] * 9])
    low, high = one.compare(other).interval
    assert -1 <= low <= high <= 1


def test_impossible_labels_keep_log_probabilities_finite():
    tree = make_pipeline(TfidfVectorizer(), DecisionTreeClassifier())
    scores = evaluate_seeds(tree, *TRAIN, *TEST, n_shots=6, n_seeds=2)
    assert np.isfinite(scores.log_probabilities).all()
    assert np.isfinite(scores.log_loss)


def test_label_that_no_training_row_has_gets_a_column_and_no_probability():
    scores = evaluate_seeds(REGRESSION, *TRAIN, ["good", "so so"], ["p", "neutral"], n_shots=4)
    assert scores.classes.tolist() == ["n", "neutral", "p"]
    assert_allclose(np.exp(scores.log_probabilities[:, :, 1]), 0, atol=1e-300)
    assert not scores.correct[:, 1].any()


def test_estimator_without_probabilities_has_no_figures_that_need_them():
    scores = evaluate_seeds(SVM, *TRAIN, *TEST, n_shots=4)
    assert scores.log_probabilities is None
    figures = [scores.ensemble_score, scores.log_loss, scores.calibration_error()]
    assert np.isnan(figures).all()
    with pytest.raises(AttributeError, match="no probabilities, as the estimator has no predict"):
        _ = scores.confidence


def test_predictions_are_those_of_predict_even_where_probabilities_say_otherwise():
    class Contrary(DummyClassifier):
        def predict(self, X):
            return np.array(["n"] * len(X))

    contrary = Contrary(strategy="constant", constant="p")
    scores = evaluate_seeds(contrary, *TRAIN, *TEST, n_shots=4, n_seeds=1)
    assert (scores.predictions == "n").all()
    assert scores.ensemble_score == 0.5  # of the probabilities, which are all for "p"


def test_our_classifiers_are_asked_once_and_answer_as_predict_does(make_classifier):
    classifier = make_classifier(n_shots=None)
    texts = ["good thing", "bad thing", "thing"]
    scores = evaluate_seeds(
        classifier, TEXTS, LABELS, texts, ["positive", "negative", "positive"], n_shots=4, n_seeds=1
    )
    (shots,) = scores.shots
    fitted = classifier.fit([TEXTS[i] for i in shots], [LABELS[i] for i in shots])
    if not hasattr(fitted, "loss_curve_"):  # tuning has another seed here
        assert_allclose(np.exp(scores.log_probabilities[0]), fitted.predict_proba(texts), atol=1e-5)
        assert_array_equal(scores.predictions[0], fitted.predict(texts))
    else:
        assert len(scores.loss_curves) == 1
    likeliest = scores.classes[scores.log_probabilities[0].argmax(axis=1)]
    assert_array_equal(scores.predictions[0], likeliest)


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
def test_each_seed_of_each_run_has_its_loss_curve(make_tuning):
    tuned = make_tuning(n_seeds=2)
    scores = evaluate_seeds(tuned, TEXTS, LABELS, TEXTS[:2], LABELS[:2], n_shots=4, n_seeds=2)
    assert len(scores.loss_curves) == 4
    assert all(len(curve) for curve in scores.loss_curves)


def test_t_interval_is_that_of_scipy_over_seeds():
    scores = made(RNG.random((5, 40)) < 0.7)
    expected = stats.ttest_1samp(scores.scores, 0).confidence_interval(0.95)
    assert_allclose(scores.t_interval(), expected)


def test_interval_stays_within_0_and_1():
    low, high = made([[True] * 5, [True] * 4 + [False], [True] * 5]).interval()
    assert (low >= 0, high) == (True, 1.0)


def test_more_confidence_is_a_wider_interval():
    scores = made(RNG.random((5, 40)) < 0.7)
    assert np.diff(scores.interval(0.99)) > np.diff(scores.interval(0.9)) > 0


@pytest.mark.parametrize(("seconds", "expected"), [([1.0, 3.0], 50.0), ([0.0, 0.0], np.inf)])
def test_speed_is_over_all_seeds(seconds, expected):
    truth = np.zeros(100)
    scores = SeedScores(truth, np.zeros((2, 100)), np.ones(2), np.array(seconds), [], None)
    assert scores.texts_per_second == expected


def test_comparison_counts_the_discordant_answers():
    first, second = RNG.random((3, 30)) < 0.8, RNG.random((3, 30)) < 0.6
    difference = made(first).compare(made(second))
    pairs = [(a, b) for a, b in zip(first.ravel(), second.ravel(), strict=True)]
    assert difference.n_first == pairs.count((True, False))
    assert difference.n_second == pairs.count((False, True))
    assert difference.n_discordant == difference.n_first + difference.n_second
    assert difference.difference == pytest.approx(first.mean() - second.mean())


def test_comparison_the_other_way_round_has_the_other_sign():
    one, other = made(RNG.random((4, 50)) < 0.8), made(RNG.random((4, 50)) < 0.6)
    there, back = one.compare(other), other.compare(one)
    assert back.difference == pytest.approx(-there.difference)
    assert_allclose(back.interval, [-there.interval.high, -there.interval.low], atol=1e-12)
    assert back.p_value == there.p_value


def test_pairing_by_text_is_sharper_than_two_intervals():
    """Two approaches that fail on the same hard texts, one of them on a few more."""
    easy = np.tile(RNG.random(200) < 0.7, (4, 1))
    better, worse = made(easy), made(easy & (np.arange(200) > 12))
    assert better.interval().low < worse.interval().high
    assert better.compare(worse).interval.low > 0
    assert better.compare(worse).p_value < 0.05


def test_equal_scores_do_not_differ():
    scores = made(RNG.random((4, 50)) < 0.8)
    difference = scores.compare(scores)
    assert (difference.difference, difference.p_value, difference.n_discordant) == (0, 1, 0)


def test_one_seed_meets_all_of_the_other():
    several, single = RNG.random((3, 30)) < 0.8, RNG.random((1, 30)) < 0.6
    difference = made(several).compare(made(single))
    repeated = made(several).compare(made(np.repeat(single, 3, axis=0)))
    assert difference == repeated


def test_different_numbers_of_seeds_are_refused():
    with pytest.raises(InvalidLabelsError, match="paired by seed, and these have 2 and 3 seeds"):
        made(np.ones((2, 4))).compare(made(np.ones((3, 4))))


def test_different_test_sets_are_refused():
    with pytest.raises(InvalidLabelsError, match="same test set can be paired. .* 4 and 5 texts"):
        made(np.ones((2, 4))).compare(made(np.ones((2, 5))))


def test_scores_and_differences_are_written_in_one_line():
    one, other = made([[True, True], [True, False]]), made([[True, False], [True, False]])
    assert str(one).startswith("0.750 [")
    assert str(one).splitlines()[0].endswith("] over 2 seeds and 2 texts")
    assert str(made([[True]])) == "1.000 [1.000, 1.000] over 1 seed and 1 text"
    assert str(one.compare(other)).startswith("+0.250 [")
    assert str(one.compare(other)).endswith("; answers that only one gets right: 1 to 0")


@pytest.mark.parametrize(("n_seeds", "is_noted"), [(1, False), (2, True), (3, False)])
def test_two_seeds_are_said_to_be_too_few(n_seeds, is_noted):
    written = str(made([[True, False], [True, True], [True, True]][:n_seeds]))
    assert ("\nTwo seeds make wide intervals" in written) == is_noted
    curve = str(LearningCurve({4: made([[True]] * n_seeds), 8: made([[True]] * n_seeds)}))
    assert curve.count("five or more narrow them") == is_noted


def test_two_seeds_that_differ_say_nothing_by_themselves():
    assert made([[True, False], [True, True]]).t_interval() == (0, 1)


def test_support_vector_machine_with_its_own_probabilities_is_scored_by_predict():
    svm = make_pipeline(TfidfVectorizer(), SVC(kernel="linear"))
    scores = evaluate_seeds(svm, *TRAIN, *TEST, n_shots=6, n_seeds=2)
    for seed, fitted in enumerate(refit(svm, scores)):
        assert scores.scores[seed] == fitted.score(*TEST)
