import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation import intervals
from instructclf.evaluation.intervals import (
    bootstrap_p_value,
    crossed_means,
    percentile_interval,
    resample_means,
    t_interval,
    t_p_value,
)

VALUES = [0.81, 0.86, 0.84, 0.9, 0.79]


def test_t_interval_is_that_of_scipy():
    expected = stats.ttest_1samp(VALUES, 0.8).confidence_interval(0.9)
    assert_allclose(t_interval(VALUES, 0.9), [expected.low, expected.high])


def test_t_p_value_is_that_of_scipy():
    differences = np.array(VALUES) - 0.82
    assert t_p_value(differences) == pytest.approx(stats.ttest_1samp(VALUES, 0.82).pvalue)


def test_corrected_interval_is_wider_by_the_factor_of_nadeau_and_bengio():
    uncorrected, corrected = t_interval(VALUES), t_interval(VALUES, test_to_train=0.25)
    factor = np.sqrt((1 / 5 + 0.25) / (1 / 5))
    assert np.diff(corrected)[0] == pytest.approx(factor * np.diff(uncorrected)[0])
    assert np.mean(corrected) == pytest.approx(np.mean(uncorrected))


@pytest.mark.parametrize("ratio", [0.0, 0.25])
def test_p_value_is_that_of_the_interval_that_ends_at_zero(ratio):
    differences = np.array(VALUES) - 0.8
    p_value = t_p_value(differences, test_to_train=ratio)
    low, _ = t_interval(differences, 1 - p_value, test_to_train=ratio)
    assert low == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("confidence", [95, 1, 0, -0.5, None, "0.95"])
def test_anything_but_a_share_of_the_intervals_is_no_confidence(confidence):
    for interval_of in (t_interval, percentile_interval):
        with pytest.raises(InvalidParameterError, match=f"'confidence' .* Got {confidence!r}"):
            interval_of(np.array(VALUES), confidence)


def test_the_part_beyond_the_limits_is_cut_off():
    assert intervals.Interval(-0.2, 0.4).within(0.0, 1.0) == (0.0, 0.4)
    assert intervals.Interval(-1.2, 1.4).within(-1.0, 1.0) == (-1.0, 1.0)


def test_one_value_has_no_interval():
    assert np.isnan(t_interval([0.5])).all()
    assert np.isnan(t_p_value([0.5]))


@pytest.mark.parametrize(("value", "expected"), [(0.0, 1.0), (0.5, 0.0)])
def test_equal_differences_are_certain(value, expected):
    assert t_p_value([value] * 3) == expected


def test_crossed_means_are_those_of_the_matrix_drawn():
    rng = np.random.default_rng(0)
    matrix = rng.random((4, 7))
    seeds, texts = rng.integers(4, size=(20, 4)), rng.integers(7, size=(20, 7))
    slow = [matrix[np.ix_(s, t)].mean() for s, t in zip(seeds, texts, strict=True)]
    assert_allclose(crossed_means(matrix, seeds, texts), slow)


def test_means_are_the_same_in_blocks(monkeypatch):
    matrix = np.random.default_rng(0).random((1, 50)) < 0.5
    whole = resample_means(matrix, n_resamples=30)
    monkeypatch.setattr(intervals, "_BLOCK", 200)  # 4 draws a block
    assert resample_means(matrix, n_resamples=30).shape == whole.shape
    assert resample_means(matrix, n_resamples=30).std() == pytest.approx(whole.std(), rel=0.5)


def test_one_seed_gives_the_bootstrap_over_texts():
    """All draws of three texts, by hand: 27 equally likely means."""
    drawn = resample_means([[0, 0, 1]], n_resamples=20_000)
    every = [np.mean(texts) for texts in itertools.product([0, 0, 1], repeat=3)]
    values, counts = np.unique(every, return_counts=True)
    shares = [np.mean(np.isclose(drawn, value)) for value in values]
    assert_allclose(shares, counts / 27, atol=0.015)


def test_without_spread_over_texts_the_interval_is_near_students():
    """A row for each seed, constant over texts: what is left is the spread over seeds."""
    of_seeds = np.random.default_rng(0).normal(size=12)
    matrix = np.repeat(of_seeds[:, np.newaxis], 5, axis=1)
    drawn = percentile_interval(resample_means(matrix, n_resamples=20_000))
    assert_allclose(drawn, t_interval(of_seeds), atol=0.15 * np.diff(t_interval(of_seeds))[0])


def test_without_spread_over_seeds_the_interval_is_that_over_texts():
    texts = (np.arange(200) < 150).astype(float)
    alone = percentile_interval(resample_means([texts], n_resamples=10_000))
    crossed = percentile_interval(resample_means([texts] * 4, n_resamples=10_000))
    assert_allclose(crossed, alone, atol=0.006)
    normal = 0.75 + np.array([-1.96, 1.96]) * np.sqrt(0.75 * 0.25 / 200)
    assert_allclose(alone, normal, atol=0.01)


@pytest.mark.parametrize("n_seeds", [3, 5])
def test_interval_holds_the_true_value_as_often_as_it_says(n_seeds):
    """Simulated seeds and texts, each with a random effect; the true mean is 0.8."""
    rng = np.random.default_rng(0)
    n_trials, hits, naive_hits = 200, 0, 0
    for _ in range(n_trials):
        of_seeds, of_texts = rng.normal(0, 0.04, (n_seeds, 1)), rng.uniform(-0.1, 0.1, (1, 150))
        right = rng.random((n_seeds, 150)) < 0.8 + of_seeds + of_texts
        low, high = percentile_interval(resample_means(right, n_resamples=400))
        hits += low <= 0.8 <= high
        seeds, texts = (
            rng.integers(n_seeds, size=(400, n_seeds)),
            rng.integers(150, size=(400, 150)),
        )
        naive = percentile_interval(crossed_means(right.astype(float), seeds, texts))
        naive_hits += naive.low <= 0.8 <= naive.high
    assert hits / n_trials > 0.93
    assert naive_hits < hits  # what the widening is for


def test_draws_depend_on_the_random_state_alone():
    matrix = np.random.default_rng(0).random((3, 20))
    same = [resample_means(matrix, n_resamples=50, random_state=7) for _ in range(2)]
    assert_allclose(*same)
    other = resample_means(matrix, n_resamples=50, random_state=8)
    assert not np.array_equal(same[0], other)


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        (np.ones(99), 2 / 100),  # never 0: another draw might have crossed
        (np.concatenate([np.ones(95), -np.ones(4)]), 10 / 100),
        (np.zeros(99), 1.0),
    ],
)
def test_bootstrap_p_value_counts_the_rarer_side(draws, expected):
    assert bootstrap_p_value(draws) == pytest.approx(expected)


def test_p_value_is_small_where_the_interval_leaves_zero_out():
    rng = np.random.default_rng(0)
    for shift in np.linspace(0, 4, 9):
        draws = rng.normal(shift, 1, 1999)
        low, high = percentile_interval(draws)
        assert (bootstrap_p_value(draws) < 0.05) == (not low <= 0 <= high)
