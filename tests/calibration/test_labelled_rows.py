"""Bias and temperature from labelled rows, against numbers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats

from instructclf.calibration import Calibration, LabelledRowsCalibrator, no_calibration
from instructclf.calibration.labelled_rows import (
    fit_calibration,
    fit_temperature,
    held_out_rows,
    rows_per_class,
)

SCORES = np.array([[-1.0, -3.0], [-1.0, -5.0], [-2.0, -2.0], [-4.0, -2.0]])
CODES = np.array([0, 0, 1, 1])


def softmax(values):
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def random_scores(n_rows, bias=(0.0, 0.0, 0.0), scale=1.0, seed=0):
    """Draw scores of three classes that favour the true one, plus a bias."""
    rng = np.random.RandomState(seed)
    codes = np.arange(n_rows) % 3
    return np.eye(3)[codes] * scale + rng.randn(n_rows, 3) * scale + bias, codes


def calibrated_scores(n_rows, n_classes=3, seed=0):
    """Draw log-probabilities, and labels with these probabilities, all labels alike often."""
    rng = np.random.RandomState(seed)
    scores = 2 * rng.randn(40 * n_rows, n_classes)
    drawn = (softmax(scores).cumsum(axis=1) > rng.rand(len(scores), 1)).argmax(axis=1)
    each = n_rows // n_classes
    rows = np.concatenate([np.flatnonzero(drawn == code)[:each] for code in range(n_classes)])
    return scores[rows], drawn[rows]


# fit_calibration


def test_the_bias_is_the_balanced_mean_shrunk_by_its_standard_error():
    """By hand.

    Centred rows: (1, -1), (2, -2), (0, 0), (-1, 1); class means (1.5, -1.5) and (-0.5, 0.5), so
    b = (0.5, -0.5) and ‖b‖² = 0.5. Residuals are ±0.5, so each component's variance is
    4 · 0.25 / (4 - 2) = 0.5 and s² = 0.5 · (1/2 + 1/2) / 2² = 0.125. The factor is
    1 - (2 - 1) · 0.125 / 0.5 = 0.75.
    """
    calibration = fit_calibration(SCORES, CODES)
    np.testing.assert_allclose(calibration.bias, [0.375, -0.375])
    assert calibration.n_rows == 4


def test_each_class_counts_alike_however_many_rows_it_has():
    """By hand: centred 1 (three times) and -1 (once) average to 0, not to 0.5."""
    scores = np.array([[1.0, -1.0]] * 3 + [[-1.0, 1.0]])
    np.testing.assert_allclose(fit_calibration(scores, np.array([0, 0, 0, 1])).bias, [0, 0])


def test_unequal_classes_add_up_their_standard_errors():
    """By hand.

    Centred: class 0 has 2, 4, 0, 2 (mean 2), class 1 has 1 and 3 (mean 2), so b = (2, -2) and
    ‖b‖² = 8. Squared residuals sum to 8 + 2 = 10, over 6 - 2 rows: 2.5. s² = 2.5 · (1/4 + 1/2) / 4.
    """
    first = np.array([2.0, 4.0, 0.0, 2.0, 1.0, 3.0])
    scores = np.stack([first, -first], axis=1)
    squared_error = 2.5 * 0.75 / 4
    expected = 2 * (1 - squared_error / 8)
    calibration = fit_calibration(scores, np.array([0, 0, 0, 0, 1, 1]))
    np.testing.assert_allclose(calibration.bias, [expected, -expected])


def test_a_bias_that_noise_explains_is_removed():
    first = np.array([3.0, -2.0, -3.0, 2.4])  # 0.1 on average, give or take some 2.6
    scores = np.stack([first, -first], axis=1)
    np.testing.assert_array_equal(fit_calibration(scores, CODES).bias, np.zeros(2))


def test_without_noise_nothing_is_shrunk():
    scores = np.array([[0.0, -2.0, 1.0]] * 6)
    calibration = fit_calibration(scores, np.arange(6) % 3)
    np.testing.assert_allclose(calibration.bias, [1 / 3, -5 / 3, 4 / 3])


def test_a_large_bias_is_found_and_sums_to_zero():
    scores, codes = random_scores(300, bias=(0.0, 3.0, -3.0))
    bias = fit_calibration(scores, codes).bias
    assert bias.sum() == pytest.approx(0)
    np.testing.assert_allclose(bias, [0, 3, -3], atol=0.3)


def test_a_constant_added_to_a_row_makes_no_difference():
    scores, codes = random_scores(60, bias=(0.0, 3.0, -3.0))
    shifted = scores + np.random.RandomState(1).randn(60, 1) * 50
    np.testing.assert_allclose(
        fit_calibration(shifted, codes).bias, fit_calibration(scores, codes).bias
    )


@pytest.mark.parametrize(
    "codes", [np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1])], ids=["one class", "two of three"]
)
def test_a_class_without_rows_leaves_scores_alone(codes):
    calibration = fit_calibration(np.random.RandomState(0).randn(4, 3), codes)
    assert calibration.n_rows == 0
    np.testing.assert_array_equal(calibration.bias, np.zeros(3))


def test_one_row_a_class_leaves_scores_alone():
    assert fit_calibration(SCORES[1:3], np.array([0, 1])).n_rows == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_few_rows_of_calibrated_scores_leave_the_temperature_near_1(seed):
    scores, codes = calibrated_scores(12, seed=seed)
    assert 0.5 < fit_temperature(scores, codes) < 2


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_the_temperature_of_calibrated_scores_is_found(temperature):
    scores, codes = calibrated_scores(2000)
    found = fit_temperature(temperature * scores, codes)
    assert found == pytest.approx(temperature, rel=0.1)


@pytest.mark.parametrize("temperature", [0.3, 3.0])
def test_a_few_rows_make_probabilities_better(temperature):
    """Of eight rows a label: on others, the log loss is nearer to the best one than before."""
    scores, codes = calibrated_scores(16, n_classes=2)
    others, right = calibrated_scores(1000, n_classes=2, seed=1)
    found = fit_temperature(temperature * scores, codes)

    def log_loss(t):
        probabilities = softmax(temperature * others / t)
        return -np.log(probabilities[np.arange(1000), right]).mean()

    assert log_loss(found) - log_loss(temperature) < 0.5 * (log_loss(1.0) - log_loss(temperature))


@pytest.mark.parametrize("n_rows", [6, 15, 30, 300])
def test_informative_rows_move_the_temperature_far(n_rows):
    """The scores are wrong by twenty nats and more, which chance does not explain."""
    scores, codes = random_scores(n_rows, scale=20.0)
    assert fit_calibration(scores, codes).temperature > 2


def test_rows_without_information_leave_the_temperature_at_1():
    """Both labels are equally likely for each row at every temperature."""
    assert fit_calibration(np.zeros((4, 2)), CODES).temperature == 1.0


@pytest.mark.parametrize("n_each", [2, 8, 32])
def test_right_answers_alone_do_not_make_probabilities_extreme(n_each):
    scores = np.array([[0.5, -0.5]] * n_each + [[-0.5, 0.5]] * n_each)
    calibration = fit_calibration(scores, np.repeat([0, 1], n_each))
    sure = np.exp(calibration.log_probabilities(scores)).max()
    assert sure <= (2 * n_each + 1) / (2 * n_each + 2) + 1e-3


@pytest.mark.parametrize("n_rows", [6, 30, 300])
@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0, 20.0])
def test_the_temperature_is_the_most_probable_one(n_rows, scale):
    scores, codes = random_scores(n_rows, bias=(0.0, 3.0, -3.0), scale=scale)
    calibration = fit_calibration(scores, codes)

    def density(temperature):
        scaled = scipy.special.log_softmax((scores - calibration.bias) / temperature, axis=1)
        prior = scipy.stats.cauchy(scale=2).logpdf(np.log(temperature))
        of_right = scaled[np.arange(n_rows), codes].sum()
        of_others = scaled.sum() - of_right
        return ((n_rows + 1) * of_right + of_others / 2) / (n_rows + 2) + prior

    best = max(np.geomspace(0.1, 10, 2000), key=density)
    assert calibration.temperature == pytest.approx(best, rel=0.02)


# From scores to probabilities


def test_probabilities_are_the_softmax_of_calibrated_scores():
    calibration = Calibration(np.array([0.5, -0.5]), 2.0, 4)
    probabilities = np.exp(calibration.log_probabilities(SCORES))
    np.testing.assert_allclose(probabilities, softmax((SCORES - [0.5, -0.5]) / 2.0))


def test_without_calibration_scores_are_only_normalised():
    probabilities = np.exp(no_calibration(2).log_probabilities(SCORES))
    np.testing.assert_allclose(probabilities, softmax(SCORES))


def test_very_unlikely_labels_do_not_underflow():
    logs = no_calibration(2).log_probabilities(np.array([[-1e5, -1e5 - 1], [-1e5, -2e5]]))
    np.testing.assert_allclose(logs, [[-0.313262, -1.313262], [0, -1e5]], rtol=1e-5)


# Which rows are scored


class FakeEvidence:
    """Labelled rows. A text scores minus its length for its label, and -9 for the other."""

    n_classes = 2

    def __init__(self, texts, codes, shots=(), scores_of_shots=None):
        self.texts, self.codes = texts, np.array(codes)
        self.shots = np.array(shots, dtype=np.intp)
        self.what = "This classifier"
        self.scored, self._scores_of_shots = [], scores_of_shots

    def score(self, texts, *, relative=False):
        self.scored = list(texts)
        codes = [self.codes[self.texts.index(text)] for text in texts]
        scores = np.full((len(texts), 2), -9.0)
        scores[range(len(texts)), codes] = [-len(text) for text in texts]
        return scores

    def score_shots(self, *, relative=False):
        return self._scores_of_shots


TEXTS = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
ALTERNATING = [0, 1] * 3


def calibrate(evidence, seed=0, **options):
    return LabelledRowsCalibrator(**options).calibrate(evidence, np.random.RandomState(seed))


def test_rows_that_are_not_shots_are_scored():
    evidence = FakeEvidence(TEXTS, ALTERNATING, shots=[0, 1])
    calibration = calibrate(evidence)
    assert sorted(evidence.scored) == TEXTS[2:]
    codes = [TEXTS.index(text) % 2 for text in evidence.scored]
    expected = fit_calibration(evidence.score(evidence.scored), np.array(codes))
    np.testing.assert_array_equal(calibration.bias, expected.bias)
    assert calibration.n_rows == 4


def test_the_number_of_rows_of_each_class_is_limited():
    evidence = FakeEvidence(TEXTS, ALTERNATING)
    assert calibrate(evidence, standard_error=0.5).n_rows == 4
    assert calibrate(evidence).n_rows == 6


@pytest.mark.parametrize(
    ("n_classes", "standard_error", "n_rows"), [(2, 0.125, 32), (2, 0.0625, 128), (77, 0.125, 2)]
)
def test_a_standard_error_takes_so_many_rows_of_each_class(n_classes, standard_error, n_rows):
    assert rows_per_class(n_classes, standard_error) == n_rows


def test_the_bias_has_the_standard_error_that_was_asked_for():
    """Over many samples, the bias of scores with a spread of 1 varies as much."""
    rng = np.random.RandomState(0)
    codes = np.repeat([0, 1], rows_per_class(2, 0.125))
    biases = []
    for _ in range(500):
        relative = rng.normal(size=len(codes))  # half of the difference, which bias moves
        scores = np.column_stack([10 + relative, 10 - relative])  # far from 0: hardly shrunk
        scores[:, 0] += 20
        biases.append(fit_calibration(scores, codes).bias[0])
    assert np.std(biases) == pytest.approx(0.125, rel=0.1)


def test_the_random_state_draws_the_rows():
    texts = [f"text {number}" for number in range(40)]
    draws = [
        held_out_rows(texts, np.arange(40) % 2, [], np.random.RandomState(seed), 5).tolist()
        for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_a_row_with_the_text_of_a_shot_is_not_scored():
    texts = ["a", "bb", "a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
    evidence = FakeEvidence(texts, [0, 1] * 4, shots=[0, 1])
    calibrate(evidence)
    assert sorted(evidence.scored) == ["ccc", "dddd", "eeeee", "ffffff"]


def test_without_such_rows_the_shots_are_scored():
    evidence = FakeEvidence(TEXTS[:4], CODES, shots=range(4), scores_of_shots=SCORES)
    np.testing.assert_allclose(calibrate(evidence).bias, [0.375, -0.375])
    assert evidence.scored == []


def test_without_any_row_scores_are_only_normalised():
    assert calibrate(FakeEvidence([], [])).n_rows == 0


def test_the_temperature_of_weighted_rows_is_that_of_repeated_ones():
    scores, codes = random_scores(60, scale=2.0)
    codes[::7] = (codes[::7] + 1) % 3  # so that the scores are too sure
    n_times = np.random.RandomState(1).randint(0, 3, size=60)
    n_times[0] += 60 - n_times.sum()  # as many rows as before, or the prior would weigh otherwise
    repeated = np.repeat(np.arange(60), n_times)
    expected = fit_temperature(scores[repeated], codes[repeated])
    assert fit_temperature(scores, codes, n_times * 3.0) == expected
    assert expected != fit_temperature(scores, codes)
