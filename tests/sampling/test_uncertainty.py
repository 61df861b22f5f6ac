"""Uncertainty times diversity: shots close to rows about which the model is uncertain."""

from __future__ import annotations

import numpy as np
import pytest

from instructclf import PromptClassifier
from instructclf.exceptions import InvalidShotsError
from instructclf.sampling import FacilityLocationSampler, UncertaintySampler
from instructclf.sampling.uncertainty import weigh_rows

TOPICS = ["the phone rings", "a book to read", "lamp and light", "cable for power"]
TEXTS = [f"{topic} {word}" for topic in TOPICS for word in ("one", "two", "three")]
TEXTS += [f"{text} other" for text in TEXTS]
LABELS = [0] * 12 + [1] * 12


def uncertain_about(topic, n_classes=2):
    """Return a predict_proba that is uncertain about one topic only."""

    def predict_proba(texts):
        certain, uncertain = np.eye(n_classes)[0], np.full(n_classes, 1 / n_classes)
        return np.array([uncertain if topic in text else certain for text in texts])

    return predict_proba


def select(sampler, n_shots, predict_proba, random_state=0):
    return sampler.select(
        TEXTS, LABELS, n_shots, random_state=random_state, predict_proba=predict_proba
    )


@pytest.mark.parametrize("uncertainty", ["entropy", "margin", "least_confident"])
@pytest.mark.parametrize("topic", ["phone", "cable"])
def test_the_first_shots_come_from_the_uncertain_region(uncertainty, topic):
    shots = select(UncertaintySampler(uncertainty), 2, uncertain_about(topic))
    assert all(topic in TEXTS[i] for i in shots)


def test_certain_rows_are_covered_first_if_preferred():
    shots = select(UncertaintySampler(prefer="certain"), 6, uncertain_about("book"))
    assert not any("book" in TEXTS[i] for i in shots)


def test_equal_uncertainty_gives_the_order_of_facility_location():
    expected = FacilityLocationSampler(n_candidates=100).select(TEXTS, LABELS, 8, random_state=0)
    for proba in ([0.5, 0.5], [0.8, 0.2], [1.0, 0.0]):
        shots = select(UncertaintySampler(), 8, lambda texts, p=proba: np.array([p] * len(texts)))
        np.testing.assert_array_equal(shots, expected)


def test_weights_are_relative_to_the_highest_uncertainty():
    proba = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0], [0.6, 0.3, 0.1]])
    found = {
        name: weigh_rows(proba, list("abcd"), name)
        for name in ("entropy", "margin", "least_confident")
    }
    expected = -(0.6 * np.log(0.6) + 0.3 * np.log(0.3) + 0.1 * np.log(0.1)) / np.log(3)
    np.testing.assert_allclose(found["entropy"], [0, 1, np.log(2) / np.log(3), expected])
    np.testing.assert_allclose(found["margin"], [0, 1, 1, 0.7])
    np.testing.assert_allclose(found["least_confident"], [0, 1, 0.75, 0.6])


def test_the_model_predicts_only_the_candidates_and_once():
    asked = []

    def predict_proba(texts):
        asked.extend(texts)
        return np.full((len(texts), 2), 0.5)

    select(UncertaintySampler(n_candidates=5), 4, predict_proba)
    assert len(asked) == len(set(asked)) == 10
    assert sum(text.endswith("other") for text in asked) == 5


def test_a_model_may_know_more_labels_than_the_rows_have():
    assert len(select(UncertaintySampler(), 4, uncertain_about("phone", n_classes=7))) == 4


def test_a_classifier_without_shots_supplies_the_probabilities(model_folder):
    labels = ["positive" if label else "negative" for label in LABELS]
    zero_shot = PromptClassifier(model_folder, n_shots=0, calibration=None).fit(TEXTS, labels)
    shots = UncertaintySampler().select(
        TEXTS, labels, 4, random_state=0, predict_proba=zero_shot.predict_proba
    )
    assert sorted(labels[i] for i in shots) == ["negative"] * 2 + ["positive"] * 2


def test_missing_probabilities_are_an_error_with_the_remedy():
    match = r"UncertaintySampler needs predict_proba.*PromptClassifier\(n_shots=0\)"
    with pytest.raises(InvalidShotsError, match=match):
        UncertaintySampler().select(TEXTS, LABELS, 4)


@pytest.mark.parametrize(
    "wrong", [[0.5, 0.6], [0.5], [-3.0, -0.1]], ids=["sum", "one label", "logarithms"]
)
def test_values_that_are_not_probabilities_are_an_error(wrong):
    match = r"predict_proba must return an array of shape \(n_texts, n_classes\) with rows that sum"
    with pytest.raises(InvalidShotsError, match=match):
        select(UncertaintySampler(), 4, lambda texts: [wrong] * len(texts))


def test_probabilities_for_other_texts_are_an_error():
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, 12\]"):
        select(UncertaintySampler(), 4, lambda texts: np.full((3, 2), 0.5))
