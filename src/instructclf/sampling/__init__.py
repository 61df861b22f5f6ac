"""Which labelled rows become shots. NumPy and scikit-learn only.

A sampler is a scikit-learn estimator with one method,
``select(X, y, n_shots, *, random_state) -> ordered indices``.
"""

from instructclf.sampling.balanced import BalancedSampler
from instructclf.sampling.named import SAMPLERS, ShotSampler, get_sampler

__all__ = ["SAMPLERS", "BalancedSampler", "ShotSampler", "get_sampler"]
