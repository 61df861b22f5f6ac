"""Many texts → log-probabilities, in chunks that a folder keeps, so that none is scored twice."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    validate_parameter_constraints,
)
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.base import PromptedClassifier
from instructclf.classifiers.plain import to_plain
from instructclf.classifiers.seeding import LabelScores
from instructclf.engine.models.fingerprints import take_print
from instructclf.engine.running.processes import sharing_work
from instructclf.engine.running.progress import Progress
from instructclf.engine.tuning.digests import digest
from instructclf.exceptions import CheckpointError
from instructclf.inputs.texts import check_texts
from instructclf.storage import read_record, write_record

_logger = logging.getLogger(__name__)

_REMEDY = "Delete it, and its texts are scored anew."
_DECISIVE = ("classes_", "label_words_", "max_length_", "prompt_", "calibration_")
"""What a prediction follows from, beside adapter, base model and shots for each text."""


def predict_in_chunks(
    classifier: Any, X: Any, folder: str | PathLike[str], *, chunk_size: int = 4096
) -> NDArray[np.float64]:
    """Return each label's log-probability, and go on where an earlier call was cut off.

    Each chunk of texts is written into a folder as soon as it is scored. A call with the same
    classifier, texts and chunk size takes what is there and scores the rest, so that a crash costs
    one chunk at most.

    Parameters
    ----------
    classifier : PromptClassifier or InstructionTunedClassifier
        A fitted classifier. Its ``verbose`` says whether to show a progress bar.
    X : array-like of str of shape (n_texts,)
        The texts.
    folder : str or path
        Where chunks are kept. It is made where there is none, and may be deleted at any time. Of
        several processes that share the work only the first reads and writes it.
    chunk_size : int, default=4096
        How many texts make a chunk.

    Returns
    -------
    ndarray of shape (n_texts, n_classes)
        What ``classifier.predict_log_proba(X)`` returns, but for rounding where texts are batched
        with others.

    Raises
    ------
    NotFittedError
        If the classifier is not fitted.
    CheckpointError
        If the folder holds predictions of other texts, of another classifier or in chunks of
        another size, or if a chunk is damaged.
    InvalidParameterError
        If the classifier is none of this package, or has ``calibration="batch"``, whose predictions
        depend on all texts together; or if ``chunk_size`` is less than 1.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from instructclf import PromptClassifier, predict_in_chunks
    >>> classifier = PromptClassifier(n_shots=2, random_state=0)
    >>> classifier = classifier.fit(["Works well.", "Broke at once."], ["positive", "negative"])
    >>> with TemporaryDirectory() as folder:
    ...     predict_in_chunks(classifier, ["Fine.", "Bad.", "Good."], folder, chunk_size=2).shape
    (3, 2)
    """
    return score_in_chunks(classifier, X, folder, chunk_size=chunk_size).log_probabilities


def score_in_chunks(
    classifier: Any, X: Any, folder: str | PathLike[str], *, chunk_size: int
) -> LabelScores:
    """Return all that `predict_in_chunks` finds out about labels, in the same way.

    Parameters
    ----------
    classifier : PromptClassifier or InstructionTunedClassifier
        A fitted classifier.
    X : array-like of str of shape (n_texts,)
        The texts.
    folder : str or path
        Where chunks are kept.
    chunk_size : int
        How many texts make a chunk.

    Returns
    -------
    LabelScores
        Before and after calibration.
    """
    _check_parameters(classifier, chunk_size)
    texts = check_texts(X)
    work = {
        "classifier": digest(_describe_all(classifier)),
        "texts": digest(texts),
        "chunk_size": int(chunk_size),
    }
    starts = range(0, len(texts), chunk_size)
    paths = [Path(folder) / f"chunk-{number:06d}.safetensors" for number in range(len(starts))]
    with (
        sharing_work(classifier.distributed) as processes,
        Progress("Chunks", len(paths), verbose=classifier.verbose) as progress,
    ):
        # One process reads and writes; what is to be scored, all score together.
        done = processes.from_first(_read_all(Path(folder), work) if processes.rank == 0 else {})
        progress.advance(len(done))
        for path, start in zip(paths, starts, strict=True):
            if path in done:
                continue
            chunk = texts[start : start + chunk_size]
            done[path] = classifier._score(chunk)  # noqa: SLF001
            if processes.rank == 0:
                write_record(path, work, done[path]._asdict())
            progress.advance()
            _logger.info("Scored the texts %d to %d", start, start + len(chunk) - 1)
    parts = [done[path] for path in paths]
    return LabelScores(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _check_parameters(classifier: Any, chunk_size: Any) -> None:
    if not isinstance(classifier, PromptedClassifier):
        msg = (
            "The 'classifier' parameter of predict_in_chunks must be a PromptClassifier or an "
            f"InstructionTunedClassifier. Got {classifier!r} instead."
        )
        raise InvalidParameterError(msg)
    validate_parameter_constraints(
        {"chunk_size": [Interval(Integral, 1, None, closed="left")]},
        {"chunk_size": chunk_size},
        caller_name="predict_in_chunks",
    )
    check_is_fitted(classifier)
    if classifier.calibration == "batch":
        msg = (
            "calibration='batch' reads all texts together, so they cannot be predicted in chunks. "
            "Fit with calibration='auto', or call predict_log_proba(X)."
        )
        raise InvalidParameterError(msg)


def _read_all(folder: Path, work: Mapping[str, Any]) -> dict[Path, LabelScores]:
    return {path: _read(path, work) for path in sorted(folder.glob("chunk-*.safetensors"))}


def _read(path: Path, work: Mapping[str, Any]) -> LabelScores:
    found, arrays = read_record(path, _REMEDY)
    meanings = {
        "classifier": "of another classifier",
        "texts": "of other texts",
        "chunk_size": f"in chunks of {found.get('chunk_size')} texts",
    }
    for name, meaning in meanings.items():
        if found.get(name) != work[name]:
            msg = (
                f"{path} holds predictions {meaning}. Give another folder than "
                f"{str(path.parent)!r}, or remove it."
            )
            raise CheckpointError(msg)
    return LabelScores(**arrays)


def _describe_all(classifier: Any) -> Any:
    return [take_print(classifier._get_fitted_base()), _describe(classifier)]  # noqa: SLF001


def _describe(classifier: Any) -> Any:
    """Return all that a prediction follows from, the base model aside."""
    found = {
        name: to_plain(getattr(classifier, name), name)
        for name in _DECISIVE
        if hasattr(classifier, name)
    }
    shots = getattr(classifier, "_own_shots", None)
    if shots is not None:  # chosen for each text
        rows = (classifier.sampler, shots.solved, shots.codes, shots.n_shots, shots.seed)
        found["shots"] = to_plain(rows, "sampler")
    members = [_describe(member) for member in getattr(classifier, "estimators_", [])]
    return [found, getattr(classifier, "adapter_", None), members]
