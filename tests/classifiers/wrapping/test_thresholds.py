"""Thresholds for a stated risk: against slow twins, and in draws from sources of known risk."""

from __future__ import annotations

from math import comb, inf, log2

import numpy as np
import pytest
from scipy.stats import beta

from instructclf.classifiers.wrapping.thresholds import (
    errors_allowed,
    find_threshold,
    rows_needed,
)

GRID = (np.arange(10_000) + 0.5) / 10_000


def slow_tail(n_errors, n_rows, risk):
    """Return the probability of so many errors or fewer, as the formula is written."""
    return sum(comb(n_rows, k) * risk**k * (1 - risk) ** (n_rows - k) for k in range(n_errors + 1))


def slow_threshold(confidences, correct, risk, confidence):
    """Go through the rows one by one, and test each number of them."""

    def passes(threshold):
        decided = [
            right for sure, right in zip(confidences, correct, strict=True) if sure > threshold
        ]
        return slow_tail(decided.count(False), len(decided), risk) <= 1 - confidence

    def most_errors(n_rows):
        errors = -1
        while slow_tail(errors + 1, n_rows, risk) <= 1 - confidence:
            errors += 1
        return errors

    n_rows = len(confidences)
    most = max(most_errors(n_rows // 3), 0)
    start = next((n for n in range(n_rows + 1) if most_errors(n) >= most), inf)
    found = inf
    for threshold in [*sorted(set(confidences), reverse=True), 0.0]:
        if sum(sure > threshold for sure in confidences) < start:
            continue
        if not passes(threshold):
            break
        found = threshold
    return found


@pytest.mark.parametrize("n_values", [1000, 12], ids=["all different", "many equal"])
@pytest.mark.parametrize("risk", [0.05, 0.2])
def test_the_threshold_is_that_of_the_slow_twin(n_values, risk):
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(25):
        n_rows = int(rng.integers(1, 160))
        confidences = rng.integers(1, n_values + 1, n_rows) / n_values
        correct = rng.random(n_rows) > (1 - confidences) * rng.choice([0.02, 0.2, 0.6])
        fast = find_threshold(confidences, correct, risk=risk, confidence=0.9)
        assert fast == slow_threshold(confidences.tolist(), correct.tolist(), risk, 0.9)
        found.add("none" if fast == inf else "all" if fast == 0 else "some")
    assert found == {"none", "all", "some"}


def test_allowed_errors_are_those_whose_upper_bound_is_at_most_the_risk():
    """The bound of Clopper and Pearson, in its other form."""
    n_rows = np.arange(1, 400)
    allowed = errors_allowed(n_rows, 0.05, 0.95)
    with np.errstate(invalid="ignore"):  # no bound where no error is allowed
        assert (beta.ppf(0.95, allowed + 1, n_rows - allowed)[allowed >= 0] <= 0.05).all()
    assert (beta.ppf(0.95, allowed + 2, n_rows - allowed - 1) > 0.05).all()


@pytest.mark.parametrize(
    ("risk", "confidence", "n_rows"),
    [(0.05, 0.95, 59), (0.01, 0.95, 299), (0.1, 0.9, 22), (0.5, 0.75, 2)],
)
def test_so_many_right_rows_are_needed_and_enough(risk, confidence, n_rows):
    assert rows_needed(risk, confidence) == n_rows
    for n, expected in ((n_rows, 0.0), (n_rows - 1, inf)):
        sure, right = np.linspace(0.5, 1, n), np.ones(n, dtype=bool)
        assert find_threshold(sure, right, risk=risk, confidence=confidence) == expected


def test_one_wrong_answer_among_few_rows_decides_nothing():
    right = np.arange(60) != 30
    assert find_threshold(np.linspace(0.5, 1, 60), right, risk=0.05, confidence=0.95) == inf


# How often the text at each position is wrong, ordered from the most confident to the least.
SOURCES = {
    "few errors at first": lambda position: 0.45 * position**2,
    "twice the risk at the end": lambda position: 0.2 * position,
    "a step": lambda position: np.where(position < 0.4, 0.01, 0.4),
    "everywhere a little above the risk": lambda position: 0.052 + 0 * position,
    "above the risk in between": lambda position: np.select(
        [position < 0.25, position < 0.3, position < 0.6], [0.03, 0.2, 0.01], 0.3
    ),
    "worst where most confident": lambda position: 0.15 - 0.12 * position,
}


def confidence_at(position, n_values):
    """Return the confidence of texts at these positions, one of so many values."""
    if n_values is not None:
        position = np.ceil(position * n_values) / n_values
    return 1 - position / 2


def draw(source, n_rows, rng, n_values=None):
    """Draw rows: their confidences, and which are right."""
    position = rng.random(n_rows)
    return confidence_at(position, n_values), rng.random(n_rows) >= source(position)


def true_risk(source, threshold, n_values=None):
    """Return the risk among all texts above a threshold."""
    decided = GRID[confidence_at(GRID, n_values) > threshold]
    return source(decided).mean() if len(decided) else 0.0


def violations(find, source, n_rows, n_values=None, n_draws=2000):
    """Return how often the true risk of the threshold exceeds the stated one."""
    rng = np.random.default_rng(0)
    found = [find(*draw(source, n_rows, rng, n_values)) for _ in range(n_draws)]
    risks = np.array([true_risk(source, threshold, n_values) for threshold in found])
    return np.mean(risks > 0.05 + 2e-4)  # the grid is as fine as that


def find(confidences, correct):
    return find_threshold(confidences, correct, risk=0.05, confidence=0.95)


@pytest.mark.parametrize("n_values", [None, 20], ids=["all different", "many equal"])
@pytest.mark.parametrize("n_rows", [60, 300])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_the_risk_is_kept_in_95_of_100_draws(source, n_rows, n_values):
    assert violations(find, source, n_rows, n_values) <= 0.05


def test_the_best_threshold_on_the_rows_themselves_would_not_keep_it():
    """So the tests above can fail."""

    def guess(confidences, correct):
        order = np.argsort(-confidences)
        risks = np.cumsum(~correct[order]) / np.arange(1, len(order) + 1)
        return confidences[order][np.flatnonzero(risks <= 0.05)[-1]] if min(risks) <= 0.05 else inf

    assert violations(guess, SOURCES["few errors at first"], 300, n_draws=200) > 0.3


def binary_search(confidences, correct):
    """Find the threshold of Geifman and El-Yaniv (2017), Algorithm 2."""
    order, n_rows = np.argsort(-confidences), len(confidences)
    wrong, n_tests = np.concatenate([[0], np.cumsum(~correct[order])]), int(np.ceil(log2(n_rows)))
    level = 0.05 / n_tests
    low, high, found = 1, n_rows, inf
    for _ in range(n_tests):
        middle = (low + high + 1) // 2
        bound = beta.ppf(1 - level, wrong[middle] + 1, max(middle - wrong[middle], 1e-9))
        if bound <= 0.05:
            low, found = middle, confidences[order][middle - 1]
        else:
            high = middle
    return found


@pytest.mark.parametrize("source", list(SOURCES.values())[:3], ids=list(SOURCES)[:3])
def test_more_is_decided_than_by_a_binary_search(source):
    rng = np.random.default_rng(0)
    fixed, searched = [], []
    for _ in range(200):
        confidences, correct = draw(source, 400, rng)
        fixed.append(np.mean(confidences > find(confidences, correct)))
        searched.append(np.mean(confidences >= binary_search(confidences, correct)))
    assert np.mean(fixed) > 1.5 * np.mean(searched)
