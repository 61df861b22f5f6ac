"""Labels, and what a caller says about them → classes, codes and words, or an error."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.exceptions import (
    InvalidLabelsError,
    MissingClassWarning,
    NumberedLabelsWarning,
    warn_caller,
)
from instructclf.inputs.labels import check_labels
from instructclf.inputs.spelling import did_you_mean

UNORDERED = "unordered"
"""The order of labels that a model reads side by side, without any."""


def find_classes(
    y: Any, label_definitions: Mapping[Any, str] | None
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes, sorted, and the position of each label among them, of shape (n_classes,).

    Raises
    ------
    InvalidLabelsError
        If ``y`` is missing or no classification target, has one class only, or has a label that is
        not defined.

    Warns
    -----
    MissingClassWarning
        If a label is defined and does not occur in ``y``.
    """
    labels = check_labels(y)
    found = np.unique(labels)
    if label_definitions is None:
        classes = found
    else:
        classes = defined_classes(label_definitions)
        _check_defined(found, classes)
    check_enough_classes(classes)
    return classes, np.searchsorted(classes, labels)


def defined_classes(label_definitions: Mapping[Any, str]) -> NDArray[Any]:
    """Return the labels that are defined, sorted, of shape (n_classes,).

    Raises
    ------
    InvalidLabelsError
        If a definition is no text, or labels are of different kinds.
    """
    for label, definition in label_definitions.items():
        if not isinstance(definition, str) or not definition.strip():
            msg = f"The definition of label {label!r} must be a sentence. Got {definition!r}."
            raise InvalidLabelsError(msg)
    return _sorted_labels(label_definitions, "label_definitions")


def _sorted_labels(labels: Iterable[Any], name: str) -> NDArray[Any]:
    """Return the different labels, sorted, possibly none."""
    given = list(labels)
    return np.unique(check_labels(given, name)) if given else np.empty(0, str)


def find_stated_labels(
    labels: Sequence[Any] | None, label_definitions: Mapping[Any, str] | None
) -> NDArray[Any]:
    """Return the labels that a prompt states without having seen rows, sorted; possibly none.

    Raises
    ------
    InvalidLabelsError
        If both name different labels.
    """
    if labels is None:
        return defined_classes(label_definitions or {})
    found = _sorted_labels(labels, "labels")
    defined = found if label_definitions is None else defined_classes(label_definitions)
    if found.tolist() != defined.tolist():
        msg = (
            f"labels={list(labels)!r} and label_definitions, which has "
            f"{list(label_definitions or ())!r}, must name the same labels. Leave out 'labels'."
        )
        raise InvalidLabelsError(msg)
    return found


def check_label_order(
    label_order: str | Sequence[Any], classes: NDArray[Any], n_seeds: int
) -> None:
    """Raise unless labels can be stated in this order.

    Raises
    ------
    InvalidLabelsError
        If a list does not name each label once.
    InvalidParameterError
        If ``"cyclic"`` has a single seed, which could state one order only.
    """
    if label_order == "cyclic" and n_seeds == 1:
        msg = (
            "label_order='cyclic' states the labels in another order under each seed, and "
            f"n_seeds=1 has one. Set n_seeds to the number of labels, here {len(classes)}, or "
            "label_order='sorted'."
        )
        raise InvalidParameterError(msg)
    known = classes.tolist()
    if isinstance(label_order, str):
        return
    if len(label_order) == len(known) and all(label in label_order for label in known):
        return
    unknown = [label for label in label_order if label not in known]
    msg = (
        f"label_order={list(label_order)!r} must name each label once. The labels are {known!r}."
        f"{did_you_mean(unknown, known)}"
    )
    raise InvalidLabelsError(msg)


def order_labels(
    label_order: str | Sequence[Any],
    classes: NDArray[Any],
    rng: np.random.RandomState,
    member: int = 0,
) -> list[int]:
    """Return in which order an instruction states the classes, as positions among them.

    ``"cyclic"`` shifts the sorted order by one for each further member of an ensemble, so that
    among as many members as classes each class stands once at each place: a Latin square.
    """
    positions = np.arange(len(classes))
    if not isinstance(label_order, str):
        return [classes.tolist().index(label) for label in label_order]
    if label_order == "random":
        return rng.permutation(len(classes)).tolist()
    return np.roll(positions, -member if label_order == "cyclic" else 0).tolist()


def check_enough_classes(classes: NDArray[Any]) -> None:
    """Raise unless there are two classes or more."""
    if len(classes) < 2:
        msg = (
            "Classifier can't train when only one class is present: every label is "
            f"{classes.tolist()[0]!r}. Give rows of two labels or more, or name all labels in "
            "label_definitions."
        )
        raise InvalidLabelsError(msg)


