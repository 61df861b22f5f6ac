"""The threshold with the best F1, beside a search over all of them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from instructclf.calibration import no_calibration
from instructclf.classifiers.several.thresholds import find_threshold, learn_threshold


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_has_a_better_f1(seed):
    rng = np.random.RandomState(seed)
    codes = (rng.rand(40) < 0.3).astype(int)
    codes[:1] = 1
    probabilities = np.clip(0.3 * codes + rng.rand(40) * 0.7, 0, 1).round(seed % 2 + 1)
    threshold = find_threshold(probabilities, codes)
    tried = np.unique([*probabilities, *(probabilities + 1e-9)])
    best = max(f1_score(codes, probabilities >= own, zero_division=0) for own in tried)
    assert f1_score(codes, probabilities >= threshold) == pytest.approx(best)


def test_of_equal_thresholds_the_closest_to_a_half_is_taken():
    assert find_threshold(np.array([0.9, 0.8, 0.3, 0.1]), np.array([1, 1, 0, 0])) == 0.55


class Evidence:
    """Rows of which the first are shots. The score of "yes" is in the text."""

    def __init__(self, values, codes, n_shots):
        self.texts, self.codes = [f"{value}" for value in values], np.array(codes)
        self.shots, self.left_out = np.arange(n_shots), False

    def score(self, texts, *, relative=False):
        yes = np.array([float(text) for text in texts])
        return np.log(np.column_stack([1 - yes, yes]))

    def score_shots(self, *, relative=False):
        self.left_out = True
        return self.score([self.texts[i] for i in self.shots])


VALUES = [0.99, 0.01, *np.linspace(0.05, 0.35, 12)]
CODES = [0, 1, *[0] * 6, *[1] * 6]
"""Two shots that would mislead, and twelve rows that part below 0.2."""


def test_shots_are_not_asked_where_other_rows_are():
    evidence = Evidence(VALUES, CODES, 2)
    found = learn_threshold(evidence, no_calibration(2), np.random.RandomState(0))
    assert found == pytest.approx(0.2)
    assert not evidence.left_out


def test_without_other_rows_shots_are_left_out_of_their_prompts():
    evidence = Evidence(VALUES[2:], CODES[2:], 12)
    found = learn_threshold(evidence, no_calibration(2), np.random.RandomState(0))
    assert found == pytest.approx(0.2)
    assert evidence.left_out


def test_too_few_rows_of_a_label_keep_a_half():
    evidence = Evidence(VALUES[:11], CODES[:11], 2)
    assert learn_threshold(evidence, no_calibration(2), np.random.RandomState(0)) == 0.5
