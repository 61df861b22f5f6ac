"""Classifier, texts → how often answers change if the prompt states the labels in another order."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from math import factorial
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.base import PromptedClassifier
from instructclf.classifiers.labellers import Labeller, LabellerEnsemble
from instructclf.classifiers.labels import order_labels
from instructclf.classifiers.questions import restate
from instructclf.evaluation.plans import call_all
from instructclf.evaluation.tables import Table
from instructclf.inputs.texts import check_texts

_NAMED = 4  # labels of an order that a table has room for


@dataclass(frozen=True, eq=False)
class LabelOrderReport(Table):
    """Predictions with the labels stated in other orders, which print as a table.

    Parameters
    ----------
    orders : tuple of tuple
        The labels in each order.
    predictions : ndarray of shape (n_texts,)
        The predictions of the classifier as it was fitted.
    reordered : ndarray of shape (n_orders, n_texts)
        The predictions with each of the orders.

    See Also
    --------
    label_order_report : Makes one.
    """

    _title: ClassVar[str] = "Orders of labels"

    orders: tuple[tuple[Any, ...], ...]
    predictions: NDArray[Any]
    reordered: NDArray[Any]

    @property
    def flips(self) -> NDArray[np.bool_]:
        """Return which answers another order changes, of shape (n_orders, n_texts)."""
        return self.reordered != self.predictions

    @property
    def flip_rate(self) -> float:
        """Return the order flip rate, the share of answers that another order changes.

        It is the mean over texts and over the other orders of 1 where the most probable label
        differs from that of the classifier as it was fitted, and 0 elsewhere.
        """
        return float(self.flips.mean())

    @property
    def flipped_texts(self) -> float:
        """Return the share of texts that get another label with at least one of the orders.

        It is no less than ``flip_rate``, and grows with the number of orders.
        """
        return float(self.flips.any(axis=0).mean())

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the figures, unrounded, as one dict for each order.

        Returns
        -------
        list of dict
            With the keys ``order`` (the labels as they are stated), ``flipped`` (the share of
            answers that the order changes) and ``n_texts``.
        """
        return [
            {"order": order, "flipped": float(flips.mean()), "n_texts": len(self.predictions)}
            for order, flips in zip(self.orders, self.flips, strict=True)
        ]

    def _header(self) -> tuple[str, ...]:
        return ("labels stated as", "answers changed")

    def _cells(self) -> list[tuple[str, ...]]:
        return [(_name(row["order"]), f"{row['flipped']:.3f}") for row in self.to_rows()]

    def _caption(self) -> str:
        orders = "1 other order" if len(self.orders) == 1 else f"{len(self.orders)} other orders"
        return (
            f"Order flip rate {self.flip_rate:.3f}: {self.flips.sum():,} of {self.flips.size:,} "
            f"answers change, over {len(self.predictions):,} texts and {orders} of labels. "
            f"{self.flipped_texts:.3f} of the texts have more than one answer."
        )


