"""How probable a label in a set must be: against a slow twin, and in draws of known coverage."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import numpy as np
import pytest
from scipy.stats import beta, kstest

from instructclf.classifiers.wrapping.quantiles import find_least_probability, rows_needed

LEVELS = (0.5, 0.55, 0.7, 0.9, 0.95, 0.99)


def rank(n_rows, level):
    """Return the number of rows that must be in their own sets, in decimal arithmetic."""
    return int((Decimal(repr(level)) * (n_rows + 1)).to_integral_value(ROUND_CEILING))


@pytest.mark.parametrize("n_values", [10**6, 5], ids=["all different", "many equal"])
@pytest.mark.parametrize("level", LEVELS)
def test_it_is_the_largest_probability_that_leaves_enough_rows_in_their_sets(level, n_values):
    rng = np.random.default_rng(0)
    for n_rows in range(rows_needed(level), rows_needed(level) + 60):
        right = rng.integers(n_values, size=n_rows) / n_values
        enough = [p for p in right if sum(other >= p for other in right) >= rank(n_rows, level)]
        assert find_least_probability(right, level) == max(enough)


@pytest.mark.parametrize("level", LEVELS)
def test_so_many_rows_are_needed_and_enough(level):
    needed = rows_needed(level)
    assert rank(needed, level) <= needed
    assert rank(needed - 1, level) > needed - 1
    assert find_least_probability(np.linspace(0.1, 0.9, needed), level) == pytest.approx(0.1)


def test_ranks_are_those_of_the_level_as_it_is_written():
    assert 100 * 0.55 > 55  # in floating-point arithmetic
    assert find_least_probability(np.arange(99) / 99, 0.55) == 44 / 99  # 55 of 99 are no less


def coverages(find, n_rows, n_draws=4000):
    """Return the coverages of thresholds from draws of rows, whose texts are uniform."""
    rng = np.random.default_rng(0)
    return np.array([1 - find(rng.random(n_rows)) for _ in range(n_draws)])


@pytest.mark.parametrize("n_rows", [9, 64, 100])
def test_the_coverage_has_a_beta_distribution(n_rows):
    found = coverages(lambda right: find_least_probability(right, 0.9), n_rows)
    k = rank(n_rows, 0.9)
    assert kstest(found, beta(k, n_rows + 1 - k).cdf).pvalue > 0.01
    assert found.mean() == pytest.approx(k / (n_rows + 1), abs=0.005)


def test_a_plain_quantile_covers_too_little():
    """So the test above can fail."""
    found = coverages(lambda right: np.quantile(right, 0.1, method="inverted_cdf"), 9)
    assert kstest(found, beta(9, 1).cdf).pvalue > 0.01  # the least of 9 rows: the same
    found = coverages(lambda right: np.quantile(right, 0.1), 9)
    assert found.mean() < 0.87
    assert kstest(found, beta(9, 1).cdf).pvalue < 1e-6


def test_equal_probabilities_make_the_coverage_larger():
    found = coverages(lambda right: np.floor(4 * find_least_probability(right, 0.6)) / 4, 30)
    assert set(found) <= {0.25, 0.5, 0.75, 1.0}
    assert found.mean() > 0.7
