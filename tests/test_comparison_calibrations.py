"""Published ways to calibrate, against numbers computed by hand."""

import importlib
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import StratifiedKFold

from instructclf.exceptions import InvalidTextsError, NumberedLabelsWarning
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

FOLDER = Path(__file__).parents[1] / "benchmarks"
DEFINITIONS = {"a": "One.", "b": "Two."}


@pytest.fixture
def comparisons(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("comparison_calibrations")
    sys.modules.pop("comparison_calibrations")


def random_scores(n_rows, bias, seed=0):
    """Draw scores of three classes that favour the true one, plus a bias."""
    rng = np.random.RandomState(seed)
    return np.eye(3)[np.arange(n_rows) % 3] + rng.randn(n_rows, 3) + bias


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


# The prior


def test_the_prior_is_the_mean_probability(comparisons):
    """By hand: the labels have 0.2 and 0.1, then 0.4 and 0.05, so 0.6 to 0.15 in total: 4 to 1."""
    calibration = comparisons.fit_prior(np.log([[0.2, 0.1], [0.4, 0.05]]))
    np.testing.assert_allclose(calibration.bias, [math.log(2), -math.log(2)])
    assert calibration.temperature == 1.0
    assert calibration.n_rows == 2


def test_subtracting_the_prior_is_dividing_by_it(comparisons):
    scores = random_scores(30, bias=(0.0, 3.0, -3.0))
    others = random_scores(7, bias=(0.0, 3.0, -3.0), seed=1)
    actual = np.exp(comparisons.fit_prior(others).log_probabilities(scores))
    np.testing.assert_allclose(actual, divided_by_their_mean(scores, others))


def test_a_prior_of_very_unlikely_labels_does_not_underflow(comparisons):
    np.testing.assert_allclose(comparisons.fit_prior(np.array([[-1e4, -1e4 - 2]])).bias, [1, -1])


# Texts without content, and random words


def test_contextual_calibration_divides_by_the_answers_to_texts_without_content(
    comparisons, make_classifier
):
    calibrator = comparisons.ContextualCalibrator()
    classifier = make_classifier(calibration=calibrator).fit(TEXTS, LABELS)
    scores = one_at_a_time(classifier, TEXTS)
    expected = divided_by_their_mean(scores, one_at_a_time(classifier, ["N/A", "", "[MASK]"]))
    assert classifier.calibration_.n_rows == 3
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, atol=1e-5)


def test_contextual_calibration_needs_no_rows(comparisons, make_prompting):
    calibrator = comparisons.ContextualCalibrator()
    classifier = make_prompting(calibration=calibrator, n_shots=0, label_definitions=DEFINITIONS)
    assert classifier.fit().calibration_.n_rows == 3


def test_domain_texts_have_words_of_the_texts_and_their_mean_length(comparisons):
    texts = ["one two three", "four\nfive", "six one one one one one one"]  # 12 words in 3 texts
    drawn = comparisons.draw_domain_texts(texts, np.random.RandomState(0), 500)
    drawn = [text.split(" ") for text in drawn]
    assert len(drawn) == 500
    assert {len(words) for words in drawn} == {4}
    words = [word for words in drawn for word in words]
    assert set(words) == {"one", "two", "three", "four", "five", "six"}
    assert words.count("one") / len(words) == pytest.approx(7 / 12, abs=0.05)


