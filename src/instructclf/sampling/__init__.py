"""Which labelled rows become shots. NumPy and scikit-learn only.

A sampler is a scikit-learn estimator with one method,
``select(X, y, n_shots, *, random_state) -> ordered indices``. One that needs a model's opinion says
so with ``needs_probabilities`` and takes ``predict_proba`` too; one that chooses for each input has
``fit`` and ``select_for`` besides.
"""

from instructclf.sampling.balanced import BalancedSampler
from instructclf.sampling.facility_location import FacilityLocationSampler
from instructclf.sampling.kmeans import KMeansSampler
from instructclf.sampling.named import (
    SAMPLERS,
    PerInputSampler,
    ShotSampler,
    get_sampler,
    select_shots,
)
from instructclf.sampling.neighbours import KNNSampler
from instructclf.sampling.uncertainty import UncertaintySampler
from instructclf.sampling.uniform import RandomSampler
from instructclf.sampling.vote_k import VoteKSampler

__all__ = [
    "SAMPLERS",
    "BalancedSampler",
    "FacilityLocationSampler",
    "KMeansSampler",
    "KNNSampler",
    "PerInputSampler",
    "RandomSampler",
    "ShotSampler",
    "UncertaintySampler",
    "VoteKSampler",
    "get_sampler",
    "select_shots",
]
