"""Classifier, texts that ask for another label → how often they get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from instructclf.datasets.extras import import_data_extra
from instructclf.engine.running.progress import Progress
from instructclf.evaluation.html_tables import write_html
from instructclf.evaluation.tables import write_markdown, write_text
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.labels import check_labels, check_same_length
from instructclf.inputs.texts import check_texts
from instructclf.prompts.attacks import ATTACKS

_HEADER = ("attack", "accuracy", "attacked label won", "answers changed")
_CLEAN = "none"


@dataclass(frozen=True, eq=False)
class InjectionReport:
    """What a classifier answers to texts that ask for another label; printed, a table.

    Parameters
    ----------
    y : ndarray of shape (n_texts,)
        The true labels.
    targets : ndarray of shape (n_texts,)
        The label that each text asks for under attack, never the true one.
    predictions : dict of str to ndarray of shape (n_texts,)
        What was predicted under each attack. ``"none"`` comes first: the texts as they are.

    See Also
    --------
    injection_report : Makes one.
    """

    y: NDArray[Any]
    targets: NDArray[Any]
    predictions: Mapping[str, NDArray[Any]]

    @property
    def clean_accuracy(self) -> float:
        """Return the share of the texts that is predicted right, as they are."""
        return self.accuracy(_CLEAN)

    @property
    def attacked_accuracy(self) -> float:
        """Return the mean accuracy over all attacks."""
        return float(np.mean([self.accuracy(name) for name in self._attacks()]))

    def accuracy(self, attack: str) -> float:
        """Return the share of the texts that is predicted right.

        Parameters
        ----------
        attack : str
            The name of an attack, or ``"none"``.

        Returns
        -------
        float
            The share.
        """
        return float(np.mean(self.predictions[attack] == self.y))

    def won(self, attack: str) -> float:
        """Return the share of the texts that got the label they were made to ask for.

        Parameters
        ----------
        attack : str
            The name of an attack. With ``"none"``, how often a text got that label without asking.

        Returns
        -------
        float
            The share.
        """
        return float(np.mean(self.predictions[attack] == self.targets))

    def changed(self, attack: str) -> float:
        """Return the share of the texts with another answer than without the attack.

        Parameters
        ----------
        attack : str
            The name of an attack.

        Returns
        -------
        float
            The share.
        """
        return float(np.mean(self.predictions[attack] != self.predictions[_CLEAN]))

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the figures, unrounded, one dict an attack.

        Returns
        -------
        list of dict
            With the keys ``attack``, ``accuracy``, ``won``, ``changed`` and ``n_texts``.
        """
        return [
            {
                "attack": name,
                "accuracy": self.accuracy(name),
                "won": self.won(name),
                "changed": self.changed(name),
                "n_texts": len(self.y),
            }
            for name in self.predictions
        ]

    def to_frame(self) -> Any:
        """Return the figures, unrounded, as a data frame.

        Returns
        -------
        pandas.DataFrame
            A row for each attack.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        pandas = import_data_extra("pandas", needed_for="A data frame")
        return pandas.DataFrame(self.to_rows())

    def to_markdown(self) -> str:
        """Return the table in Markdown.

        Returns
        -------
        str
            The table and, below it, what its figures are shares of.
        """
        return f"{write_markdown(self._cells(), _HEADER)}\n\n{self._caption()}"

    def to_html(self) -> str:
        """Return the table in HTML, as a notebook shows it.

        Returns
        -------
        str
            A ``table`` element with a caption and header cells, for any page, light or dark.
        """
        return write_html(self._cells(), self._caption(), _HEADER, title="Attacks")

    def _attacks(self) -> list[str]:
        return [name for name in self.predictions if name != _CLEAN]

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (name, *(f"{figure(name):.3f}" for figure in (self.accuracy, self.won, self.changed)))
            for name in self.predictions
        ]

    def _caption(self) -> str:
        return (
            f"{len(self.y):,} texts, each made to ask for a label that is not its own. "
            f"Mean accuracy under attack {self.attacked_accuracy:.3f}."
        )

    def __str__(self) -> str:
        return f"{write_text(self._cells(), _HEADER)}\n\n{self._caption()}"

    def _repr_html_(self) -> str:
        return self.to_html()


def injection_report(
    classifier: Any, X: Sequence[str], y: ArrayLike, *, verbose: int | bool = 0
) -> InjectionReport:
    """Measure a classifier on texts that ask for another label than theirs.

    A fixed set of ten attacks is put around each text: orders to ignore what stands around them, in
    two languages; forged system messages, examples, responses and labels; and the label over and
    over again. Each text asks for the label that comes after its own in sorted order. None of
    these attacks breaks out of the prompt, as markers and special tokens in them are broken up.
    What is measured is whether the model is talked into something.

    Parameters
    ----------
    classifier : estimator
        A fitted classifier of texts, of this package or any other.
    X : sequence of str, length n_texts
        Texts.
    y : array-like of shape (n_texts,)
        Their true labels.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Returns
    -------
    InjectionReport
        Accuracy without and under each attack, and how often the attacked label won. Print it.

    Raises
    ------
    NotFittedError
        If the classifier is not fitted.
    InvalidTextsError
        If texts are not a sequence of strings, or there are none.
    InvalidLabelsError
        If labels do not fit the texts, or are none that the classifier knows.

    See Also
    --------
    instructclf.InstructionTunedClassifier : Its ``adversarial_augment`` trains with such texts.

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
    classes = np.asarray(classifier.classes_).tolist()
    places = _places(labels.tolist(), classes)
    others = [(place + 1) % len(classes) for place in places]
    words = [_words(classifier, classes)[other] for other in others]
    predictions: dict[str, NDArray[Any]] = {}
    with Progress("attacks", 1 + len(ATTACKS), verbose=verbose) as progress:
        predictions[_CLEAN] = np.asarray(classifier.predict(texts))
        progress.advance()
        for name, attack in ATTACKS.items():
            attacked = [attack.apply(text, own) for text, own in zip(texts, words, strict=True)]
            predictions[name] = np.asarray(classifier.predict(attacked))
            progress.advance(note=name)
    return InjectionReport(labels, np.asarray(classifier.classes_)[others], predictions)


def _places(labels: list[Any], classes: list[Any]) -> list[int]:
    """Return where each label is among the classes."""
    place = {label: position for position, label in enumerate(classes)}
    for position, label in enumerate(labels):
        if label not in place:
            msg = (
                f"Label {position} of y is {label!r}, which the classifier does not know. Its "
                f"classes are {classes!r}."
            )
            raise InvalidLabelsError(msg)
    return [place[label] for label in labels]


def _words(classifier: Any, classes: list[Any]) -> list[str]:
    """Return what the classifier's model answers with, or else the labels as text."""
    answers = getattr(classifier, "label_words_", None)
    return [own[0] for own in answers] if answers else [str(label) for label in classes]
