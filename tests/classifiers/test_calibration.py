"""Bias, temperature and label mass, against numbers computed by hand."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import accuracy_score
from sklearn.model_selection import FixedThresholdClassifier, StratifiedKFold
from sklearn.pipeline import FunctionTransformer, make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.classifiers.calibration import (
    BatchCalibration,
    Calibration,
    fit_calibration,
    fit_prior,
    no_calibration,
)
from instructclf.classifiers.calibration_texts import draw_domain_texts
from instructclf.exceptions import InvalidTextsError, NumberedLabelsWarning
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

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


@pytest.mark.parametrize("seed", range(5))
def test_few_rows_that_say_little_leave_the_temperature_near_1(seed):
    scores, codes = random_scores(6, seed=seed)
    assert 0.8 < fit_calibration(scores, codes).temperature < 1.25


@pytest.mark.parametrize("n_rows", [6, 15, 30, 300])
def test_rows_that_say_much_take_the_temperature_far(n_rows):
    """The scores are off by twenty nats and more, of which no chance would be the reason."""
    scores, codes = random_scores(n_rows, scale=20.0)
    assert fit_calibration(scores, codes).temperature > 2


def test_rows_that_cannot_tell_leave_it_at_1():
    """Both labels are as likely for each row, whatever they are divided by."""
    assert fit_calibration(np.zeros((4, 2)), CODES).temperature == 1.0


def test_right_answers_alone_do_not_make_few_rows_sure():
    scores = np.array([[0.5, -0.5]] * 2 + [[-0.5, 0.5]] * 2)
    assert fit_calibration(scores, CODES).temperature > 0.8


@pytest.mark.parametrize("n_rows", [6, 30, 300])
@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0, 20.0])
def test_the_temperature_is_the_most_probable_one(n_rows, scale):
    scores, codes = random_scores(n_rows, bias=(0.0, 3.0, -3.0), scale=scale)
    calibration = fit_calibration(scores, codes)

    def density(temperature):
        probabilities = softmax((scores - calibration.bias) / temperature)
        prior = scipy.stats.cauchy(scale=0.2).logpdf(np.log(temperature))
        return np.log(probabilities[np.arange(n_rows), codes]).sum() + prior

    best = max(np.geomspace(0.5, 10, 2000), key=density)
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
    classifier = make_prompting(n_shots=0).fit(texts, ["no"] * 70 + ["yes"] * 70)
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


def test_other_calibrations_are_refused(make_classifier):
    match = "'calibration' parameter .* must be .* Got 'temperature' instead"
    with pytest.raises(InvalidParameterError, match=match):
        make_classifier(calibration="temperature").fit(TEXTS, LABELS)


@pytest.mark.parametrize("calibration", ["auto", "contextual", "domain", "batch", None])
def test_every_calibration_survives_pickling(calibration, make_classifier):
    classifier = make_classifier(calibration=calibration).fit(TEXTS, LABELS)
    restored = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_allclose(restored.predict_proba(TEXTS), classifier.predict_proba(TEXTS))


# Calibration by texts without labels


def divided_by_their_mean(scores, other_scores):
    """Calibrate as Zhao et al. write it: p̂ = W p, with W = diag(p_cf)⁻¹, and normalise."""
    mean = np.array(
        [
            sum(math.exp(row[c]) for row in other_scores) / len(other_scores)
            for c in range(len(scores[0]))
        ]
    )
    matrix = np.linalg.inv(np.diag(mean / mean.sum()))
    rows = []
    for row in scores:
        probabilities = np.array([math.exp(score) for score in row])
        product = matrix @ (probabilities / probabilities.sum())
        rows.append(product / product.sum())
    return np.array(rows)


def one_at_a_time(classifier, texts):
    return [classifier.label_log_likelihood([text])[0] for text in texts]


def test_the_prior_is_the_mean_probability():
    """By hand: the labels have 0.2 and 0.1, then 0.4 and 0.05, so 0.6 to 0.15 in total: 4 to 1."""
    calibration = fit_prior(np.log([[0.2, 0.1], [0.4, 0.05]]))
    np.testing.assert_allclose(calibration.bias, [math.log(2), -math.log(2)])
    assert calibration.temperature == 1.0
    assert calibration.n_rows == 2


def test_taking_the_prior_off_is_dividing_by_it():
    scores, _ = random_scores(30, bias=(0.0, 3.0, -3.0))
    others, _ = random_scores(7, bias=(0.0, 3.0, -3.0), seed=1)
    actual = np.exp(fit_prior(others).log_probabilities(scores))
    np.testing.assert_allclose(actual, divided_by_their_mean(scores, others))


def test_a_prior_of_very_unlikely_labels_does_not_underflow():
    np.testing.assert_allclose(fit_prior(np.array([[-1e4, -1e4 - 2]])).bias, [1, -1])


def test_contextual_calibration_divides_by_what_texts_without_content_get(make_classifier):
    classifier = make_classifier(calibration="contextual").fit(TEXTS, LABELS)
    scores = one_at_a_time(classifier, TEXTS)
    expected = divided_by_their_mean(scores, one_at_a_time(classifier, ["N/A", "", "[MASK]"]))
    assert classifier.calibration_.n_rows == 3
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, atol=1e-5)


def test_domain_texts_have_words_of_the_texts_and_their_mean_length():
    texts = ["one two three", "four\nfive", "six one one one one one one"]  # 12 words in 3 texts
    drawn = [text.split(" ") for text in draw_domain_texts(texts, np.random.RandomState(0), 500)]
    assert len(drawn) == 500
    assert {len(words) for words in drawn} == {4}
    words = [word for words in drawn for word in words]
    assert set(words) == {"one", "two", "three", "four", "five", "six"}
    assert words.count("one") / len(words) == pytest.approx(7 / 12, abs=0.05)


def test_domain_texts_are_drawn_anew_each_time_and_the_same_for_a_seed():
    drawn = [draw_domain_texts(TEXTS, np.random.RandomState(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 20
    assert len(set(drawn[0])) > 10


def test_texts_mostly_without_words_give_one_word():
    assert draw_domain_texts(["", "word", "", ""], np.random.RandomState(0), 2) == ["word"] * 2


def test_domain_calibration_divides_by_what_random_words_get(make_classifier):
    """All words are the same, two in a text on average, so every draw is "so so"."""
    classifier = make_classifier(calibration="domain", n_shots=2)
    classifier.fit(["so", "so so", "so so so"], ["positive", "negative", "positive"])
    expected = divided_by_their_mean(
        one_at_a_time(classifier, TEXTS), one_at_a_time(classifier, ["so so"])
    )
    assert classifier.calibration_.n_rows == 20
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, atol=1e-5)


def test_random_words_are_those_of_the_random_state(make_classifier):
    biases = [
        make_classifier(calibration="domain", n_shots=2, random_state=seed)
        .fit(TEXTS, LABELS)
        .calibration_.bias
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(biases[0], biases[1])
    assert (biases[0] != biases[2]).all()


@pytest.mark.parametrize("rows", [(None, None), ([" ", "\n"], ["a", "b"])], ids=["none", "blank"])
def test_without_words_there_is_no_domain(rows, make_prompting):
    classifier = make_prompting(
        calibration="domain", n_shots=0, label_definitions={"a": "One.", "b": "Two."}
    )
    with pytest.raises(InvalidTextsError, match=r"Got [02] texts without a word"):
        classifier.fit(*rows)


def test_contextual_calibration_needs_no_rows(make_prompting):
    definitions = {"a": "One.", "b": "Two."}
    classifier = make_prompting(calibration="contextual", n_shots=0, label_definitions=definitions)
    assert classifier.fit().calibration_.n_rows == 3


def test_batch_calibration_divides_by_what_the_texts_get_together(make_classifier):
    classifier = make_classifier(calibration="batch").fit(TEXTS, LABELS)
    for texts in (TEXTS, TEXTS[3:7]):
        scores = one_at_a_time(classifier, texts)
        expected = divided_by_their_mean(scores, scores)
        np.testing.assert_allclose(classifier.predict_proba(texts), expected, atol=1e-5)


def test_batch_calibration_of_one_text_says_nothing():
    logs = BatchCalibration().log_probabilities(np.array([[-1.0, -9.0, -4.0, -2.0]]))
    np.testing.assert_allclose(np.exp(logs), [[0.25] * 4])


def test_with_batch_calibration_an_answer_depends_on_its_neighbours(make_classifier):
    classifier = make_classifier(calibration="batch").fit(TEXTS, LABELS)
    together = classifier.predict_proba(TEXTS)[:2]
    assert not np.allclose(classifier.predict_proba(TEXTS[:2]), together, atol=1e-3)


# Label mass and abstention


def test_label_mass_is_the_probability_of_any_label(make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    mass = classifier.label_mass(TEXTS)
    expected = [sum(math.exp(score) for score in row) for row in one_at_a_time(classifier, TEXTS)]
    np.testing.assert_allclose(mass, expected, rtol=1e-4)
    assert mass.shape == (16,)
    assert ((mass > 0) & (mass <= 1)).all()


def test_a_prediction_with_less_label_mass_is_abstained_from(make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    mass, labels = classifier.label_mass(TEXTS), classifier.predict(TEXTS)
    threshold = float(np.sort(mass)[7:9].mean())
    answers = classifier.predict(TEXTS, min_label_mass=threshold)
    assert answers.dtype == object
    assert answers.tolist() == [
        label if own >= threshold else None for label, own in zip(labels, mass, strict=True)
    ]
    np.testing.assert_array_equal(pd.isna(answers), mass < threshold)
    assert 0 < pd.isna(answers).sum() < 16


@pytest.mark.parametrize(
    "labels", [[0, 1], [False, True], ["no", "yes"]], ids=["int", "bool", "str"]
)
@pytest.mark.filterwarnings("ignore::instructclf.exceptions.NumberedLabelsWarning")
def test_the_type_of_predictions_depends_on_the_question_and_not_on_the_texts(
    labels, make_prompting
):
    classifier = make_prompting().fit(TEXTS, np.repeat(labels, 8))
    plain = classifier.predict(TEXTS)
    assert plain.dtype == classifier.classes_.dtype
    never = classifier.predict(TEXTS, min_label_mass=0)
    assert never.dtype == object
    assert never.tolist() == plain.tolist()
    assert {type(answer) for answer in never} == {type(labels[0])}
    assert classifier.predict(TEXTS, min_label_mass=1.0).tolist() == [None] * 16


@pytest.mark.parametrize("value", [-0.1, 1.5, "much", float("nan")])
def test_a_label_mass_that_is_no_probability_is_refused(value, make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    match = r"'min_label_mass' parameter of \w+\.predict must be a float in the range \[0.0, 1.0\]"
    with pytest.raises(InvalidParameterError, match=match):
        classifier.predict(TEXTS, min_label_mass=value)


@pytest.mark.parametrize("labels", [LABELS, [1] * 8 + [0] * 8], ids=["str", "int"])
@pytest.mark.filterwarnings("ignore::instructclf.exceptions.NumberedLabelsWarning")
def test_metrics_do_not_take_an_abstention_for_a_wrong_label(labels, make_prompting):
    classifier = make_prompting().fit(TEXTS, labels)
    threshold = float(np.median(classifier.label_mass(TEXTS)))
    answers = classifier.predict(TEXTS, min_label_mass=threshold)
    with pytest.raises((TypeError, ValueError)):
        accuracy_score(labels, answers)


def test_a_pipeline_hands_the_least_label_mass_on(make_prompting):
    pipeline = make_pipeline(FunctionTransformer(list), make_prompting()).fit(TEXTS, LABELS)
    assert pipeline.predict(TEXTS, min_label_mass=1.0).tolist() == [None] * 16
    assert None not in pipeline.predict(TEXTS).tolist()


# Under scikit-learn's own calibration and thresholds

FOLDS = StratifiedKFold(2, shuffle=True, random_state=0)


@pytest.mark.parametrize("calibration", ["auto", "contextual", "domain", None])
def test_scikit_learn_calibrates_it_again(calibration, make_prompting):
    """Platt's sigmoid rises, or falls, with the probability that it is put on."""
    classifier = make_prompting(n_shots=2, calibration=calibration)
    calibrated = CalibratedClassifierCV(classifier, cv=FOLDS, ensemble=False)
    with pytest.warns(NumberedLabelsWarning, match=r"CalibratedClassifierCV\(ensemble=False\)"):
        calibrated.fit(TEXTS, LABELS)
    probabilities = calibrated.predict_proba(TEXTS)
    order = np.argsort(classifier.fit(TEXTS, LABELS).predict_proba(TEXTS)[:, 1])
    steps = np.diff(probabilities[order, 1])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (steps >= -1e-9).all() or (steps <= 1e-9).all()
    assert np.ptp(probabilities[:, 1]) > 0


def test_scikit_learn_calibrates_one_for_each_fold(make_classifier):
    calibrated = CalibratedClassifierCV(make_classifier(n_shots=2), cv=FOLDS).fit(TEXTS, LABELS)
    members = [own.estimator for own in calibrated.calibrated_classifiers_]
    assert len(members) == 2
    assert not np.array_equal(*(member.predict_proba(TEXTS) for member in members))
    mean = np.mean([own.predict_proba(TEXTS) for own in calibrated.calibrated_classifiers_], axis=0)
    np.testing.assert_allclose(calibrated.predict_proba(TEXTS), mean)


def test_a_threshold_moves_between_its_labels(make_classifier):
    positive = make_classifier().fit(TEXTS, LABELS).predict_proba(TEXTS)[:, 1]
    threshold = float(np.sort(positive)[11:13].mean())
    shifted = FixedThresholdClassifier(
        make_classifier(), threshold=threshold, pos_label="positive"
    ).fit(TEXTS, LABELS)
    expected = ["positive" if own >= threshold else "negative" for own in positive]
    assert shifted.predict(TEXTS).tolist() == expected
    assert expected.count("positive") == 4