def check_label_words(
    classes: NDArray[Any], verbalizer: Mapping[Any, str | Sequence[str]] | None
) -> tuple[tuple[str, ...], ...]:
    """Return the words that the model answers with, in the order of the classes.

    Raises
    ------
    InvalidLabelsError
        If a label has no words, words are no text or empty, or two answers are the same.
    """
    labels = classes.tolist()
    if verbalizer is not None:
        _check_names(labels, verbalizer)
    words = [
        _check_answers(label, str(label) if verbalizer is None else verbalizer[label])
        for label in labels
    ]
    seen: dict[str, Hashable] = {}
    for label, answers in zip(labels, words, strict=True):
        for answer in answers:
            if answer in seen:
                msg = (
                    f"The labels {seen[answer]!r} and {label!r} have the same words, {answer!r}. "
                    "Give different ones in 'verbalizer'."
                )
                raise InvalidLabelsError(msg)
            seen[answer] = label
    return tuple(words)


def warn_of_numbers(classes: NDArray[Any]) -> None:
    """Warn where a model is to answer with numbers that nothing explains.

    Warns
    -----
    NumberedLabelsWarning
        If each label is a number, or a text that reads as one.
    """
    labels = classes.tolist()
    if not all(_is_number(str(label)) for label in labels):
        return
    dots = ", ..." if len(labels) > 2 else ""
    example = "{" + ", ".join(f"{label!r}: '...'" for label in labels[:2]) + dots + "}"
    warn_caller(
        f"The labels are numbers, {labels[0]!r}, {labels[1]!r}{dots}, and nothing says what they "
        "mean: numbers are all that the model reads, and what it answers with. Give each a word, "
        f"verbalizer={example}, or a sentence, label_definitions={example}. VotingClassifier, "
        "StackingClassifier, BaggingClassifier, CalibratedClassifierCV(ensemble=False) and "
        "cross_val_predict of probabilities number labels, in sorted order.",
        NumberedLabelsWarning,
    )


def words_of(label: Any, classes: NDArray[Any], label_words: Sequence[Sequence[str]]) -> str:
    """Return the preferred words of a label.

    Raises
    ------
    InvalidLabelsError
        If there is no such label.
    """
    for known, answers in zip(classes.tolist(), label_words, strict=True):
        if known == label:
            return answers[0]
    labels = classes.tolist()
    hint = did_you_mean([label], labels)
    msg = f"There is no label {label!r}. The classes are {labels!r}.{hint}"
    raise InvalidLabelsError(msg)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _check_answers(label: Any, words: Any) -> tuple[str, ...]:
    """Return the answers that stand for one label, without white space around them."""
    answers = words if isinstance(words, list | tuple) else [words]
    if not answers or not all(isinstance(own, str) and own.strip() for own in answers):
        msg = (
            f"The words of label {label!r} must be a text that is not empty, or a list of such "
            f"texts. Got {words!r}. Name them in 'verbalizer'."
        )
        raise InvalidLabelsError(msg)
    return tuple(own.strip() for own in answers)


def _check_defined(found: NDArray[Any], classes: NDArray[Any]) -> None:
    undefined = sorted(set(found.tolist()) - set(classes.tolist()), key=str)
    absent = sorted(set(classes.tolist()) - set(found.tolist()), key=str)
    if undefined:
        hint = _hint_at(undefined, absent, {label: label for label in classes.tolist()}, found)
        msg = (
            f"label_definitions says nothing about {undefined!r}, which occur in y. It defines "
            f"{classes.tolist()!r}: add the missing ones.{hint}"
        )
        raise InvalidLabelsError(msg)
    if absent:
        warn_caller(
            f"label_definitions names {absent!r}, of which y has no row. They stay classes, known "
            "by their definition alone; remove them if that is not meant.",
            MissingClassWarning,
        )


def _check_names(labels: list[Any], verbalizer: Mapping[Any, Any]) -> None:
    missing = [label for label in labels if label not in verbalizer]
    if missing:
        extra = [label for label in verbalizer if label not in labels]
        msg = (
            f"The 'verbalizer' must have words for all classes {labels!r}. It names "
            f"{list(verbalizer)!r}: add {missing!r}."
            f"{_hint_at(missing, extra, verbalizer, labels)}"
        )
        raise InvalidLabelsError(msg)


def _hint_at(
    missing: Sequence[Any], extra: Sequence[Any], words: Mapping[Any, Any], found: ArrayLike
) -> str:
    """Explain labels that are misspelled, or that a meta-estimator seems to have numbered.

    To take numbers for the sorted labels would be a guess: OneVsRestClassifier numbers "no" and
    "yes".
    """
    numbers = np.asarray(found)
    is_numbered = numbers.dtype.kind in "iu" and numbers.tolist() == list(range(len(words)))
    if not is_numbered or not all(isinstance(label, str) for label in words):
        return did_you_mean(extra, missing) or did_you_mean(missing, words)
    numbered = {number: words[label] for number, label in enumerate(sorted(words))}
    return (
        " The labels look numbered: some meta-estimators, such as VotingClassifier, "
        "StackingClassifier and BaggingClassifier, number them in sorted order before their "
        "members see them. Then name them by number, in label_definitions and in "
        f"verbalizer={numbered!r}."
    )
