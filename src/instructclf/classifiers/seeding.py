"""One classifier → several fitted with seeds of their own, and one answer from all of them.

Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles" (NeurIPS 2017), for members that differ by their seed alone; a mean of log-probabilities
is the product of experts of Hinton (2002), and what the reference experiment calls averaging over
seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.base import clone
from sklearn.utils import check_random_state

from instructclf.engine.running.processes import current_processes

Classifier = TypeVar("Classifier")


class LabelScores(NamedTuple):
    """What a classifier finds out about labels in one pass.

    Parameters
    ----------
    log_likelihood : ndarray of shape (n_texts, n_classes)
        How likely the model is to answer with each label, as a logarithm.
    log_probabilities : ndarray of shape (n_texts, n_classes)
        The logarithm of each label's probability, calibrated.
    """

    log_likelihood: NDArray[np.float64]
    log_probabilities: NDArray[np.float64]


def spawn_members(
    classifier: Classifier, n_seeds: int, rng: np.random.RandomState
) -> list[Classifier]:
    """Return unfitted copies of a classifier, each with a seed of its own.

    Parameters
    ----------
    classifier : estimator
        A classifier with parameters ``n_seeds`` and ``random_state``.
    n_seeds : int
        How many copies.
    rng : RandomState
        Gives the seeds. The first of many are those of few.

    Returns
    -------
    list of estimator
        The copies.
    """
    seeds = rng.randint(np.iinfo(np.int32).max, size=n_seeds).tolist()
    members: list[Any] = [clone(classifier) for _ in seeds]
    for member in members:
        vars(member).pop("_skl_callbacks", None)  # they follow the fit of all members, as one
    return [
        member.set_params(n_seeds=1, random_state=seed)
        for member, seed in zip(members, seeds, strict=True)
    ]


def average_scores(members: Sequence[LabelScores]) -> LabelScores:
    """Average what several classifiers found out.

    Parameters
    ----------
    members : sequence of LabelScores
        One entry a classifier.

    Returns
    -------
    LabelScores
        The logarithm of the mean likelihood; and the mean of the log-probabilities, so shifted that
        probabilities sum to 1.
    """
    likelihoods = np.stack([member.log_likelihood for member in members])
    mean = np.mean([member.log_probabilities for member in members], axis=0)
    return LabelScores(
        logsumexp(likelihoods, axis=0) - np.log(len(members)), log_softmax(mean, axis=1)
    )


class SeedAveraging:
    """Base of classifiers that can be fitted once for each of several seeds, and averaged."""

    n_seeds: int
    random_state: int | np.random.RandomState | None
    shots_: NDArray[np.intp]
    estimators_: list[Any]

    def _get_fitted_base(self) -> Any:
        members = vars(self).get("estimators_")
        owner: Any = super() if members is None else members[0]
        return owner._get_fitted_base()  # noqa: SLF001

    def _fit_members(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Fit a classifier for each seed. What is the same for all of them becomes this one's."""
        self._check_seeds()
        rng = self._random_generator()
        members: list[Any] = spawn_members(self, self.n_seeds, rng)
        unfitted = set(vars(members[0]))
        for member in members:
            member._fit(X, y, sample_weight)  # noqa: SLF001
        for name in set(vars(members[0])) - unfitted:  # what an earlier fit alone had learned
            vars(self).pop(name, None)
        for name in ("classes_", "label_words_", "max_length_"):
            setattr(self, name, getattr(members[0], name))
        self.shots_ = np.unique(np.concatenate([member.shots_ for member in members]))
        self.estimators_ = members
        return self

    def _random_generator(self) -> np.random.RandomState:
        """Return what the steps of ``fit`` draw from, the same numbers in each process of a job."""
        is_own = isinstance(self.random_state, np.random.RandomState)
        generator = check_random_state(self.random_state)
        if isinstance(self.random_state, Integral):
            return generator
        return current_processes().agree_on(generator, is_own=is_own)

    @property
    def _averages_predictions(self) -> bool:
        """Whether this has nothing to predict with but its members."""
        return hasattr(self, "estimators_")

    def _check_one_prompt(self) -> None:
        """Raise if there are as many prompts as seeds."""
        if self._averages_predictions:
            msg = (
                f"Each of the n_seeds={self.n_seeds} classifiers has a prompt of its own. Ask one "
                "of them, such as estimators_[0]."
            )
            raise AttributeError(msg)

    def _check_seeds(self) -> None:
        """Raise if several seeds would make the same classifier, or none."""
