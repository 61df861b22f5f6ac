"""Texts without labels → a classifier that learns what another one says about them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, Interval, InvalidParameterError
from sklearn.utils.metadata_routing import MetadataRouter

from instructclf.classifiers.labels import check_enough_classes
from instructclf.classifiers.wrapping.conformal import ConformalClassifier
from instructclf.classifiers.wrapping.selective import SelectiveClassifier
from instructclf.classifiers.wrapping.wrapper import ClassifierWrapper, predict_from
from instructclf.exceptions import InvalidLabelsError, InvalidTextsError, ScoringError
from instructclf.inputs.labels import check_labels, check_same_length
from instructclf.inputs.texts import check_texts

ABSTAINED = -1
"""In place of a label that a teacher did not give."""


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
        more rows than were labelled, so give a tuned one few epochs, such as ``max_epochs=2``. No
        `SelectiveClassifier` or `ConformalClassifier`, whose guarantee would hold for the labels of
        the teacher: put the distilled classifier into them.
    teacher : classifier
        A scikit-learn classifier with ``predict_proba``, such as a `PromptClassifier`. ``fit``
        trains a clone of it on the labelled rows; wrap a fitted one in
        `sklearn.frozen.FrozenEstimator` to keep it as it is.
    unlabelled : sequence of str, length n_unlabelled
        Texts of the same kind without a label. ``fit`` leaves out those among the labelled ones,
        and of equal ones all but the first. A pipeline does not transform them, so give them in the
        form that its earlier steps produce.
    n_texts_per_label : int or None, default=32
        How many texts of each label the student learns from: those of which the teacher is surest,
        among the ones that it gives this label. Fewer if the teacher gives a label less often.
        ``None`` takes all texts that it labels, with the labels as frequent as it finds them. Raise
        it for a linear classifier, which needs many texts, and if there are thousands to choose
        from. Lower it if a label is rarer than that among the texts: the teacher would have to be
        wrong to find enough of them.

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
    (EACL 2021). They train it on probabilities. Here it learns the labels that the teacher gives,
    as in Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep
    Neural Networks" (ICML workshop 2013), and only those of the surest texts. The names *teacher*
    and *student* are those of distillation: Hinton et al., "Distilling the Knowledge in a Neural
    Network" (2015).

    A student repeats the mistakes of which its teacher is sure. Compare both on labelled rows that
    neither has seen.

    Examples
    --------
    >>> from instructclf import BagOfWordsClassifier, DistilledClassifier, PromptClassifier
    >>> from instructclf.datasets import load_reviews
    >>> train, test = load_reviews("train"), load_reviews("test")
    >>> teacher = PromptClassifier(n_shots=4, random_state=0)
    >>> words = BagOfWordsClassifier(random_state=0)
    >>> student = DistilledClassifier(words, teacher, train.texts[8:40])
    >>> student.fit(train.texts[:8], train.labels[:8]).predict(test.texts[:2]).shape
    (2,)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [HasMethods(["fit", "predict"])],
        "teacher": [HasMethods(["fit", "predict_proba"])],
        "unlabelled": "no_validation",  # fit names the text that is wrong
        "n_texts_per_label": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self, estimator: Any, teacher: Any, unlabelled: Any, *, n_texts_per_label: int | None = 32
    ) -> None:
        self.estimator = estimator
        self.teacher = teacher
        self.unlabelled = unlabelled
        self.n_texts_per_label = n_texts_per_label

    def fit(self, X: Any, y: Any) -> Self:
        """Train the teacher on the labelled rows, and the student on these and on what it says.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts that have labels.
        y : array-like of shape (n_texts,)
            Their labels.

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
            If labels do not fit the texts, or a fitted teacher has one that ``y`` lacks.
        ScoringError
            If the teacher returns a probability that is not finite.
        """
        self._validate_params()
        _check_student(self.estimator)
        labels, texts = check_labels(y), check_texts(X)
        check_same_length(texts, labels)
        check_enough_classes(np.unique(labels))
        others = check_texts(self.unlabelled, "unlabelled")
        positions = _find_new(others, texts)
        teacher: Any = clone(self.teacher)
        self.teacher_ = teacher.fit(texts, labels)
        own = _as_labelled(self.teacher_, labels)
        self.pseudo_labelled_ = self._ask_teacher(others, positions, own)
        chosen, given = self.pseudo_labelled_
        student: Any = clone(self.estimator)
        all_texts = [*texts, *(others[i] for i in chosen)]
        self.estimator_ = student.fit(all_texts, np.concatenate([labels, given]))
        return self

    def _ask_teacher(
        self, texts: Sequence[str], positions: NDArray[np.intp], labels: NDArray[Any]
    ) -> PseudoLabelled:
        """Return the surest of what the teacher says about some texts, in labels of its classes."""
        asked = [texts[i] for i in map(int, positions)]
        probabilities = np.asarray(self.teacher_.predict_proba(asked))
        _check_finite(probabilities, asked)
        classes = np.asarray(self.teacher_.classes_).tolist()
        code_of = {label: code for code, label in enumerate(classes)}
        answers = predict_from(self.teacher_, probabilities, asked)
        given = np.array([code_of.get(answer, ABSTAINED) for answer in answers.tolist()])
        chosen = choose_surest(probabilities, given, self.n_texts_per_label)
        return PseudoLabelled(positions[chosen], labels[given[chosen]])

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the requests of this classifier, for scikit-learn's metadata routing.

        Returns
        -------
        MetadataRouter
            The requests of ``score``. ``fit`` has no arguments to pass on.
        """
        return MetadataRouter(owner=type(self).__name__).add_self_request(self)

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


