"""Encoded prompts and their labels → adapter weights.

Training reads the same log-likelihoods as prediction, from the same prompts, encoded by the same
function; it only follows their gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instructclf.engine.adapters import Adapter, LoraSettings, PeftSettings
from instructclf.engine.backpropagation import Backpropagation, BackpropagationSettings
from instructclf.engine.budgets import is_out_of_memory
from instructclf.engine.decoder_layers import n_frozen_layers
from instructclf.engine.encoding import PromptEncoder
from instructclf.engine.examples import Example, Loss, make_examples, shared_ids
from instructclf.engine.loading import BaseModel
from instructclf.engine.processes import current_processes
from instructclf.engine.progress import Progress
from instructclf.engine.views import shared_view
from instructclf.exceptions import FailedRunWarning, ScoringError, warn_caller

_MAX_GRADIENT_NORM = 1.0
_FAILED_LOSS = 0.9
"""A run whose label loss ends above this share of log(n_labels) is no better than guessing."""


@dataclass(frozen=True)
class TrainingSettings:
    """How an adapter is trained.

    Parameters
    ----------
    learning_rate : float
        The highest learning rate of AdamW.
    max_epochs : int
        The most passes over the rows. The learning rate falls to 0 over all of them.
    batch_size : int
        Rows of one optimiser step.
    warmup_ratio : float
        The share of all steps in which the learning rate rises.
    tol : float
        The least fall of the training loss that counts as an improvement.
    n_iter_no_change : int
        After how many epochs without an improvement training stops.
    target_loss : float
        The label loss at which training stops.
    max_batch_tokens : int or None
        How many tokens go through the model at once. It decides speed and memory only.
    gradient_checkpointing : bool, default=False
        Whether layers run again in the backward pass. It decides speed and memory only.
    loss : {"lm", "label", "lm+label"}, default="lm+label"
        What is minimised.
    """

    learning_rate: float
    max_epochs: int
    batch_size: int
    warmup_ratio: float
    tol: float
    n_iter_no_change: int
    target_loss: float
    max_batch_tokens: int | None
    gradient_checkpointing: bool = False
    loss: Loss = "lm+label"


@dataclass
class TrainingRecord:
    """What happened in a run.

    Parameters
    ----------
    loss_curve : list of float
        The mean training loss of each epoch, weighted where rows have weights.
    label_loss_curve : list of float
        How well the labels are told apart: the second result of ``response_losses``, as a mean.
    stopped_by : str
        ``"max_epochs"``, ``"n_iter_no_change"`` or ``"target_loss"``.
    """

    loss_curve: list[float] = field(default_factory=list)
    label_loss_curve: list[float] = field(default_factory=list)
    stopped_by: str = "max_epochs"


def tune_adapter(
    base: BaseModel,
    encoder: PromptEncoder,
    texts: Sequence[str],
    labels: NDArray[np.intp],
    *,
    lora: LoraSettings | PeftSettings,
    settings: TrainingSettings,
    seeds: tuple[int, int],
    weights: NDArray[np.float64] | None = None,
    start: dict[str, Tensor] | None = None,
    verbose: int | bool = 0,
) -> tuple[Adapter, TrainingRecord]:
    """Train an adapter on texts and their labels. The base model stays as it is.

    Parameters
    ----------
    base : BaseModel
        The model.
    encoder : PromptEncoder
        Turns texts into prompts.
    texts : sequence of str
        The texts.
    labels : ndarray of shape (n_texts,)
        The position of each text's label.
    lora : LoraSettings or PeftSettings
        What the adapter looks like.
    settings : TrainingSettings
        How it is trained.
    seeds : tuple of (int, int)
        Initial weights and order of the rows follow from the first; from the second if that run
        fails.
    weights : ndarray of shape (n_texts,) or None, default=None
        How much each text counts, not negative and not all 0. Only their ratios matter: losses are
        multiplied by the weights divided by the weights' mean, so that a batch's gradient does not
        depend on what else is in it. A text of weight 0 is left out.
    start : dict of str to Tensor or None, default=None
        The weights of an earlier adapter to begin with. ``None`` for new ones.
    verbose : int or bool, default=0
        Whether to show a progress bar.

    Returns
    -------
    adapter : Adapter
        The trained adapter on a view of its own.
    record : TrainingRecord
        What happened.

    Raises
    ------
    ScoringError
        If the loss is not finite.
    ValueError
        If the model has fewer layers than are to be tuned, cannot have such an adapter, or
        ``start`` is of another one.

    Warns
    -----
    FailedRunWarning
        If the first run learned nothing and was restarted.
    """
    if weights is not None:
        rows = np.flatnonzero(weights)
        texts, labels, weights = [texts[i] for i in rows.tolist()], labels[rows], weights[rows]
        weights = weights / weights.mean()
    examples = make_examples(encoder, texts, labels, loss=settings.loss, weights=weights)
    shared = shared_ids(encoder, examples)
    guessing = math.log(len(encoder.verbalizer.classes))
    attempts: list[tuple[Adapter, TrainingRecord]] = []
    for seed in seeds:
        adapter = Adapter(shared_view(base.model), lora, seed)
        if start is not None:
            adapter.load(start)
        backpropagate = Backpropagation(
            adapter.model,
            examples,
            shared,
            BackpropagationSettings(
                n_frozen_layers=n_frozen_layers(adapter.model, lora.n_layers),
                n_epochs=settings.max_epochs,
                max_batch_tokens=settings.max_batch_tokens,
                gradient_checkpointing=settings.gradient_checkpointing,
            ),
        )
        run = _Run(adapter, examples, settings, backpropagate, seed=seed)
        attempts.append((adapter, run.train(verbose=verbose)))
        final = attempts[-1][1].label_loss_curve[-1]
        if final < _FAILED_LOSS * guessing:
            return attempts[-1]
        if seed == seeds[0]:
            warn_caller(
                f"Tuning ended with a label loss of {final:.3f}, where guessing gives "
                f"{guessing:.3f}. It starts once more with another seed. If that fails too, try "
                "more rows, more epochs or another learning_rate.",
                FailedRunWarning,
            )
    return min(attempts, key=lambda attempt: attempt[1].label_loss_curve[-1])


class _Run:
    """One training run: an adapter, its optimiser, and the rows."""

    def __init__(
        self,
        adapter: Adapter,
        examples: Sequence[Example],
        settings: TrainingSettings,
        backpropagate: Backpropagation,
        *,
        seed: int,
    ) -> None:
        self._adapter = adapter
        self._examples = examples
        self._settings = settings
        self._backpropagate = backpropagate
        self._seed = seed
        self._processes = current_processes()
        self._rng = np.random.RandomState(seed)
        weight = adapter.model.get_input_embeddings().weight
        self._weights = adapter.parameters
        self._optimiser = torch.optim.AdamW(
            self._weights,
            lr=settings.learning_rate,
            weight_decay=0.0,
            fused=weight.device.type in {"cpu", "cuda"},  # one call for all weights
        )
        steps = math.ceil(len(examples) / settings.batch_size) * settings.max_epochs
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, _linear_schedule(steps, settings.warmup_ratio)
        )
        # Gradients of a float16 model vanish below 6e-8 unless the loss is scaled up.
        self._scaler = torch.amp.GradScaler(
            weight.device.type, enabled=weight.dtype == torch.float16
        )
        # It sets itself up with the first loss, which a process may have no row for.
        self._scaler.scale(weight.new_zeros(()))

    def train(self, *, verbose: int | bool) -> TrainingRecord:
        record = TrainingRecord()
        progress = Progress("Tuning", self._settings.max_epochs, verbose=verbose)
        own_seed = self._seed + self._processes.rank  # other rows are to drop other inputs
        with self._backpropagate.prepared(), self._adapter.dropping_out(own_seed), progress:
            for _ in range(self._settings.max_epochs):
                loss, label_loss = self._epoch()
                record.loss_curve.append(loss)
                record.label_loss_curve.append(label_loss)
                progress.advance(note=f"loss {loss:.3f}")
                reason = self._reason_to_stop(record)
                if reason:
                    record.stopped_by = reason
                    break
        self._processes.copy_from_first(self._weights)
        return record

    def _epoch(self) -> tuple[float, float]:
        """Take one pass over the rows in random order. Return the two weighted mean losses."""
        order = self._rng.permutation(len(self._examples))
        sums = np.zeros(2)
        for start in range(0, len(order), self._settings.batch_size):
            batch = [self._examples[i] for i in order[start : start + self._settings.batch_size]]
            sums += self._step(batch)
        loss, label_loss = sums / len(order)
        return float(loss), float(label_loss)

    def _step(self, batch: Sequence[Example]) -> NDArray[np.float64]:
        """Take one optimiser step. Return the weighted sums of both losses over the batch."""
        own = batch[self._processes.own_rows]
        sums = self._processes.sum(self._find_gradients(own, len(batch)).cpu().double().numpy())
        self._check_finite(sums[0])
        self._processes.sum_gradients(self._weights)
        self._scaler.unscale_(self._optimiser)
        torch.nn.utils.clip_grad_norm_(self._weights, _MAX_GRADIENT_NORM)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._schedule.step()
        self._optimiser.zero_grad(set_to_none=True)
        return sums

    def _find_gradients(self, batch: Sequence[Example], n_rows: int) -> Tensor:
        """Find the gradients of a batch, or of a part of one with so many rows.

        Where memory runs out, begin again in smaller parts.
        """
        while True:
            try:
                return self._backpropagate(batch, self._scaler.scale, n_rows)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._optimiser.zero_grad(set_to_none=True)
                self._backpropagate.take_less(batch, error)

    def _check_finite(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        rate = self._schedule.get_last_lr()[0]
        msg = (
            f"The training loss became {loss} at step {self._schedule.last_epoch} with a "
            f"learning rate of {rate:.2g}. Use a lower learning_rate, or dtype='float32'."
        )
        raise ScoringError(msg)

    def _reason_to_stop(self, record: TrainingRecord) -> str | None:
        if record.label_loss_curve[-1] <= self._settings.target_loss:
            return "target_loss"
        patience = self._settings.n_iter_no_change
        if len(record.loss_curve) <= patience:
            return None
        before = min(record.loss_curve[:-patience])
        improved = min(record.loss_curve[-patience:]) < before - self._settings.tol
        return None if improved else "n_iter_no_change"


def _linear_schedule(n_steps: int, warmup_ratio: float) -> Any:
    """Return the factor of the learning rate at each step: up to 1, then down to 0."""
    n_warmup = math.ceil(n_steps * warmup_ratio)

    def factor(step: int) -> float:
        if step < n_warmup:
            return (step + 1) / n_warmup
        return max(0.0, (n_steps - step) / max(1, n_steps - n_warmup))

    return factor
