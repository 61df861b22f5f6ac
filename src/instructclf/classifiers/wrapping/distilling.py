"""Texts without labels → a classifier that learns what another one says about them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import HasMethods, Interval

from instructclf.classifiers.wrapping.wrapper import ClassifierWrapper
from instructclf.exceptions import InvalidTextsError
from instructclf.inputs.labels import check_labels
from instructclf.inputs.texts import check_texts


class PseudoLabelled(NamedTuple):
    """Texts without a label that were chosen, and the labels that they were given.

    Parameters
    ----------
    positions : ndarray of shape (n_chosen,)
        Which texts.
    labels : ndarray of shape (n_chosen,)
        The label of each.
    """

    positions: NDArray[np.intp]
    labels: NDArray[Any]


class DistilledClassifier(ClassifierWrapper):
    """Teach a classifier what another one says about texts that nobody has labelled.

    A few rows are labelled, and far more texts are not. The teacher learns from the labelled rows
    and labels the others; the classifier, its student, learns from both. A tuned student of a
    prompted teacher can be more accurate than prompting and tuning alone. A student may also be
    small: a linear classifier on words that costs nothing to ask.

    Parameters
    ----------
    estimator : classifier
        The student, a scikit-learn classifier of texts. ``fit`` trains a clone of it. It sees many
        more rows than were labelled, so give a tuned one few epochs, such as ``max_epochs=2``.
    teacher : classifier
        A scikit-learn classifier with ``predict_proba``, such as a `PromptClassifier`. ``fit``
        trains a clone of it on the labelled rows; wrap a fitted one in
        `sklearn.frozen.FrozenEstimator` to keep it as it is.
    n_texts_per_label : int or None, default=32
        How many texts of each label the student learns from: those of which the teacher is surest,
        among the ones that it gives this label. Fewer if the teacher gives a label less often.
        ``None`` takes all texts, with the labels as frequent as the teacher finds them. Raise it
        for a linear classifier, which needs many texts, and if there are thousands to choose from.
        Lower it if a label is rarer than that among the texts: the teacher would have to be wrong
        to find enough of them.

    Attributes
    ----------
    estimator_ : classifier
        The fitted student. Save it by itself.
    teacher_ : classifier
        The fitted teacher.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    pseudo_labelled_ : PseudoLabelled
        What the student has learned from beside the labelled rows: ``positions`` in
        ``unlabelled``, and the ``labels`` that the teacher gave, both of shape (n_chosen,).

    See Also
    --------
    BlendedClassifier : Averages classifiers.

    Notes
    -----
    Prompted models label texts for a classifier that is then trained on them in Schick and Schütze,
    "Exploiting Cloze Questions for Few Shot Text Classification and Natural Language Inference"
    (EACL 2021). They train it on probabilities; here it learns the most probable label, as in Lee,
    "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
    Networks" (ICML workshop 2013), of the surest texts alone. The names *teacher* and *student* are
    those of distillation: Hinton et al., "Distilling the Knowledge in a Neural Network" (2015).

    A student repeats the mistakes of which its teacher is sure. Compare both on labelled rows that
    neither has seen.

    Examples
    --------
    >>> from instructclf import BagOfWordsClassifier, DistilledClassifier, PromptClassifier
    >>> from instructclf.datasets import load_reviews
    >>> train, test = load_reviews("train"), load_reviews("test")
    >>> teacher = PromptClassifier(n_shots=4, random_state=0)
    >>> student = DistilledClassifier(BagOfWordsClassifier(random_state=0), teacher)
    >>> student = student.fit(train.texts[:8], train.labels[:8], unlabelled=train.texts[8:40])
    >>> student.predict(test.texts[:2]).shape
    (2,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict"])],
        "teacher": [HasMethods(["fit", "predict_proba"])],
        "n_texts_per_label": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(self, estimator: Any, teacher: Any, *, n_texts_per_label: int | None = 32) -> None:
        self.estimator = estimator
        self.teacher = teacher
        self.n_texts_per_label = n_texts_per_label

    def fit(self, X: Any, y: Any, *, unlabelled: Any) -> Self:
        """Train the teacher on the labelled rows, and the student on these and on what it says.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts that have labels.
        y : array-like of shape (n_texts,)
            Their labels.
        unlabelled : sequence of str, length n_unlabelled
            Texts of the same kind without a label. Those among ``X`` are left out, and of equal
            ones all but the first.

        Returns
        -------
        DistilledClassifier
            This object.

        Raises
        ------
        InvalidParameterError
            If a parameter is outside its domain.
        InvalidTextsError
            If ``X`` or ``unlabelled`` is no sequence of strings, or ``unlabelled`` has no text that
            is not among ``X``.
        InvalidLabelsError
            If labels are of a wrong kind.
        ValueError
            If the number of labels differs from that of texts.
        """
        self._validate_params()
        labels, texts = check_labels(y), check_texts(X)
        check_consistent_length(texts, labels)
        others = check_texts(unlabelled, "unlabelled")
        positions = _find_new(others, texts)
        teacher: Any = clone(self.teacher)
        self.teacher_ = teacher.fit(texts, labels)
        self.pseudo_labelled_ = self._ask_teacher(others, positions)
        chosen, given = self.pseudo_labelled_
        student: Any = clone(self.estimator)
        all_texts = [*texts, *(others[i] for i in chosen)]
        self.estimator_ = student.fit(all_texts, np.concatenate([labels, given]))
        return self

    def _ask_teacher(self, texts: Sequence[str], positions: NDArray[np.intp]) -> PseudoLabelled:
        """Return the surest of what the teacher says about some of the texts."""
        probabilities = np.asarray(self.teacher_.predict_proba([texts[i] for i in positions]))
        chosen = choose_surest(probabilities, self.n_texts_per_label)
        given = np.asarray(self.teacher_.classes_)[probabilities[chosen].argmax(axis=1)]
        return PseudoLabelled(positions[chosen], given)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label that the student gives each text.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.

        Returns
        -------
        ndarray of shape (n_texts,)
            Labels, as they are in ``classes_``.
        """
        return self._ask("predict", X)


def choose_surest(probabilities: NDArray[np.float64], n_each: int | None) -> NDArray[np.intp]:
    """Return the rows that are surest of their most probable label, so many of each label.

    They are in ascending order. Of equally sure ones, the first are taken. ``None`` takes all.
    """
    if n_each is None:
        return np.arange(len(probabilities))
    given = probabilities.argmax(axis=1)
    surest_first = np.argsort(-probabilities.max(axis=1), kind="stable")
    of_each = [
        surest_first[given[surest_first] == code][:n_each] for code in range(probabilities.shape[1])
    ]
    return np.sort(np.concatenate(of_each))


def _find_new(texts: Sequence[str], known: Sequence[str]) -> NDArray[np.intp]:
    """Return the positions of different texts that are not known, the first of equal ones."""
    seen, positions = set(known), []
    for position, text in enumerate(texts):
        if text not in seen:
            seen.add(text)
            positions.append(position)
    if not positions:
        msg = (
            f"All {len(texts)} texts of unlabelled are among X, so there is nothing to learn from "
            "them. Give texts without a label."
        )
        raise InvalidTextsError(msg)
    return np.array(positions)