def test_domain_texts_are_the_same_for_a_seed_and_differ_between_seeds(comparisons):
    draw = comparisons.draw_domain_texts
    drawn = [draw(TEXTS, np.random.RandomState(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 20
    assert len(set(drawn[0])) > 10


def test_texts_mostly_without_words_give_one_word(comparisons):
    drawn = comparisons.draw_domain_texts(["", "word", "", ""], np.random.RandomState(0), 2)
    assert drawn == ["word"] * 2


def test_domain_calibration_divides_by_the_answers_to_random_words(comparisons, make_classifier):
    """All words are the same, two in a text on average, so every draw is "so so"."""
    classifier = make_classifier(calibration=comparisons.DomainCalibrator(), n_shots=2)
    classifier.fit(["so", "so so", "so so so"], ["positive", "negative", "positive"])
    expected = divided_by_their_mean(
        one_at_a_time(classifier, TEXTS), one_at_a_time(classifier, ["so so"])
    )
    assert classifier.calibration_.n_rows == 20
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, atol=1e-5)


def test_random_words_are_those_of_the_random_state(comparisons, make_classifier):
    calibrator = comparisons.DomainCalibrator()
    biases = [
        make_classifier(calibration=calibrator, n_shots=2, random_state=seed)
        .fit(TEXTS, LABELS)
        .calibration_.bias
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(biases[0], biases[1])
    assert (biases[0] != biases[2]).all()


@pytest.mark.parametrize("rows", [(None, None), ([" ", "\n"], ["a", "b"])], ids=["none", "blank"])
def test_texts_without_words_have_no_domain(comparisons, rows, make_prompting):
    calibrator = comparisons.DomainCalibrator()
    classifier = make_prompting(calibration=calibrator, n_shots=0, label_definitions=DEFINITIONS)
    with pytest.raises(InvalidTextsError, match=r"Got [02] texts without a word"):
        classifier.fit(*rows)


# The texts to predict


def test_batch_calibration_divides_by_the_mean_answer_to_the_texts(comparisons, make_classifier):
    classifier = make_classifier(calibration=comparisons.BatchCalibrator()).fit(TEXTS, LABELS)
    for texts in (TEXTS, TEXTS[3:7]):
        scores = one_at_a_time(classifier, texts)
        expected = divided_by_their_mean(scores, scores)
        np.testing.assert_allclose(classifier.predict_proba(texts), expected, atol=1e-5)


def test_batch_calibration_of_one_text_prefers_no_label(comparisons):
    logs = comparisons.BatchCalibration().log_probabilities(np.array([[-1.0, -9.0, -4.0, -2.0]]))
    np.testing.assert_allclose(np.exp(logs), [[0.25] * 4])


def test_with_batch_calibration_an_answer_depends_on_the_other_texts(comparisons, make_classifier):
    classifier = make_classifier(calibration=comparisons.BatchCalibrator()).fit(TEXTS, LABELS)
    together = classifier.predict_proba(TEXTS)[:2]
    assert not np.allclose(classifier.predict_proba(TEXTS[:2]), together, atol=1e-3)


# As parts of an estimator


@pytest.mark.parametrize("name", ["contextual", "domain", "batch"])
def test_every_calibration_survives_cloning_and_pickling(comparisons, name, make_classifier):
    classifier = clone(make_classifier(calibration=comparisons.COMPARISONS[name]))
    classifier.fit(TEXTS, LABELS)
    restored = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_allclose(restored.predict_proba(TEXTS), classifier.predict_proba(TEXTS))


@pytest.mark.parametrize("name", ["contextual", "domain"])
def test_scikit_learn_calibrates_it_again(comparisons, name, make_prompting):
    """Platt's sigmoid rises, or falls, with the probability that it is put on."""
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    classifier = make_prompting(n_shots=2, calibration=comparisons.COMPARISONS[name])
    calibrated = CalibratedClassifierCV(classifier, cv=folds, ensemble=False)
    with pytest.warns(NumberedLabelsWarning, match=r"CalibratedClassifierCV\(ensemble=False\)"):
        calibrated.fit(TEXTS, LABELS)
    probabilities = calibrated.predict_proba(TEXTS)
    order = np.argsort(classifier.fit(TEXTS, LABELS).predict_proba(TEXTS)[:, 1])
    steps = np.diff(probabilities[order, 1])
    assert (steps >= -1e-9).all() or (steps <= 1e-9).all()
    assert np.ptp(probabilities[:, 1]) > 0