def choose_surest(
    probabilities: NDArray[np.float64], given: NDArray[np.intp], n_each: int | None
) -> NDArray[np.intp]:
    """Return the rows whose given label is the most probable, so many of each label.

    They are in ascending order. Of equally probable ones, the first are taken. ``None`` takes all
    that have a label.
    """
    if n_each is None:
        return np.flatnonzero(given != ABSTAINED)
    surest_first = np.argsort(-probabilities[np.arange(len(given)), given], kind="stable")
    of_each = [
        surest_first[given[surest_first] == code][:n_each] for code in range(probabilities.shape[1])
    ]
    return np.sort(np.concatenate(of_each))


def _check_student(student: Any) -> None:
    if isinstance(student, (SelectiveClassifier, ConformalClassifier)):
        name = type(student).__name__
        msg = (
            f"The 'estimator' parameter of DistilledClassifier must not be a {name}: most of the "
            "rows that it would hold out have labels of the teacher, so it would promise to agree "
            f"with the teacher. Put the DistilledClassifier into a {name}."
        )
        raise InvalidParameterError(msg)


def _as_labelled(teacher: Any, labels: NDArray[Any]) -> NDArray[Any]:
    """Return the teacher's classes as they are among the labels."""
    known = {label: label for label in np.unique(labels).tolist()}
    classes = np.asarray(teacher.classes_).tolist()
    if foreign := [label for label in classes if label not in known]:
        msg = (
            f"The fitted teacher has the label {foreign[0]!r}, which is not in y, whose labels are "
            f"{', '.join(map(repr, known))}. Give y the labels of the teacher."
        )
        raise InvalidLabelsError(msg)
    return np.array([known[label] for label in classes], dtype=labels.dtype)


def _check_finite(probabilities: NDArray[np.float64], texts: Sequence[str]) -> None:
    is_wrong = ~np.isfinite(probabilities).all(axis=1)
    if is_wrong.any():
        row = int(np.flatnonzero(is_wrong)[0])
        msg = (
            f"The teacher returned the probabilities {probabilities[row].tolist()} for the text "
            f"{texts[row][:60]!r}. Fit it alone, and see why."
        )
        raise ScoringError(msg)


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
