"""Raw results of cells → their scores, figures and differences."""

from __future__ import annotations

import argparse
import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cell_settings import model_digest, newest
from cells import Cell
from numpy.typing import NDArray
from raw_results import RawResult, RawResults
from tables import last_environment

from instructclf.evaluation import SeedScores

_FEW = 200
"""Tables of fewer test rows state that they mean nothing."""
_UNEQUAL = 1.25
"""Labels are unequal where the most frequent one exceeds the mean frequency by this factor."""


@dataclass(frozen=True)
class CellScores:
    """The results of some cells with one model.

    Parameters
    ----------
    results : dict of str to list of dict
        The raw results of each cell, by seed.
    scores : dict of str to SeedScores
        The scores of each cell that has predictions.
    """

    results: dict[str, list[RawResult]]
    scores: dict[str, SeedScores]

    @classmethod
    def read(cls, cells: Sequence[Cell], options: argparse.Namespace) -> CellScores:
        """Read the newest results of the cells, however many rows and seeds they had."""
        found, raw = {}, RawResults(options.out)
        for cell in cells:
            results = newest(raw.read(cell.name), model_digest(options.model))
            if results:  # a cell that failed under some seeds is judged by the others
                found[cell.name] = [r for r in results if "failed" not in r] or results[:1]
        names = {cell.name for cell in cells}
        stray = [name for name in raw.cells() if name in names and name not in found]
        if stray:
            print(f"Left out, as they ran with another model: {', '.join(stray)}")
        scores = {n: scores_of(rs) for n, rs in found.items() if "predictions" in rs[0]}
        return cls(found, scores)

    def record(self) -> dict[str, Any]:
        """Return the figures of every cell, and where they were measured."""
        every = [result for results in self.results.values() for result in results]
        last = last_environment(r["environment"] for r in every)
        where = last | {"toy": min(r["settings"]["n_test"] for r in every) < _FEW}
        return {"environment": where, "cells": {name: self.figures(name) for name in self.results}}

    def figures(self, name: str) -> dict[str, Any]:
        """Return the figures of a cell."""
        results = self.results[name]
        first = results[0]
        found: dict[str, Any] = {
            "settings": first["settings"],
            "seeds": [result["seed"] for result in results],
        }
        if "failed" in first:
            return found | {"failed": first["failed"]}
        if name not in self.scores:
            return found | {"results": results}
        scores = self.scores[name]
        return found | {
            "n_test": scores.n_test,
            "n_trained": first["n_trained"],
            **_means(scores),
            "balanced": _means(replace(scores, scoring="balanced_accuracy")),
            "is_unequal": _is_unequal(scores.y_test),
            "calibration_error": mean_of(results, "calibration_error"),
            "log_loss": mean_of(results, "log_loss"),
            "epochs": mean_of(results, "epochs"),
            "fit_s": float(scores.fit_seconds.mean()),
            "texts_per_s": scores.texts_per_second,
        }

    def difference(self, name: str, base: str, scoring: str = "accuracy") -> dict[str, Any] | None:
        """Return how much better one cell is than another, on the seeds that both have."""
        if name not in self.scores or base not in self.scores:
            return None
        chosen = self._common(name, base)
        if chosen is None:
            return None
        scores, others = (replace(scores_of(results), scoring=scoring) for results in chosen)
        if not np.array_equal(scores.y_test, others.y_test):
            return None
        found = scores.compare(others)
        return {
            "difference": found.difference,
            "low": found.interval.low,
            "high": found.interval.high,
            "p": found.p_value,
            "before": others.mean,
            "after": scores.mean,
            "n_seeds": max(scores.n_seeds, others.n_seeds),
        }

    def share_of_changes(self, name: str, base: str) -> float | None:
        """Return the share of predictions that differ in two cells, under the seeds of both."""
        common = self._common(name, base)
        if common is None:
            return None
        pairs = zip(*(scores_of(results).predictions for results in common), strict=True)
        return float(np.mean([one != other for one, other in pairs]))

    def _common(self, name: str, base: str) -> tuple[list[RawResult], list[RawResult]] | None:
        """Return the results of two cells on common seeds; a single result is used as it is."""
        by_seed = [{r["seed"]: r for r in self.results[n]} for n in (name, base)]
        seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
        found = [
            list(results.values()) if len(results) == 1 else [results[seed] for seed in seeds]
            for results in by_seed
        ]
        return (found[0], found[1]) if all(found) else None


def scores_of(results: Sequence[RawResult]) -> SeedScores:
    """Return the raw results of one cell as scores of the package, with their intervals."""
    first = results[0]
    labels = np.array(first["labels"])
    encoded = [result.get("log_probabilities") for result in results]
    truth = _decode(first["truth"], np.uint8)
    shape = (len(truth), len(labels))
    return SeedScores(
        y_test=labels[truth],
        predictions=np.stack([labels[_decode(r["predictions"], np.uint8)] for r in results]),
        fit_seconds=np.array([result["fit_s"] for result in results]),
        predict_seconds=np.array([result["predict_s"] for result in results]),
        shots=[np.empty(result["n_trained"], dtype=np.intp) for result in results],
        n_shots=first["settings"]["n_rows"],
        classes=labels,
        log_probabilities=None
        if None in encoded
        else np.stack([_decode(text, np.float16).astype(float).reshape(shape) for text in encoded]),
    )


def _decode(text: Any, dtype: Any) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def _means(scores: SeedScores) -> dict[str, Any]:
    low, high = scores.interval()
    std = scores.std if scores.n_seeds > 1 else None
    return {"accuracy": scores.mean, "low": low, "high": high, "std": std}


def _is_unequal(y_test: NDArray[Any]) -> bool:
    """Say whether favouring the most frequent label would look like knowing something."""
    counts = np.unique(y_test, return_counts=True)[1]
    return bool(counts.max() > _UNEQUAL * counts.mean())


def mean_of(results: Sequence[RawResult], key: str) -> float | None:
    """Return the mean of a figure over the results that have it."""
    values = [result[key] for result in results if result.get(key) is not None]
    return float(np.mean(values)) if values else None
