"""Labelled rows → shots. NumPy and scikit-learn only.

A sampler is a scikit-learn estimator with one method,
``select(X, y, n_shots, *, random_state) -> ordered indices``. If it needs a model's probabilities,
it sets ``needs_probabilities`` and takes ``predict_proba`` too. If it chooses different shots for
each text, it also has ``fit`` and ``select_for``.

``suggest_rows`` chooses among texts without labels: those to label next.
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
from instructclf.sampling.suggesting import suggest_rows
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
    "suggest_rows",
]
