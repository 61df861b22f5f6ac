"""Examples → one training run: epochs in random order, until the loss is low or stops falling."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instructclf.engine.running.processes import current_processes
from instructclf.engine.running.progress import Progress
from instructclf.engine.scoring.budgets import is_out_of_memory
from instructclf.engine.tuning.adapters import Adapter
from instructclf.engine.tuning.checkpoints import Checkpoint, State
from instructclf.engine.tuning.examples import Example, Loss
from instructclf.engine.tuning.optimiser import Optimiser
from instructclf.exceptions import ScoringError

_logger = logging.getLogger(__name__)

_GENERATOR = "generator."
"""How the names of generators' states begin in a checkpoint."""


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
        The smallest decrease of the training loss that counts as an improvement.
    n_iter_no_change : int
        Training stops after so many epochs without an improvement.
    target_loss : float
        The label loss at which training stops.
    max_batch_tokens : int or None
        How many tokens go through the model at once. This changes speed and memory only.
    gradient_checkpointing : bool, default=False
        Whether layers run again in the backward pass. This changes speed and memory only.
    loss : {"lm", "label", "lm+label"}, default="label"
        The loss to minimise.
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
    loss: Loss = "label"


@dataclass
class TrainingRecord:
    """The course of a run.

    Parameters
    ----------
    loss_curve : list of float
        The mean training loss of each epoch, weighted if rows have weights.
    label_loss_curve : list of float
        The same mean of the label loss: see ``response_losses``.
    stopped_by : str
        ``"max_epochs"``, ``"n_iter_no_change"`` or ``"target_loss"``.
    """

    loss_curve: list[float] = field(default_factory=list)
    label_loss_curve: list[float] = field(default_factory=list)
    stopped_by: str = "max_epochs"


class Gradients(Protocol):
    """Computes the gradients of batches, as `Backpropagation` says of each method."""

    def prepared(self, earlier: Mapping[str, Any] | None = None) -> AbstractContextManager[None]:
        """Prepare the model for calls inside the block."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what decides the rounding of sums."""
        ...

    def __call__(
        self,
        batch: Sequence[Example],
        scale: Callable[[Tensor], Tensor] | None = None,
        n_rows: int | None = None,
    ) -> Tensor:
        """Add the gradient of a batch to those of the weights, and return sums of its losses."""
        ...

    def take_less(self, batch: Sequence[Example], error: BaseException) -> None:
        """Send fewer tokens through the model at once."""
        ...


