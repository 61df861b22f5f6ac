"""Fitted blend or bag of words ↔ a folder of JSON and safetensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.saving.cards import write_plain_card
from instructclf.classifiers.saving.folders import write_folder, write_json
from instructclf.classifiers.saving.json_values import from_json, to_json
from instructclf.exceptions import ModelLoadingError, SavedClassifierError
from instructclf.inputs.paths import expand

_WORDS, _NUMBERS = "words.json", "weights.safetensors"
_SETTLED = ("estimators", "method")
"""Parameters of a blend that say what was fitted."""
_SHOWN = ("weight", "log_loss", "accuracy", "fit_seconds", "seconds_per_text")
_FITTED_WORDS = ("classes_", "C_")
_FITTED_BLEND = ("classes_", "weights_", "temperatures_", "cv_results_")


# Bag of words


def save_bag_of_words(
    classifier: Any, folder: str | PathLike[str], scores: Mapping[str, float] | None
) -> None:
    """Write a fitted `BagOfWordsClassifier` into a folder.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    SavedClassifierError
        If a parameter cannot be written as text, or the folder holds something else.
    """
    check_is_fitted(classifier)
    vectorizer = classifier.vectorizer_
    words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    arrays = {
        "idf": vectorizer.idf_,
        "coef": classifier.coef_,
        "intercept": classifier.intercept_,
    }

    def write_parts(fresh: Path) -> None:
        write_json(fresh / _WORDS, words)
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, fresh / _NUMBERS)

    rows = [("words and sequences of words", len(words)), ("`C`", classifier.C_)]
    write_folder(
        expand(folder),
        {
            "class": type(classifier).__name__,
            "parameters": _describe(classifier.get_params()),
            "fitted": _describe_fitted(classifier, _FITTED_WORDS),
        },
        write_parts=write_parts,
        write_card=lambda versions: write_plain_card(
            classifier,
            "logistic regression on the TF-IDF of words. `words.json` lists them, and they occur "
            "in the training data.",
            (("what", "value"), rows),
            versions,
            scores or {},
        ),
    )


def read_bag_of_words(
    kind: type, record: Mapping[str, Any], folder: Path, changes: Mapping[str, Any]
) -> Any:
    """Return the `BagOfWordsClassifier` in a folder whose files have been checked."""
    parameters = {name: from_json(value) for name, value in record["parameters"].items()}
    classifier = kind(**parameters).set_params(**changes)
    arrays = load_file(folder / _NUMBERS)
    vectorizer = TfidfVectorizer(
        ngram_range=parameters["ngram_range"],
        vocabulary=json.loads((folder / _WORDS).read_text(encoding="utf-8")),
    )
    vectorizer.idf_ = arrays["idf"]
    classifier.vectorizer_ = vectorizer
    classifier.coef_, classifier.intercept_ = arrays["coef"], arrays["intercept"]
    return _set_fitted(classifier, record, _FITTED_WORDS)


# Blends


def save_blend(
    blend: Any,
    folder: str | PathLike[str],
    scores: Mapping[str, float] | None,
    saveable: tuple[type, ...],
) -> None:
    """Write a fitted `BlendedClassifier` into a folder, each classifier that counts below it.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    SavedClassifierError
        If a classifier is not of the kinds that can be saved or holds a parameter that cannot be
        written as text, or the folder holds something else.
    """
    check_is_fitted(blend, "estimators_")
    for name, member in blend.estimators_.items():
        if not isinstance(member, saveable):
            kinds = ", ".join(kind.__name__ for kind in saveable)
            msg = (
                f"The classifier {name!r} is a {type(member).__name__}, which only a pickle could "
                f"store, and a pickle runs code when it is loaded. Blend {kinds}, or pickle the "
                "whole blend and load it only where you trust the file."
            )
            raise SavedClassifierError(msg)
    parameters = blend.get_params(deep=False)
    del parameters["estimators"]

    def write_parts(fresh: Path) -> None:
        for number, member in enumerate(blend.estimators_.values()):
            member.save(_subfolder(fresh, number))

    write_folder(
        expand(folder),
        {
            "class": type(blend).__name__,
            "parameters": _describe(parameters),
            "members": list(blend.estimators_),
            "fitted": _describe_fitted(blend, _FITTED_BLEND),
        },
        write_parts=write_parts,
        write_card=lambda versions: write_plain_card(
            blend,
            "the weighted mean of the classifiers below. Each of those with a weight has a folder "
            "and a card of its own.",
            _tabulate(blend),
            versions,
            scores or {},
        ),
    )


def _subfolder(folder: Path, number: int) -> Path:
    """Return the folder of a classifier. Names may hold characters that no path can."""
    return folder / f"member-{number}"


def _tabulate(blend: Any) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Return what was tried, as a head and rows of a table."""
    numbers = {name: f"`member-{number}`" for number, name in enumerate(blend.estimators_)}
    results = blend.cv_results_
    rows = [
        [
            name,
            numbers.get(name, "none"),
            *(float(results[what][row]) for what in ("weight", *_SHOWN)),
        ]
        for row, name in enumerate(results["name"].tolist())
    ]
    shown = [name.replace("_", " ") for name in _SHOWN]
    return ("classifier", "folder", *shown), rows


def read_blend(
    kind: type,
    record: Mapping[str, Any],
    folder: Path,
    changes: Mapping[str, Any],
    load_member: Callable[..., Any],
) -> Any:
    """Return the `BlendedClassifier` in a folder whose files have been checked.

    Raises
    ------
    SavedClassifierError
        If a change is one of a parameter that says what was fitted.
    ModelLoadingError
        If the base model of a classifier cannot be loaded.
    """
    names, own = record["members"], dict(changes)
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    for change in changes:
        name, _, parameter = change.partition("__")
        if name in given and parameter:
            given[name][parameter] = own.pop(change)
    for change in own:
        if change in _SETTLED or change not in record["parameters"]:
            allowed = [name for name in record["parameters"] if name not in _SETTLED]
            msg = (
                f"{change!r} cannot be set while loading a blend. Give one of {allowed}, or a "
                f"parameter of one of its classifiers {names}, such as {names[0]}__model."
            )
            raise SavedClassifierError(msg)
    members = {}
    for number, name in enumerate(names):
        try:
            members[name] = load_member(_subfolder(folder, number), **given[name])
        except ModelLoadingError as error:
            msg = f"{error} In a blend, that is load({str(folder)!r}, {name}__model=...)."
            raise ModelLoadingError(msg) from error
    parameters = {name: from_json(value) for name, value in record["parameters"].items()}
    estimators: list[tuple[str, Any]] = [(name, clone(one)) for name, one in members.items()]
    blend = kind(estimators, **parameters).set_params(**own)
    blend.estimators_ = members
    return _set_fitted(blend, record, _FITTED_BLEND)


def _describe(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_json(value, name) for name, value in values.items()}


def _describe_fitted(classifier: Any, names: Sequence[str]) -> dict[str, Any]:
    return _describe({name: getattr(classifier, name) for name in names})


def _set_fitted(classifier: Any, record: Mapping[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        setattr(classifier, name, from_json(record["fitted"][name]))
    return classifier
