"""``y`` and parameters → what is asked about each text: the labelled rows of each question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructclf.classifiers.fitting import Rows
from instructclf.classifiers.labels import (
    check_enough_classes,
    check_label_words,
    defined_classes,
    find_classes,
)
from instructclf.classifiers.several.lines import AnswerLine, Line, ListLine
from instructclf.engine.running.processes import current_processes
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.label_tables import LabelTable, read_label_table
from instructclf.inputs.labels import check_labels, check_same_length
from instructclf.inputs.spelling import did_you_mean
from instructclf.inputs.texts import check_texts
from instructclf.prompts.instructions import write_list, write_questions

NO_AND_YES = (("no",), ("yes",))
_LEAST_LISTED = 2
"""A list of one label would only be another way to say no or yes."""


@dataclass(frozen=True, eq=False)
class AskedRows:
    """The same texts with the labels of several questions.

    Parameters
    ----------
    names : ndarray of shape (n_questions,)
        What the questions are called.
    rows : tuple of Rows
        The labelled rows of each question.
    lines : tuple of Line
        The lines of a response, which answer all questions.
    """

    names: NDArray[Any]
    rows: tuple[Rows, ...]
    lines: tuple[Line, ...]

    @property
    def codes(self) -> NDArray[np.intp]:
        """The position of each label among its question's, of shape (n_texts, n_questions)."""
        return np.column_stack([own.codes for own in self.rows])

    def write_task(self, instruction: str | None) -> str:
        """Return the instruction, which states all questions."""
        stated = [line.statement for line in self.lines]
        is_list = len(stated) == 1 and isinstance(self.lines[0], ListLine)
        return write_list(instruction, *stated) if is_list else write_questions(instruction, stated)

    @cached_property
    def responses(self) -> Rows:
        """The rows with all their answers, one a line, as the label of each."""
        responses = [
            "\n".join(line.write(text, codes) for line in self.lines)
            for text, codes in zip(self.rows[0].texts, self.codes.tolist(), strict=True)
        ]
        different, codes = np.unique(np.array(responses, dtype=object), return_inverse=True)
        return Rows(
            different,
            self.rows[0].texts,
            codes.astype(np.intp),
            self.rows[0].positions,
            None,
            tuple((response,) for response in different.tolist()),
            strata=np.zeros(len(responses), dtype=np.intp),
        )


def is_indicator(classes: NDArray[Any]) -> bool:
    """Say whether labels are 0 and 1, or false and true."""
    return classes.dtype.kind in "iubf" and classes.tolist() == [0, 1]


def read_questions(estimator: Any, X: Any, y: Any) -> AskedRows:
    """Check labels before texts, as scikit-learn does.

    Raises
    ------
    InvalidLabelsError
        If ``y`` is no table, a question has one label only, or parameters do not fit its columns.
    InvalidTextsError
        If ``X`` is no sequence of strings.
    """
    definitions = estimator.label_definitions or {}
    if X is None and y is None and estimator.n_shots == 0 and definitions:
        table, texts = _without_rows(definitions), []
    else:
        table, texts = read_label_table(y, estimator.questions), None
    names = table.names.tolist()
    for parameter in ("label_definitions", "verbalizer"):
        _check_known(parameter, getattr(estimator, parameter) or {}, names)
    verbalizer = estimator.verbalizer or {}
    found = [
        _Found(name, column, definitions.get(name), verbalizer.get(name))
        for name, column in zip(names, table.columns, strict=True)
    ]
    texts = check_texts(X) if texts is None else texts
    check_same_length(texts, table.columns[0])
    current_processes().check_alike([texts, [own.codes.tolist() for own in found]], "rows")
    positions = np.arange(len(texts), dtype=np.intp)
    rows = tuple(Rows(own.classes, texts, own.codes, positions, None, own.words) for own in found)
    return AskedRows(table.names, rows, tuple(_write_lines(found)))


class _Found:
    """The name, classes, codes, words and definitions of one question."""

    def __init__(
        self,
        name: Any,
        labels: NDArray[Any],
        definitions: str | Mapping[Any, str] | None,
        words: Mapping[Any, Any] | None,
    ) -> None:
        self.name = str(name)
        if isinstance(definitions, str):
            self.classes, self.codes = _find_indicator(name, labels)
            self.sentences = (None, definitions)
        else:
            self.classes, self.codes = _find_classes(name, labels, definitions)
            self.sentences = (
                None if definitions is None else tuple(map(definitions.get, self.classes.tolist()))
            )
        has_default = words is None and is_indicator(self.classes)
        self.words = NO_AND_YES if has_default else check_label_words(self.classes, words)
        # Who says what 0 means, or has words for it, asks for an answer of yes or no.
        self.may_be_listed = has_default and not isinstance(definitions, Mapping)


def _write_lines(found: Sequence[_Found]) -> Iterator[Line]:
    """Yield the lines of the response: one for each question, and a list of labels, if any."""
    listed = [position for position, own in enumerate(found) if own.may_be_listed]
    if len(listed) < _LEAST_LISTED:
        listed = []
    for position, own in enumerate(found):
        if position not in listed:
            yield AnswerLine(position, own.name, own.words, own.sentences)
    if listed:
        yield ListLine(
            tuple(listed),
            tuple(found[i].name for i in listed),
            tuple(sentences[1] if (sentences := found[i].sentences) else None for i in listed),
            is_only=len(listed) == len(found),
        )


def _without_rows(definitions: Mapping[Any, Any]) -> LabelTable:
    """Return the questions that are defined, without a row."""
    names = check_labels(list(definitions), "label_definitions")
    columns = [
        np.empty(0, dtype=int if isinstance(own, str) else np.array([*own]).dtype)
        for own in definitions.values()
    ]
    return LabelTable(names, columns)


def _find_indicator(name: Any, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes 0 and 1 of a column that one sentence defines, and its codes."""
    if labels.dtype.kind not in "iubf" or not set(labels.tolist()) <= {0, 1}:
        msg = (
            f"label_definitions has one sentence for {name!r}, which defines a column of 0 and 1. "
            f"Its labels are {np.unique(labels).tolist()!r}: give {{label: sentence}}."
        )
        raise InvalidLabelsError(msg)
    return np.array([0, 1], dtype=labels.dtype), labels.astype(np.intp)


def _find_classes(
    name: Any, labels: NDArray[Any], definitions: Mapping[Any, str] | None
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes of a column and its codes, or raise if it has one class only."""
    if definitions is not None and not len(labels):
        classes = defined_classes(definitions)
        check_enough_classes(classes)
        return classes, np.empty(0, dtype=np.intp)
    different = np.unique(labels).tolist()
    if definitions is not None or len(different) > 1:
        return find_classes(labels, definitions)
    example = "'...'" if different[0] in {0, 1} else f"{{{different[0]!r}: '...', ...}}"
    msg = (
        f"Column {name!r} of y has only one class: every label is {different[0]!r}. Give rows with "
        "another label, leave the column out, or define its labels, which are then known without "
        f"rows: label_definitions={{{name!r}: {example}}}."
    )
    raise InvalidLabelsError(msg)


def _check_known(parameter: str, given: Mapping[Any, Any], names: Sequence[Any]) -> None:
    unknown = [name for name in given if name not in names]
    if unknown:
        msg = (
            f"The '{parameter}' parameter names {unknown[0]!r}, which is no question. The "
            f"questions are {list(names)!r}.{did_you_mean(unknown[:1], names)}"
        )
        raise InvalidLabelsError(msg)
