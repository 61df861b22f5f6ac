"""The rows that calibrate a classifier, and calibration by scikit-learn on top."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import FixedThresholdClassifier, StratifiedKFold
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.calibration import LabelledRowsCalibrator
from instructclf.calibration.labelled_rows import fit_calibration
from instructclf.exceptions import NumberedLabelsWarning
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

# Which rows a classifier takes


def score_other_rows(classifier):
    """Return scores and codes of the rows that are not shots."""
    rows = np.setdiff1d(np.arange(len(TEXTS)), classifier.shots_)
    scores = classifier.label_log_likelihood([TEXTS[i] for i in rows])
    return scores, np.searchsorted(classifier.classes_, np.array(LABELS)[rows])


def test_rows_that_are_not_shots_calibrate(make_classifier):
    classifier = make_classifier(calibration="auto").fit(TEXTS, LABELS)
    expected = fit_calibration(*score_other_rows(classifier))
    assert classifier.calibration_.n_rows == 12
    np.testing.assert_allclose(classifier.calibration_.bias, expected.bias, atol=1e-6)


def test_equal_numbers_of_rows_per_class_calibrate(make_classifier):
    classifier = make_classifier(calibration="auto").fit(TEXTS[:13], LABELS[:13])
    assert classifier.calibration_.n_rows == 2 * 3


def test_no_more_than_32_rows_of_each_of_two_classes_calibrate(make_prompting):
    texts = [f"{word} {i}" for word in ("good", "bad") for i in range(70)]
    classifier = make_prompting(n_shots=0).fit(texts, ["no"] * 70 + ["yes"] * 70)
    assert classifier.calibration_.n_rows == 64
    assert classifier.calibration_.temperature != 1.0


def test_without_other_rows_each_shot_is_scored_after_the_others(make_prompting):
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


def test_training_rows_do_not_calibrate(make_tuning):
    classifier = make_tuning(n_shots=None).fit(TEXTS, LABELS)
    assert classifier.calibration_.n_rows == 0


def test_no_calibration_only_normalises(make_classifier):
    classifier = make_classifier(calibration=None).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(classifier.calibration_.bias, [0, 0])
    expected = softmax(classifier.label_log_likelihood(TEXTS), axis=1)
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, rtol=1e-5)


def test_other_calibrations_are_refused(make_classifier):
    match = "'calibration' parameter .* must be .* Got 'temperature' instead"
    with pytest.raises(InvalidParameterError, match=match):
        make_classifier(calibration="temperature").fit(TEXTS, LABELS)


@pytest.mark.parametrize("calibration", ["auto", LabelledRowsCalibrator(), None], ids=str)
def test_every_calibration_survives_pickling(calibration, make_classifier):
    classifier = make_classifier(calibration=calibration).fit(TEXTS, LABELS)
    restored = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_allclose(
        restored.predict_proba(TEXTS), classifier.predict_proba(TEXTS), rtol=1e-5
    )


# Under scikit-learn's own calibration and thresholds

FOLDS = StratifiedKFold(2, shuffle=True, random_state=0)


@pytest.mark.parametrize("calibration", ["auto", None])
def test_scikit_learn_calibrates_a_classifier_again(calibration, make_prompting):
    """Platt's sigmoid is monotonic in the probability that it is fitted to."""
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


def test_scikit_learn_calibrates_a_classifier_for_each_fold(make_classifier):
    calibrated = CalibratedClassifierCV(make_classifier(n_shots=2), cv=FOLDS).fit(TEXTS, LABELS)
    members = [fold.estimator for fold in calibrated.calibrated_classifiers_]
    assert len(members) == 2
    assert not np.array_equal(*(member.predict_proba(TEXTS) for member in members))
    folds = [fold.predict_proba(TEXTS) for fold in calibrated.calibrated_classifiers_]
    np.testing.assert_allclose(calibrated.predict_proba(TEXTS), np.mean(folds, axis=0), rtol=1e-5)


def test_a_threshold_separates_the_labels(make_classifier):
    positive = make_classifier().fit(TEXTS, LABELS).predict_proba(TEXTS)[:, 1]
    threshold = float(np.sort(positive)[11:13].mean())
    shifted = FixedThresholdClassifier(
        make_classifier(), threshold=threshold, pos_label="positive"
    ).fit(TEXTS, LABELS)
    expected = ["positive" if p >= threshold else "negative" for p in positive]
    assert shifted.predict(TEXTS).tolist() == expected
    assert expected.count("positive") == 4


@pytest.mark.parametrize("calibration", ["auto", None])
def test_fit_says_what_calibration_took_of_it(calibration, make_prompting, capfd):
    make_prompting(calibration=calibration, verbose=1).fit(TEXTS, LABELS)
    said = re.search(
        r"Calibrating took \d+\.\d of the \d+\.\d seconds of fit", capfd.readouterr().err
    )
    assert (said is not None) is (calibration is not None)


def test_fit_says_nothing_of_it_without_verbose(make_prompting, capfd):
    make_prompting(calibration="auto").fit(TEXTS, LABELS)
    assert "Calibrating" not in capfd.readouterr().err
