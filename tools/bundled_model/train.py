"""Token ids → checkpoints of the model, in a run that can be stopped and resumed."""

from __future__ import annotations

import logging
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tools.bundled_model.finished import read_shape, read_state
from tools.bundled_model.gradients import Pool, Worker, start_assistants
from tools.bundled_model.model import grow
from tools.bundled_model.optimiser import Optimiser
from tools.bundled_model.teacher import token_sentiment
from tools.bundled_model.units import POLAR

if TYPE_CHECKING:
    import argparse

LOG = logging.getLogger(__name__)
WARMUP = 60
DECAY = 0.4


def rate_at(progress: float, step: int) -> float:
    """Return the scale of the learning rate: warm-up, plateau, linear decay to 2 %."""
    return min(1.0, (step + 1) / WARMUP, max(0.02, (1 - progress) / DECAY))


class Run:
    """A training run that can be stopped and resumed.

    Parameters
    ----------
    options : argparse.Namespace
        The options of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.worker = Worker(options)
        self.model = self.worker.model
        self.optimiser = Optimiser(self.model, options.matrix_rate, options.other_rate)
        self.pool = Pool(self.model, shared=options.workers > 1)
        self.tokens, self.seconds, self.stopped = 0, 0.0, False
        self.checkpoint = options.work / f"{options.name}.pt"
        if self.checkpoint.exists():
            self._resume()
        elif options.begin:
            self.optimiser.begin(self._finished(options.begin))
        else:
            self.optimiser.warm(self._token_sentiment())

    def _token_sentiment(self) -> np.ndarray:
        """Return how positive each token is in the labelled reviews."""
        units, seed = self.worker.units, self.options.seed
        negative, positive = units.pools[POLAR]
        chosen = np.random.default_rng(seed).permutation(np.concatenate([negative, positive]))
        texts = [units.text(int(i)) for i in chosen]
        labels = np.isin(chosen, positive).astype(int)
        return token_sentiment(texts, labels, self.worker.shape.vocabulary, seed)

    def _finished(self, folder: Path) -> dict[str, torch.Tensor]:
        """Return the weights of a finished model, made as deep as this one."""
        state = {k: v.to(self.options.device) for k, v in read_state(folder).items()}
        layers = read_shape(folder).layers
        return grow(state, self.optimiser.master, layers, self.worker.shape.layers)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=False, map_location=self.options.device)
        self.optimiser.load(state["optimiser"])
        self.tokens, self.seconds = state["tokens"], state["seconds"]
        if self.options.anew and not state.get("anew"):
            self.tokens, self.seconds = 0, 0.0
        LOG.info("resumed at %d tokens", self.tokens)

    def save(self) -> None:
        """Write a checkpoint in one move."""
        state = {
            "shape": asdict(self.worker.shape),
            "anew": self.options.anew,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "optimiser": self.optimiser.state(),
        }
        fresh = self.checkpoint.with_suffix(".tmp")
        torch.save(state, fresh)
        fresh.replace(self.checkpoint)

    def progress(self) -> float:
        """Return the share of the run that is over."""
        parts = [self.tokens / self.options.tokens]
        if self.options.minutes:
            parts.append(self.seconds / 60 / self.options.minutes)
        return min(1.0, max(parts))

    def step(self) -> None:
        """Take one step of the optimiser."""
        start = time.monotonic()
        step, progress = self.optimiser.steps, self.progress()
        self.pool.progress.fill_(progress)
        rng = np.random.default_rng([self.options.seed, step])
        for _ in range(self.options.micros):
            self.worker.work(self.pool, rng)
        norm = self.optimiser.step(self.pool.take(self.model), rate_at(progress, step))
        self.pool.write(self.model)
        self.seconds += time.monotonic() - start
        if step % 20 == 0:
            self._report(step, progress, norm)

    def _report(self, step: int, progress: float, norm: float) -> None:
        with self.pool.lock:
            text, texts, label, labels, right, sensed, senses, tokens = self.pool.totals.tolist()
            self.pool.totals.zero_()
        self.tokens += int(tokens)
        LOG.info(
            "step %d progress %.3f text %.3f label %.3f right %.3f probe %.3f norm %.2f "
            "tokens %.2fM in %.1fm",
            step,
            progress,
            text / max(1, texts),
            label / max(1, labels),
            right / max(1, labels),
            sensed / max(1, senses),
            norm,
            self.tokens / 1e6,
            self.seconds / 60,
        )

    def go(self) -> None:
        """Train to the end, or until the process is asked to terminate."""
        signal.signal(signal.SIGTERM, self._stop)
        self.pool.write(self.model)
        start_assistants(self.options, self.pool, self.optimiser.steps * 8)
        saved = time.monotonic()
        while self.progress() < 1 and not self.stopped:
            self.step()
            if time.monotonic() - saved > self.options.save_every:
                self.save()
                saved = time.monotonic()
        self.save()

    def _stop(self, *_: object) -> None:
        self.stopped = True


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a training run."""
    parser.add_argument("--name", default="model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--hidden", type=int, default=704)
    parser.add_argument("--tokens", type=float, default=60e6)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--anew", action="store_true", help="restart the schedule of a resumed run")
    parser.add_argument(
        "--begin", type=Path, help="folder of a finished model to start from, as deep or less"
    )
    parser.add_argument("--device", default="cpu", help="cpu, or cuda with --workers 1")
    parser.add_argument("--micro-tokens", type=int, default=4096, help="tokens of a micro-batch")
    parser.add_argument(
        "--micros", type=int, default=2, help="micro-batches of this process in a step"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="processes; a run repeats exactly with one only"
    )
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=3e-3)
    parser.add_argument("--save-every", type=float, default=240.0)
    parser.add_argument("--compile", action="store_true")
