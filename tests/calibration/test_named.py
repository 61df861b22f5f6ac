"""Names of calibrators, and calibrators that are given as objects."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.calibration import CALIBRATORS, LabelledRowsCalibrator, get_calibrator
from tests.fixtures import LABELS, TEXTS


@pytest.mark.parametrize(("name", "kind"), CALIBRATORS.items())
def test_a_name_gives_a_new_calibrator(name, kind):
    assert type(get_calibrator(name)) is kind
    assert get_calibrator(name) is not get_calibrator(name)


def test_a_calibrator_comes_back_unchanged():
    calibrator = LabelledRowsCalibrator(standard_error=0.3)
    assert get_calibrator(calibrator) is calibrator
    assert clone(calibrator).standard_error == 0.3


@pytest.mark.parametrize("value", ["temperature", 3, LabelledRowsCalibrator, ["auto"]], ids=str)
def test_other_values_are_an_error(value):
    with pytest.raises(InvalidParameterError, match="must be one of 'auto', None, or an object"):
        get_calibrator(value)


class Halving:
    """Halves all scores."""

    def calibrate(self, evidence, rng):
        self.n_texts, self.n_shots = len(evidence.texts), len(evidence.shots)
        return self

    def log_probabilities(self, scores):
        return scores / 2 - np.logaddexp.reduce(scores / 2, axis=1, keepdims=True)


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
def test_a_classifier_takes_a_custom_calibrator(make_classifier):
    classifier = make_classifier(calibration=Halving()).fit(TEXTS, LABELS)
    assert (classifier.calibration_.n_texts, classifier.calibration_.n_shots) == (16, 4)
    expected = classifier.calibration_.log_probabilities(classifier.label_log_likelihood(TEXTS))
    np.testing.assert_array_equal(classifier.predict_log_proba(TEXTS), expected)


def test_a_nested_name_reaches_the_calibrator(make_prompting):
    classifier = make_prompting(calibration=LabelledRowsCalibrator())
    classifier.set_params(calibration__standard_error=0.5).fit(TEXTS, LABELS)
    assert classifier.calibration_.n_rows == 4
