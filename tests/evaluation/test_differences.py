import pytest
from numpy.testing import assert_allclose

from instructclf.evaluation.differences import adjust_p_values


def slow_holm(p_values):
    """Adjust each by the largest multiple among those that are no larger."""
    ranked = sorted(p_values)
    multiples = [min(1.0, p * (len(ranked) - rank)) for rank, p in enumerate(ranked)]
    return [max(multiples[: ranked.index(p) + 1]) for p in p_values]


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.5], [0.9, 0.8], []])
def test_adjusted_p_values_are_those_of_a_simple_loop(p_values):
    assert_allclose(adjust_p_values(p_values), slow_holm(p_values))


def test_known_adjustment():
    """R: ``p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")``."""
    assert_allclose(adjust_p_values([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
