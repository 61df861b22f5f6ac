"""Label scores: averages over seeds, the label mass, and predictions that abstain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score
from sklearn.pipeline import FunctionTransformer, make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.calibration import Calibration
from instructclf.classifiers.label_scores import (
    LabelScores,
    average_scores,
    choose_above_mass,
    choose_labels,
    mass_of,
)
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

CLASSES = np.array(["negative", "positive"])
LIKELIHOODS = np.array([[0.2, 0.1], [0.01, 0.03], [0.4, 0.5]])


def scores_of(likelihoods):
    logs = np.log(likelihoods)
    return LabelScores(logs, log_softmax(logs, axis=1))


def test_the_average_is_the_mean_likelihood_and_the_mean_log_probability():
    others = LIKELIHOODS[::-1] / 2
    average = average_scores([scores_of(LIKELIHOODS), scores_of(others)])
    np.testing.assert_allclose(np.exp(average.log_likelihood), (LIKELIHOODS + others) / 2)
    geometric = np.sqrt(LIKELIHOODS * others)
    expected = geometric / geometric.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(average.log_probabilities), expected)


def test_the_average_of_one_is_itself():
    scores = scores_of(LIKELIHOODS)
    average = average_scores([scores])
    np.testing.assert_allclose(average.log_likelihood, scores.log_likelihood)
    np.testing.assert_allclose(average.log_probabilities, scores.log_probabilities)


def test_the_label_mass_is_the_sum_of_likelihoods():
    np.testing.assert_allclose(mass_of(np.log(LIKELIHOODS)), [0.3, 0.04, 0.9])


def test_texts_of_little_label_mass_get_no_label():
    scores = scores_of(LIKELIHOODS)
    labels = ["negative", "positive", "positive"]
    assert choose_labels(CLASSES, scores.log_probabilities).tolist() == labels
    assert choose_above_mass(CLASSES, scores, 0.3 - 1e-9).tolist() == ["negative", None, "positive"]


# Classifiers


def test_label_scores_hold_the_matrices_before_and_after_calibration(make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    scores = classifier.label_scores(TEXTS)
    np.testing.assert_array_equal(scores.log_likelihood, classifier.label_log_likelihood(TEXTS))
    # Probabilities alone take no sum over the vocabulary, so they are rounded differently.
    probabilities = classifier.predict_log_proba(TEXTS)
    np.testing.assert_allclose(scores.log_probabilities, probabilities, rtol=0, atol=1e-5)


def test_several_seeds_give_the_same_probabilities_with_likelihoods_and_without(make_prompting):
    classifier = make_prompting(n_seeds=2).fit(TEXTS, LABELS)
    expected = classifier.label_scores(TEXTS).log_probabilities
    np.testing.assert_allclose(classifier.predict_log_proba(TEXTS), expected, rtol=0, atol=1e-5)


class UncertainWhereMassIsLow:
    """A calibration that looks at likelihoods themselves."""

    def calibrate(self, evidence, rng):
        return self

    def log_probabilities(self, scores):
        return log_softmax(scores * np.exp(scores).sum(axis=1, keepdims=True), axis=1)


@dataclass(frozen=True)
class SubclassThatIsUncertain(UncertainWhereMassIsLow, Calibration):
    """The same, built on the calibration of the package."""

    def __init__(self):
        super().__init__(np.zeros(2), 1.0, 0)


@pytest.mark.parametrize("kind", [UncertainWhereMassIsLow, SubclassThatIsUncertain])
def test_a_calibration_of_ones_own_sees_whole_likelihoods(kind, make_prompting):
    calibration = kind()
    classifier = make_prompting(calibration=calibration).fit(TEXTS, LABELS)
    expected = calibration.log_probabilities(classifier.label_log_likelihood(TEXTS))
    np.testing.assert_array_equal(classifier.predict_log_proba(TEXTS), expected)


def test_label_mass_is_the_probability_of_any_label(make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    mass = classifier.label_mass(TEXTS)
    alone = [np.exp(classifier.label_log_likelihood([text])).sum() for text in TEXTS]
    np.testing.assert_allclose(mass, alone, rtol=1e-4)
    assert mass.shape == (16,)
    assert ((mass > 0) & (mass <= 1)).all()


def test_predictions_of_less_label_mass_are_withheld(make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    mass, labels = classifier.label_mass(TEXTS), classifier.predict(TEXTS)
    threshold = float(np.sort(mass)[7:9].mean())
    answers = classifier.predict(TEXTS, min_label_mass=threshold)
    assert answers.dtype == object
    assert answers.tolist() == [
        label if m >= threshold else None for label, m in zip(labels, mass, strict=True)
    ]
    np.testing.assert_array_equal(pd.isna(answers), mass < threshold)
    assert 0 < pd.isna(answers).sum() < 16


@pytest.mark.parametrize(
    "labels", [[0, 1], [False, True], ["no", "yes"]], ids=["int", "bool", "str"]
)
@pytest.mark.filterwarnings("ignore::instructclf.exceptions.NumberedLabelsWarning")
def test_the_type_of_predictions_depends_on_the_arguments_and_not_on_the_texts(
    labels, make_prompting
):
    classifier = make_prompting().fit(TEXTS, np.repeat(labels, 8))
    labelled = classifier.predict(TEXTS)
    assert labelled.dtype == classifier.classes_.dtype
    never = classifier.predict(TEXTS, min_label_mass=0)
    assert never.dtype == object
    assert never.tolist() == labelled.tolist()
    assert {type(answer) for answer in never} == {type(labels[0])}
    assert classifier.predict(TEXTS, min_label_mass=1.0).tolist() == [None] * 16


@pytest.mark.parametrize("value", [-0.1, 1.5, "much", float("nan")])
def test_a_label_mass_outside_0_to_1_is_refused(value, make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    match = r"'min_label_mass' parameter of \w+\.predict must be a float in the range \[0.0, 1.0\]"
    with pytest.raises(InvalidParameterError, match=match):
        classifier.predict(TEXTS, min_label_mass=value)


@pytest.mark.parametrize("labels", [LABELS, [1] * 8 + [0] * 8], ids=["str", "int"])
@pytest.mark.filterwarnings("ignore::instructclf.exceptions.NumberedLabelsWarning")
def test_metrics_refuse_abstentions(labels, make_prompting):
    classifier = make_prompting().fit(TEXTS, labels)
    threshold = float(np.median(classifier.label_mass(TEXTS)))
    answers = classifier.predict(TEXTS, min_label_mass=threshold)
    with pytest.raises((TypeError, ValueError)):
        accuracy_score(labels, answers)


def test_a_pipeline_passes_min_label_mass_on(make_prompting):
    pipeline = make_pipeline(FunctionTransformer(list), make_prompting()).fit(TEXTS, LABELS)
    assert pipeline.predict(TEXTS, min_label_mass=1.0).tolist() == [None] * 16
    assert None not in pipeline.predict(TEXTS).tolist()
