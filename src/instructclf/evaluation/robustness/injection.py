"""Classifier, texts that ask for another label → how often they get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from instructclf.evaluation.plans import call_all
from instructclf.evaluation.tables import Table
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels, check_same_length
from instructclf.inputs.texts import check_texts
from instructclf.prompts.attacks import ATTACKS, Attack

_CLEAN = "none"


@dataclass(frozen=True, eq=False)
class InjectionReport(Table):
    """Predictions for texts that ask for another label, which print as a table.

    Parameters
    ----------
    y : ndarray of shape (n_texts,)
        The true labels.
    targets : ndarray of shape (n_texts,)
        The label that each text asks for under attack, never the true one.
    predictions : dict of str to ndarray of shape (n_texts,)
        The predictions under each attack. ``"none"`` comes first: the original texts.

    See Also
    --------
    injection_report : Makes one.
    """

    _title: ClassVar[str] = "Attacks"

    y: NDArray[Any]
    targets: NDArray[Any]
    predictions: Mapping[str, NDArray[Any]]

    @property
    def clean_accuracy(self) -> float:
        """Return the accuracy on the original texts."""
        return self.to_rows()[0]["accuracy"]

    @property
    def attacked_accuracy(self) -> float:
        """Return the mean accuracy over all attacks."""
        return float(np.mean([row["accuracy"] for row in self.to_rows()[1:]]))

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the figures, unrounded, as one dict for each attack.

        Returns
        -------
        list of dict
            With the keys ``attack``, ``accuracy``, ``won`` (the share of texts that got the label
            they ask for), ``changed`` (the share with another answer than without the attack) and
            ``n_texts``.
        """
        return [
            {
                "attack": name,
                "accuracy": float(np.mean(found == self.y)),
                "won": float(np.mean(found == self.targets)),
                "changed": float(np.mean(found != self.predictions[_CLEAN])),
                "n_texts": len(self.y),
            }
            for name, found in self.predictions.items()
        ]

    def _header(self) -> tuple[str, ...]:
        return ("attack", "accuracy", "attacked label won", "answers changed")

    def _cells(self) -> list[tuple[str, ...]]:
        shares = ("accuracy", "won", "changed")
        return [
            (row["attack"], *(f"{row[share]:.3f}" for share in shares)) for row in self.to_rows()
        ]

    def _caption(self) -> str:
        return (
            f"{len(self.y):,} texts, each made to ask for a label that is not the true one. "
            f"Mean accuracy under attack {self.attacked_accuracy:.3f}."
        )


def injection_report(
    classifier: Any, X: Sequence[str], y: ArrayLike, *, verbose: int | bool = 0
) -> InjectionReport:
    """Measure a classifier on texts that ask for another label than theirs.

    A fixed set of ten attacks is put around each text: orders to ignore the text around them, in
    two languages; forged system messages, examples, responses and labels; and a repeated label.
    Each text asks for the label that follows its true label in sorted order. No attack can break
    out of the prompt, because markers and special tokens in texts are broken up. The report
    measures whether the model is talked into another answer.

    Parameters
    ----------
    classifier : estimator
        A fitted classifier of texts, of this package or any other.
    X : sequence of str, length n_texts
        The texts.
    y : array-like of shape (n_texts,)
        Their true labels.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    InjectionReport
        Accuracy without and under each attack, and how often the attacked label won. Can be
        printed.

    Raises
    ------
    NotFittedError
        If the classifier is not fitted.
    InvalidTextsError
        If texts are not a sequence of strings, or are empty.
    InvalidLabelsError
        If labels do not fit the texts, or the classifier does not know one.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn.pipeline import make_pipeline
    >>> from instructclf.evaluation import injection_report
    >>> texts, labels = ["works well", "broke at once"], ["positive", "negative"]
    >>> bayes = make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, labels)
    >>> injection_report(bayes, texts, labels).clean_accuracy
    1.0
    """
    check_is_fitted(classifier)
    texts, labels = check_texts(X), check_labels(y)
    check_same_length(texts, labels)
    classes = np.asarray(classifier.classes_)
    targets = _next_classes(labels.tolist(), classes.tolist())
    # The answers of a language model are words, of which the first synonym is taken.
    synonyms = getattr(classifier, "label_words_", None) or [[str(label)] for label in classes]
    words = [synonyms[target][0] for target in targets]
    calls = {}
    for name, attack in {_CLEAN: Attack(), **ATTACKS}.items():
        attacked = [attack.apply(text, word) for text, word in zip(texts, words, strict=True)]
        calls[name] = [partial(classifier.predict, attacked)]
    found = call_all("attacks", calls, lambda *_: "", verbose=verbose)
    predictions = {name: np.asarray(answers) for name, (answers,) in found.items()}
    return InjectionReport(labels, classes[targets], predictions)


def _next_classes(labels: list[Any], classes: list[Any]) -> list[int]:
    """Return the index of the class that follows the class of each label."""
    index = {label: (n + 1) % len(classes) for n, label in enumerate(classes)}
    for position, label in enumerate(labels):
        if label not in index:
            msg = (
                f"Label {position} of y is {label!r}, which the classifier does not know. Its "
                f"classes are {classes!r}."
            )
            raise InvalidLabelsError(msg)
    return [index[label] for label in labels]