class Run:
    """One training run: an adapter, its optimiser, and the rows.

    Parameters
    ----------
    adapter : Adapter
        The adapter to train.
    examples : sequence of Example
        The rows to learn from.
    settings : TrainingSettings
        How it is trained.
    backpropagate : Gradients
        Computes the gradients of the adapter's weights.
    seed : int
        Decides the order of the rows, and dropout.
    """

    def __init__(
        self,
        adapter: Adapter,
        examples: Sequence[Example],
        settings: TrainingSettings,
        backpropagate: Gradients,
        *,
        seed: int,
    ) -> None:
        self._adapter = adapter
        self._examples = examples
        self._settings = settings
        self._backpropagate = backpropagate
        self._seed = seed
        self._processes = current_processes()
        self._record = TrainingRecord()
        self._n_batches = math.ceil(len(examples) / settings.batch_size)
        self._sums = np.zeros(2)  # of both losses in the current epoch
        self._optimiser = Optimiser(
            adapter.parameters,
            learning_rate=settings.learning_rate,
            n_steps=self._n_batches * settings.max_epochs,
            warmup_ratio=settings.warmup_ratio,
            model_dtype=adapter.model.get_input_embeddings().weight.dtype,
        )

    def train(self, checkpoint: Checkpoint | None = None, *, verbose: int | bool) -> TrainingRecord:
        """Train the adapter. Continue from a checkpoint if the run was interrupted.

        ``checkpoint=None`` reads and writes nothing. The record covers the whole run, before and
        after an interruption.
        """
        saved = self._read(checkpoint)
        if saved is not None and saved[0]["is_finished"]:
            self._restore(saved)
            return self._record
        written = checkpoint if self._processes.rank == 0 else None  # all processes read its file
        progress = Progress("Tuning", self._settings.max_epochs, verbose=verbose)
        computing = None if saved is None else saved[0]["computing"]
        with (
            _explaining_half_precision(),
            self._backpropagate.prepared(computing),
            self._adapter.dropping_out(self._seed + self._processes.rank),  # each has other rows
            progress,
        ):
            # Restored only now: `prepared` tries strategies with initial weights, as it did before
            # the interruption, so that it chooses the same ones.
            if saved is not None:
                self._restore(saved)
                progress.advance(len(self._record.loss_curve))
            self._run_epochs(written, progress)
        self._processes.copy_from_first(self._adapter.parameters)
        if written is not None:
            written.write(self._state(is_finished=True))
        return self._record

    def _read(self, checkpoint: Checkpoint | None) -> State | None:
        """Return the saved state of this run, and check that all processes have found the same."""
        saved = None if checkpoint is None else checkpoint.read()
        n_done = 0 if saved is None else saved[0]["optimiser"]["n_done"]
        self._processes.check_alike([n_done], "checkpoints")
        return saved

    def _run_epochs(self, checkpoint: Checkpoint | None, progress: Progress) -> None:
        rng = np.random.RandomState(self._seed)
        record = self._record
        for epoch in range(self._settings.max_epochs):
            order = rng.permutation(len(self._examples))
            if epoch < len(record.loss_curve):  # done before the interruption
                continue
            loss, label_loss = self._run_epoch(order, checkpoint)
            record.loss_curve.append(loss)
            record.label_loss_curve.append(label_loss)
            progress.advance(note=f"loss {loss:.3f}")
            reason = self._reason_to_stop()
            if reason:
                record.stopped_by = reason
                break

    def _run_epoch(
        self, order: NDArray[np.intp], checkpoint: Checkpoint | None
    ) -> tuple[float, float]:
        """Take the remaining steps of an epoch. Return its two weighted mean losses."""
        size = self._settings.batch_size
        n_done = self._optimiser.n_done - len(self._record.loss_curve) * self._n_batches
        for start in range(n_done * size, len(order), size):
            batch = [self._examples[i] for i in order[start : start + size]]
            self._sums += self._step(batch)
            if checkpoint is not None:
                checkpoint.offer(self._state)
        loss, label_loss = self._sums / len(order)
        self._sums = np.zeros(2)
        return float(loss), float(label_loss)

    def _step(self, batch: Sequence[Example]) -> list[float]:
        """Take one optimiser step. If gradients overflow, compute them again at a smaller scale."""
        sums = None
        while sums is None:
            part = batch[self._processes.local_rows]
            losses = self._sum_over_processes(self._compute_gradients(part, len(batch)))
            sums = self._optimiser.step(losses)
        return sums

    def _sum_over_processes(self, losses: Tensor) -> Tensor:
        """Sum gradients and losses over all processes, each of which has a part of the batch."""
        if self._processes.size == 1:
            return losses
        self._processes.sum_gradients(self._adapter.parameters)
        sums = self._processes.sum(losses.double().cpu().numpy())
        return torch.from_numpy(sums).to(losses.device)

    def _compute_gradients(self, batch: Sequence[Example], n_rows: int) -> Tensor:
        """Compute gradients of a batch, or of a process's part of a batch with ``n_rows`` rows.

        If memory runs out, start again in smaller parts.
        """
        while True:
            try:
                return self._backpropagate(batch, self._optimiser.scale, n_rows)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._optimiser.drop_gradients()
                self._backpropagate.take_less(batch, error)

    def _reason_to_stop(self) -> str | None:
        curve, settings = self._record.loss_curve, self._settings
        if self._record.label_loss_curve[-1] <= settings.target_loss:
            return "target_loss"
        patience = settings.n_iter_no_change
        if len(curve) <= patience:
            return None
        improved = min(curve[-patience:]) < min(curve[:-patience]) - settings.tol
        return None if improved else "n_iter_no_change"

    def _state(self, *, is_finished: bool = False) -> State:
        """Return all that the rest of the run depends on; of a finished run, only its results."""
        values, tensors = self._optimiser.state()
        if is_finished:
            tensors = {name: t for name, t in tensors.items() if name.startswith("weight.")}
        else:
            generators = self._adapter.generator_states()
            tensors |= {_GENERATOR + name: state for name, state in generators.items()}
        return {
            "is_finished": is_finished,
            "record": asdict(self._record),
            "sums": self._sums.tolist(),
            "optimiser": values,
            "computing": self._backpropagate.state(),
        }, tensors

    def _restore(self, saved: State) -> None:
        values, tensors = saved
        names = [name for name in tensors if name.startswith(_GENERATOR)]
        generators = {name.removeprefix(_GENERATOR): tensors.pop(name) for name in names}
        self._record = TrainingRecord(**values["record"])
        self._sums = np.array(values["sums"])
        self._optimiser.restore(values["optimiser"], tensors)
        self._adapter.set_generator_states(generators)
        _logger.info("Continuing after %d steps", self._optimiser.n_done)


@contextmanager
def _explaining_half_precision() -> Iterator[None]:
    """Turn torch's error for a missing float16 operation into one with a remedy."""
    try:
        yield
    except RuntimeError as error:
        if "not implemented for 'Half'" not in str(error):
            raise
        msg = (
            "This device cannot tune this model in float16. Use dtype='bfloat16' or "
            f"dtype='float32' in ModelOptions. torch said: {error}"
        )
        raise ScoringError(msg) from error