def label_order_report(
    classifier: Any,
    X: Any,
    *,
    n_orders: int = 5,
    random_state: int | np.random.RandomState | None = 0,
    verbose: int | bool = 0,
) -> LabelOrderReport:
    """Measure how often answers change if the prompt states the labels in another order.

    The order says nothing about a text, and still sways language models [1]_. The share of answers
    that a reordering changes is also called fluctuation rate [2]_. Only the instruction changes,
    with its label definitions: shots, adapter, calibration and the order of shots stay. So the rate
    is that of the classifier as it is fitted. One that was fitted with another order would also be
    calibrated for it.

    Parameters
    ----------
    classifier : PromptClassifier or InstructionTunedClassifier
        A fitted classifier. With ``n_seeds`` above 1, all members state the labels in each order.
        Members that ``label_order`` gives orders of their own keep these relative to each other, as
        if the labels had been sorted otherwise.
    X : sequence of str, length n_texts
        The texts. Labels are not needed.
    n_orders : int, default=5
        The number of other orders, drawn at random, or all others if there are fewer: 1 of two
        labels, 5 of three. Each takes a prediction of all texts.
    random_state : int, RandomState instance or None, default=0
        Decides which orders are drawn.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    LabelOrderReport
        The rate of each order and of all. Can be printed.

    Raises
    ------
    InvalidParameterError
        If the classifier has no prompt, or ``n_orders`` is not a positive int.
    NotFittedError
        If the classifier is not fitted.
    InvalidTextsError
        If texts are not a sequence of strings, or are empty.

    References
    ----------
    .. [1] Pezeshkpour and Hruschka, "Large Language Models Sensitivity to The Order of Options in
       Multiple-Choice Questions", Findings of NAACL 2024.
    .. [2] Wei et al., "Unveiling Selection Biases: Exploring Order and Token Sensitivity in Large
       Language Models", Findings of ACL 2024.

    Examples
    --------
    >>> from instructclf import PromptClassifier
    >>> from instructclf.datasets import load_reviews
    >>> from instructclf.evaluation import label_order_report
    >>> train, test = load_reviews("train"), load_reviews("test")
    >>> classifier = PromptClassifier(n_shots=4, random_state=0).fit(train.texts, train.labels)
    >>> label_order_report(classifier, test.texts[:20]).orders
    (('positive', 'negative'),)
    """
    if not isinstance(classifier, PromptedClassifier):
        msg = (
            "The 'classifier' parameter must be a PromptClassifier or an "
            f"InstructionTunedClassifier. Got a {type(classifier).__name__} instead: give the "
            "fitted classifier inside, such as pipeline[-1] or selective.estimator_."
        )
        raise InvalidParameterError(msg)
    if not isinstance(n_orders, Integral) or n_orders < 1:
        msg = f"The 'n_orders' parameter must be an int of 1 or more. Got {n_orders!r} instead."
        raise InvalidParameterError(msg)
    check_is_fitted(classifier)
    texts, labels = check_texts(X), classifier.classes_.tolist()
    drawn = _draw_orders(len(labels), n_orders + 1, check_random_state(random_state))
    others = [(order, _restated(classifier, order)) for order in drawn]
    fitted = _instructions(classifier)
    others = [pair for pair in others if _instructions(pair[1]) != fitted][:n_orders]
    orders = tuple(tuple(labels[i] for i in order) for order, _ in others)
    calls = {
        "as fitted": [partial(classifier.predict, texts)],
        "other orders": [partial(restated.predict, texts) for _, restated in others],
    }
    found = call_all("orders of labels", calls, lambda *_: "", verbose=verbose)
    (predictions,), reordered = found.values()
    return LabelOrderReport(orders, predictions, np.array(reordered))


def _draw_orders(n_labels: int, n_orders: int, rng: np.random.RandomState) -> list[tuple[int, ...]]:
    """Return different orders, all of them if there are no more."""
    if factorial(n_labels) <= n_orders:
        return list(permutations(range(n_labels)))
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < n_orders:
        drawn[tuple(rng.permutation(n_labels).tolist())] = None
    return list(drawn)


def _restated(classifier: Any, order: tuple[int, ...]) -> Any:
    """Return the fitted classifier with its labels stated in this order."""
    definitions = classifier.label_definitions
    if definitions is not None:
        definitions = [definitions[label] for label in classifier.classes_.tolist()]

    def reorder(labeller: Labeller, own: Sequence[int]) -> Labeller:
        stated, task = [order[place] for place in own], classifier.instruction
        question = restate(labeller.question, task=task, definitions=definitions, order=stated)
        return replace(labeller, question=question)

    restated, labeller = copy(classifier), classifier.labeller_
    if isinstance(labeller, LabellerEnsemble):
        average = labeller.average and reorder(labeller.average, sorted(order))
        members = tuple(map(reorder, labeller.members, _orders_of_members(classifier)))
        restated.labeller_ = replace(labeller, members=members, average=average)
    else:
        restated.labeller_ = reorder(labeller, sorted(order))
    return restated


def _orders_of_members(classifier: Any) -> list[list[int]]:
    """Return the order that ``fit`` gave to each member, relative to the order of all."""
    if not isinstance(classifier.label_order, str):
        return [list(range(len(classifier.classes_)))] * classifier.n_seeds
    return [
        order_labels(classifier.label_order, classifier.classes_, np.random.RandomState(seed), n)
        for n, seed in enumerate(classifier.labeller_.seeds)
    ]


def _instructions(classifier: Any) -> list[str]:
    """Return the instruction of each prompt."""
    labeller = classifier.labeller_
    return [one.prompt.instruction for one in getattr(labeller, "members", [labeller])]


def _name(order: tuple[Any, ...]) -> str:
    return ", ".join([*map(str, order[:_NAMED]), *["…"] * (len(order) > _NAMED)])
