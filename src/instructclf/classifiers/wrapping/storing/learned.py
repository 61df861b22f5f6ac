"""What each wrapper has learned of the classifier inside: its attributes, for card and checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructclf.classifiers.wrapping.storing.wrappers import WrapperFormat


def _tabulate_ordinal(ordinal: Any) -> list[tuple[str, Any]]:
    order = np.argsort(ordinal.scores_)
    labels = np.asarray(ordinal.classes_)[order].tolist()
    scores = ordinal.scores_[order].tolist()
    return [
        ("labels, lowest first", ", ".join(map(str, labels))),
        *((f"score of `{label}`", _exact(one)) for label, one in zip(labels, scores, strict=True)),
    ]


def _tabulate_conformal(conformal: Any) -> list[tuple[str, Any]]:
    thresholds = zip(conformal.classes_.tolist(), conformal.thresholds_.tolist(), strict=True)
    return [
        ("`confidence_level`", _exact(conformal.confidence_level)),
        ("`class_conditional`", conformal.class_conditional),
        *_tabulate_rows(conformal),
        *((f"least probability of `{label}` in a set", _exact(one)) for label, one in thresholds),
    ]


def _tabulate_selective(selective: Any) -> list[tuple[str, Any]]:
    return [
        ("`risk`", _exact(selective.risk)),
        ("`confidence`", _exact(selective.confidence)),
        *_tabulate_rows(selective),
        ("threshold, which the largest probability must exceed", _exact(selective.threshold_)),
        ("coverage: share of the held-out rows with a label", selective.coverage_),
    ]


def _tabulate_rows(classifier: Any) -> list[tuple[str, Any]]:
    cv = classifier.cv if isinstance(classifier.cv, int | float | str | None) else "given splits"
    return [("`cv`", str(cv)), ("held-out rows", len(classifier.held_out_))]


def _exact(number: float) -> str:
    """Return a number with all digits that matter to a threshold."""
    return f"{number:.9g}"


def _find_faults_of_ordinal(ordinal: Any) -> Iterator[str]:
    yield from _find_faults_of_array("scores_", ordinal.scores_, len(ordinal.classes_))
    if len(np.unique(ordinal.scores_)) < len(ordinal.scores_):
        yield f"scores_={ordinal.scores_!r} gives two labels the same score"


def _find_faults_of_conformal(conformal: Any) -> Iterator[str]:
    yield from _find_faults_of_array("thresholds_", conformal.thresholds_, len(conformal.classes_))
    yield from _find_faults_of_rows(conformal.held_out_)


def _find_faults_of_selective(selective: Any) -> Iterator[str]:
    threshold, coverage = selective.threshold_, selective.coverage_
    if not isinstance(threshold, float) or not threshold >= 0:
        yield f"threshold_={threshold!r} is no probability and not infinite"
    if not isinstance(coverage, float) or not 0 <= coverage <= 1:
        yield f"coverage_={coverage!r} is no share from 0 to 1"
    yield from _find_faults_of_rows(selective.held_out_)


def _find_faults_of_array(name: str, array: NDArray[Any], n_classes: int) -> Iterator[str]:
    is_array = isinstance(array, np.ndarray) and array.dtype.kind == "f"
    if not is_array or array.shape != (n_classes,) or not np.isfinite(array).all():
        yield f"{name}={array!r} is no array of {n_classes} finite numbers, one for each label"


def _find_faults_of_rows(rows: NDArray[Any]) -> Iterator[str]:
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "iu" or rows.ndim != 1:
        yield f"held_out_={rows!r} is no list of rows"


ORDINAL = WrapperFormat(
    ("scores_",),
    ("scores",),
    "predicts the median of ordered labels, from the probabilities of the classifier inside.",
    _tabulate_ordinal,
    _find_faults_of_ordinal,
)
CONFORMAL = WrapperFormat(
    ("thresholds_", "held_out_"),
    ("confidence_level", "class_conditional"),
    "`predict_set` returns sets of labels that contain the right one with a probability of at "
    "least `confidence_level`, for texts from the same source as the held-out rows. `cv` says "
    "which those were; an int or a splitter of several splits guarantees nothing.",
    _tabulate_conformal,
    _find_faults_of_conformal,
)
SELECTIVE = WrapperFormat(
    ("threshold_", "coverage_", "held_out_"),
    ("risk", "confidence"),
    "labels the texts of which the classifier inside is sure enough, and returns `None` for the "
    "others. At most a share of `risk` of the labels is wrong, with a probability of `confidence` "
    "over draws of the held-out rows, for texts from the same source. `cv` says which rows those "
    "were; an int or a splitter of several splits guarantees nothing.",
    _tabulate_selective,
    _find_faults_of_selective,
)
