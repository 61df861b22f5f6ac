"""Ways to combine what several approaches say of texts, and how accurate each way is."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from raw_results import RawResult

from instructclf.calibration.labelled_rows import fit_temperature
from instructclf.classifiers.wrapping.pooling import choose_best, find_weights
from instructclf.classifiers.wrapping.trials import cool
from instructclf.evaluation.metrics import answer_weights

_SCORING = "balanced_accuracy"
"""Rows of CR are sorted by label, so the first test rows hold few of one label."""
Floats = NDArray[np.float64]


def encode(scores: Floats) -> str:
    """Return scores as a text, in half precision."""
    return base64.b64encode(scores.astype(np.float16).tobytes()).decode()


def decode(text: str, n_rows: int) -> Floats:
    """Return such scores, of shape (n_rows, n_classes)."""
    flat = np.frombuffer(base64.b64decode(text), np.float16)
    return flat.reshape(n_rows, -1).astype(float)


class Said(NamedTuple):
    """What all approaches say under one seed: log-probabilities of shape (m, n_rows, n_classes)."""

    codes: NDArray[np.intp]
    truth: NDArray[np.intp]
    held_out: Floats
    tested: Floats

    @classmethod
    def read(cls, results: Sequence[RawResult]) -> Said:
        """Read raw results of one seed, and divide by the temperatures of the rows held out."""
        codes, truth = np.array(results[0]["codes"]), np.array(results[0]["truth"])
        held_out, tested = [], []
        for result in results:
            said = decode(result["held_out"], len(codes))
            temperature = fit_temperature(said, codes)
            held_out.append(cool(said, temperature))
            tested.append(cool(decode(result["tested"], len(truth)), temperature))
        return cls(codes, truth, np.array(held_out), np.array(tested))

    def right(self) -> Floats:
        """Return the probability of the right label of each row held out, by approach."""
        return np.exp(self.held_out[:, np.arange(len(self.codes)), self.codes]).T


def _most_accurate(said: Said) -> Floats:
    hits = (said.held_out.argmax(axis=2) == said.codes).mean(axis=1)
    return np.eye(len(hits))[hits.argmax()]


def _equal(said: Said) -> Floats:
    return np.full(len(said.tested), 1 / len(said.tested))


def _by_likelihood(said: Said) -> Floats:
    total = np.log(said.right()).sum(axis=0)
    return np.exp(total - np.logaddexp.reduce(total))


def _linear(weights: Callable[[Said], Floats], said: Said) -> Floats:
    return np.log(np.einsum("m,mnk->nk", weights(said), np.exp(said.tested)))


def _geometric(weights: Callable[[Said], Floats], said: Said) -> Floats:
    return cool(np.einsum("m,mnk->nk", weights(said), said.tested), 1.0)


def _blend(said: Said) -> Floats:
    return find_weights(said.right())


WAYS: dict[str, Callable[[Said], Floats]] = {
    "blend": partial(_linear, _blend),
    "blend, geometric": partial(_geometric, _blend),
    "equal weights": partial(_linear, _equal),
    "equal weights, geometric": partial(_geometric, _equal),
    "weights by likelihood": partial(_linear, _by_likelihood),
    "best log loss": partial(_linear, lambda said: choose_best(said.right())),
    "best accuracy": partial(_linear, _most_accurate),
}
"""Log-probabilities of the test rows, of shape (n_rows, n_classes), in each way."""


class Scores(NamedTuple):
    """Of every way or approach: one value for each seed, in which all labels weigh the same."""

    accuracy: dict[str, Floats]
    log_loss: dict[str, Floats]


def score(draws: Sequence[Sequence[RawResult]], names: Sequence[str]) -> Scores:
    """Return the scores of the ways and of each approach alone."""
    said = [Said.read(results) for results in draws]
    found: dict[str, list[Floats]] = {
        name: [one.tested[i] for one in said] for i, name in enumerate(names)
    }
    found |= {name: [way(one) for one in said] for name, way in WAYS.items()}
    return Scores(
        {
            k: np.array([_accuracy(v, s) for v, s in zip(vs, said, strict=True)])
            for k, vs in found.items()
        },
        {
            k: np.array([_log_loss(v, s) for v, s in zip(vs, said, strict=True)])
            for k, vs in found.items()
        },
    )


def _accuracy(scores: Floats, said: Said) -> float:
    hits = scores.argmax(axis=1) == said.truth
    return float(np.mean(answer_weights(said.truth, _SCORING) * hits))


def _log_loss(scores: Floats, said: Said) -> float:
    right = scores[np.arange(len(said.truth)), said.truth]
    return float(-np.mean(answer_weights(said.truth, _SCORING) * right))
