"""Encoded prompts and their labels → adapter weights.

Training reads the same log-likelihoods as prediction, from the same prompts, encoded by the same
function. In addition it follows their gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from instructclf.engine.models.decoder_layers import n_frozen_layers
from instructclf.engine.models.loading import BaseModel
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.encoder_decoder.forward import find_decoder_start
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tuning.adapters import Adapter, AdapterSettings
from instructclf.engine.tuning.backpropagation import Backpropagation
from instructclf.engine.tuning.checkpoints import Checkpoints
from instructclf.engine.tuning.encoder_decoder import EncoderDecoderBackpropagation
from instructclf.engine.tuning.examples import Example, make_examples, shared_ids
from instructclf.engine.tuning.runs import Gradients, Run, TrainingRecord, TrainingSettings
from instructclf.exceptions import FailedRunWarning, warn_caller

_FAILED_LOSS = 0.9
"""A run has failed if its label loss ends above this share of log(n_labels), that of guessing."""
_FASTER = 5
"""Factor of the learning rate that is recommended if the loss was still falling."""


def tune_adapter(
    base: BaseModel,
    encoder: PromptEncoder,
    texts: Sequence[str],
    labels: NDArray[np.intp],
    *,
    adapter: AdapterSettings,
    settings: TrainingSettings,
    seeds: tuple[int, int],
    weights: NDArray[np.float64] | None = None,
    start: dict[str, Tensor] | None = None,
    checkpoints: Path | None = None,
    verbose: int | bool = 0,
) -> tuple[Adapter, TrainingRecord]:
    """Train an adapter on texts and their labels. The base model stays as it is.

    Initial weights and order of the rows follow from the first seed; from the second if that run
    fails. Only ratios of ``weights`` matter, which are 0 or more and not all 0, because losses are
    multiplied by the weights divided by their mean over all texts: with the mean over a batch, the
    gradient of a text would depend on the others in its batch. A weight of 0 leaves a text out.
    ``start`` holds the weights of an earlier adapter to start from. In the folder ``checkpoints``,
    an interrupted run continues and a finished one is read; ``None`` writes and reads nothing. The
    result is an adapter on a new view of the base model, and the record of the run.

    Raises
    ------
    TrainingDivergedError
        If the loss or its gradient is not finite.
    CheckpointError
        If the checkpoint of this run is damaged.
    ScoringError
        If memory runs out with a single text.
    ValueError
        If the model has fewer layers than are to be tuned, or cannot have such an adapter; or if
        ``start`` belongs to another adapter.

    Warns
    -----
    FailedRunWarning
        If the first run learned nothing and another one was started.
    """
    if weights is not None:
        rows = np.flatnonzero(weights)
        texts, labels, weights = [texts[i] for i in rows.tolist()], labels[rows], weights[rows]
        weights = weights / weights.mean()
    examples = make_examples(encoder, texts, labels, loss=settings.loss, weights=weights)
    kept = None
    if checkpoints is not None:
        shared = shared_ids(encoder, examples)
        identity = {"shared": shared, "adapter": adapter, "training": settings}
        kept = Checkpoints(checkpoints, base, examples, start=start, **identity)
    guessing = math.log(len(encoder.verbalizer.classes))
    attempts: list[tuple[Adapter, TrainingRecord]] = []
    for seed in seeds:
        tuned = Adapter(shared_view(base.model), adapter, seed)
        if start is not None:
            tuned.load(start)
        backpropagate = _make_backpropagation(
            base, encoder, tuned.model, examples, adapter=adapter, settings=settings
        )
        run = Run(tuned, examples, settings, backpropagate, seed=seed)
        record = run.train(None if kept is None else kept.of_seed(seed), verbose=verbose)
        attempts.append((tuned, record))
        if record.label_loss_curve[-1] < _FAILED_LOSS * guessing:
            return attempts[-1]
        if seed == seeds[0]:
            warn_caller(_describe_failure(record, settings, guessing), FailedRunWarning)
    return min(attempts, key=lambda attempt: attempt[1].label_loss_curve[-1])


def _make_backpropagation(
    base: BaseModel,
    encoder: PromptEncoder,
    view: Any,
    examples: Sequence[Example],
    *,
    adapter: AdapterSettings,
    settings: TrainingSettings,
) -> Gradients:
    """Return what computes the gradients of an adapter's weights, on its view of the base model."""
    options: dict[str, Any] = {
        "max_batch_tokens": settings.max_batch_tokens,
        "gradient_checkpointing": settings.gradient_checkpointing,
    }
    if base.is_encoder_decoder:
        start = find_decoder_start(base.model, *encoder.framed_label)
        return EncoderDecoderBackpropagation(view, examples, start, **options)
    return Backpropagation(
        view,
        examples,
        shared_ids(encoder, examples),
        n_frozen_layers=n_frozen_layers(view, adapter.n_layers),
        n_epochs=settings.max_epochs,
        **options,
    )


def _describe_failure(record: TrainingRecord, settings: TrainingSettings, guessing: float) -> str:
    """Return the text of the warning that a run has failed, with a recommendation."""
    curve = record.label_loss_curve
    failure = (
        f"Tuning ended with a label loss of {curve[-1]:.3f}, where guessing gives {guessing:.3f}. "
        "It is started again with another seed. "
    )
    if record.stopped_by == "max_epochs" and len(curve) > 1 and curve[-1] < min(curve[:-1]):
        return failure + (
            f"The loss was still falling, from {curve[0]:.3f} at first: if that fails too, try a "
            f"learning_rate above {settings.learning_rate:g}, such as "
            f"{_FASTER * settings.learning_rate:g}, or max_epochs above {settings.max_epochs}."
        )
    return failure + "If that fails too, try more rows, more epochs or another learning_rate."
