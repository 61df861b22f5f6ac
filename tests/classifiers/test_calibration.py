"""Bias and temperature, against numbers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from instructclf.classifiers.calibration import (
    N_ROWS_FOR_TEMPERATURE,
    Calibration,
    fit_calibration,
    no_calibration,
)
from tests.fixtures import LABELS, TEXTS

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
    assert calibration.temperature == 1.0
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


def test_a_bias_that_noise_explains_is_none():
    first = np.array([3.0, -2.0, -3.0, 2.4])  # 0.1 on average, give or take some 2.6
    scores = np.stack([first, -first], axis=1)
    np.testing.assert_array_equal(fit_calibration(scores, CODES).bias, np.zeros(2))


def test_without_noise_nothing_is_shrunk():
    scores = np.array([[0.0, -2.0, 1.0]] * 6)
    calibration = fit_calibration(scores, np.arange(6) % 3)
    np.testing.assert_allclose(calibration.bias, [1 / 3, -5 / 3, 4 / 3])


def test_a_large_bias_is_found_and_sums_to_nothing():
    scores, codes = random_scores(300, bias=(0.0, 3.0, -3.0))
    bias = fit_calibration(scores, codes).bias
    assert bias.sum() == pytest.approx(0)
    np.testing.assert_allclose(bias, [0, 3, -3], atol=0.3)


def test_what_is_added_to_a_whole_row_makes_no_difference():
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


@pytest.mark.parametrize("n_rows", [3 * n for n in range(2, 11)])
def test_few_rows_cannot_tell_a_temperature(n_rows):
    assert n_rows < N_ROWS_FOR_TEMPERATURE
    scores, codes = random_scores(n_rows, scale=20.0)
    assert fit_calibration(scores, codes).temperature == 1.0


def test_32_rows_can():
    assert N_ROWS_FOR_TEMPERATURE == 32
    scores, codes = random_scores(32, scale=20.0)
    assert fit_calibration(scores, codes).temperature > 2


def test_the_temperature_is_the_likeliest_one():
    scores, codes = random_scores(300, bias=(0.0, 3.0, -3.0), scale=4.0)
    calibration = fit_calibration(scores, codes)

    def loss(temperature):
        probabilities = softmax((scores - calibration.bias) / temperature)
        return -np.log(probabilities[np.arange(300), codes]).mean()

    best = min(np.linspace(0.5, 10, 2000), key=loss)
    assert calibration.temperature == pytest.approx(best, rel=0.02)


# Reading scores


def test_probabilities_are_the_softmax_of_what_is_left():
    calibration = Calibration(np.array([0.5, -0.5]), 2.0, 4)
    probabilities = np.exp(calibration.log_probabilities(SCORES))
    np.testing.assert_allclose(probabilities, softmax((SCORES - [0.5, -0.5]) / 2.0))


def test_without_calibration_scores_are_only_normalised():
    probabilities = np.exp(no_calibration(2).log_probabilities(SCORES))
    np.testing.assert_allclose(probabilities, softmax(SCORES))


def test_very_unlikely_labels_do_not_underflow():
    logs = no_calibration(2).log_probabilities(np.array([[-1e5, -1e5 - 1], [-1e5, -2e5]]))
    np.testing.assert_allclose(logs, [[-0.313262, -1.313262], [0, -1e5]], rtol=1e-5)


# Which rows a classifier takes


def held_out(classifier):
    rows = np.setdiff1d(np.arange(len(TEXTS)), classifier.shots_)
    scores = classifier.label_log_likelihood([TEXTS[i] for i in rows])
    return scores, np.searchsorted(classifier.classes_, np.array(LABELS)[rows])


def test_rows_that_are_no_shots_calibrate(make_classifier):
    classifier = make_classifier(calibration="auto").fit(TEXTS, LABELS)
    expected = fit_calibration(*held_out(classifier))
    assert classifier.calibration_.n_rows == 12
    np.testing.assert_allclose(classifier.calibration_.bias, expected.bias, atol=1e-6)


def test_as_many_rows_of_each_class_calibrate(make_classifier):
    classifier = make_classifier(calibration="auto").fit(TEXTS[:13], LABELS[:13])
    assert classifier.calibration_.n_rows == 2 * 3


def test_no_more_than_64_rows_of_a_class_calibrate(make_prompting):
    texts = [f"{word} {i}" for word in ("good", "bad") for i in range(70)]
    classifier = make_prompting(n_shots=0).fit(texts, [0] * 70 + [1] * 70)
    assert classifier.calibration_.n_rows == 128
    assert classifier.calibration_.temperature != 1.0


def test_without_other_rows_shots_are_scored_after_the_others(make_prompting):
    texts, labels = TEXTS[5:11], LABELS[5:11]
    classifier = make_prompting(n_shots=None).fit(texts, labels)
    assert classifier.calibration_.n_rows == 6
    scores = [
        make_prompting(n_shots=None, calibration=None)
        .fit(texts[:i] + texts[i + 1 :], labels[:i] + labels[i + 1 :])
        .label_log_likelihood([texts[i]])[0]
        for i in range(6)
    ]
    codes = np.searchsorted(classifier.classes_, labels)
    expected = fit_calibration(np.array(scores), codes)
    np.testing.assert_allclose(classifier.calibration_.bias, expected.bias, atol=1e-5)


def test_rows_that_were_trained_on_do_not_calibrate(make_tuning):
    classifier = make_tuning(n_shots=None).fit(TEXTS, LABELS)
    assert classifier.calibration_.n_rows == 0


def test_none_only_normalises(make_classifier):
    classifier = make_classifier(calibration=None).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(classifier.calibration_.bias, [0, 0])
    expected = softmax(classifier.label_log_likelihood(TEXTS))
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected)
