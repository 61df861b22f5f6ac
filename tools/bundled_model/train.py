"""Train the bundled model: plain reviews and solved prompts, then mostly solved prompts."""

from __future__ import annotations

import argparse
import logging
import pickle
import signal
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from batches import EARLY, LATE, Batches, Micro
from episodes import Composer
from model import Decoder, Shape
from muon import Optimiser
from torch.nn import functional
from transformers import AutoTokenizer
from warm import token_sentiment

LOG = logging.getLogger(__name__)
WARMUP = 60
TURN = 0.45
DECAY = 0.4
PROBE = 0.5


def rate_at(progress: float, step: int) -> float:
    """Return the learning rate's scale: a ramp, a plateau, a line down to nearly nothing.

    Parameters
    ----------
    progress : float
        How much of the run is over, 0 to 1.
    step : int
        Steps taken.

    Returns
    -------
    float
        The scale.
    """
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
        work = options.work
        tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
        with (work / "units.pkl").open("rb") as file:
            units = pickle.load(file)
        language = np.load(work / "language.npy")
        self.batches = Batches(Composer(units, tokenizer), language, tokenizer.pad_token_id)
        self.shape = Shape(len(tokenizer), options.width, options.layers, options.hidden)
        torch.manual_seed(options.seed)
        self.model = Decoder(self.shape).bfloat16()
        self.optimiser = Optimiser(self.model, options.matrix_rate, options.other_rate)
        self.forward = torch.compile(self.model, dynamic=False) if options.compile else self.model
        self.tokens, self.seconds, self.stopped = 0, 0.0, False
        self.totals = np.zeros(7)
        self.checkpoint = work / f"{options.name}.pt"
        if self.checkpoint.exists():
            self._resume()
        else:
            self.optimiser.warm(token_sentiment(units, self.shape.vocabulary, options.seed))

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=False)
        self.optimiser.load(state["optimiser"])
        self.tokens, self.seconds = state["tokens"], state["seconds"]
        LOG.info("resumed at %d tokens", self.tokens)

    def save(self) -> None:
        """Write a checkpoint in one move."""
        state = {
            "shape": asdict(self.shape),
            "tokens": self.tokens,
            "seconds": self.seconds,
            "optimiser": self.optimiser.state(),
        }
        fresh = self.checkpoint.with_suffix(".tmp")
        torch.save(state, fresh)
        fresh.replace(self.checkpoint)

    def progress(self) -> float:
        """Return how much of the run is over."""
        parts = [self.tokens / self.options.tokens]
        if self.options.minutes:
            parts.append(self.seconds / 60 / self.options.minutes)
        return min(1.0, max(parts))

    def backward(self, micro: Micro, share: float) -> None:
        """Add the gradients of a micro-batch."""
        states = self.forward(micro.ids).flatten(0, 1)
        logits = states[micro.positions] @ self.model.embedding.weight.T
        losses = functional.cross_entropy(logits.float(), micro.targets, reduction="none")
        loss = losses @ micro.weights / micro.weights.sum()
        if len(micro.sensed):
            loss = loss + PROBE * self._probe(states, micro)
        (loss * share).backward()
        self._note(micro, logits.detach(), losses.detach())

    def _probe(self, states: torch.Tensor, micro: Micro) -> torch.Tensor:
        guess = (states[micro.sensed] @ self.model.probe).float()
        self.totals[5:] += [
            float(((guess > 0) == (micro.senses > 0)).sum()),
            len(guess),
        ]
        return functional.binary_cross_entropy_with_logits(guess, micro.senses)

    def _note(self, micro: Micro, logits: torch.Tensor, losses: torch.Tensor) -> None:
        mark = micro.is_label
        right = logits[mark].argmax(-1) == micro.targets[mark]
        self.totals[:5] += [
            float(losses[~mark].sum()),
            float((~mark).sum()),
            float(losses[mark].sum()),
            float(mark.sum()),
            float(right.sum()),
        ]

    def step(self) -> None:
        """Take one step of the optimiser."""
        start = time.monotonic()
        step, progress = self.optimiser.steps, self.progress()
        rng = np.random.default_rng([self.options.seed, step])
        mix = EARLY if progress < TURN else LATE
        for _ in range(self.options.micros):
            micro = self.batches.draw(mix, rng)
            self.backward(micro, 1 / self.options.micros)
            self.tokens += micro.ids.numel()
        norm = self.optimiser.step(rate_at(progress, step))
        self.seconds += time.monotonic() - start
        if step % 20 == 0:
            self._report(step, progress, norm)

    def _report(self, step: int, progress: float, norm: float) -> None:
        text, texts, label, labels, right, sensed, senses = self.totals
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
        self.totals[:] = 0

    def go(self) -> None:
        """Train to the end, or until told to terminate."""
        signal.signal(signal.SIGTERM, self._stop)
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
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--hidden", type=int, default=704)
    parser.add_argument("--tokens", type=float, default=60e6)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--micros", type=int, default=4)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=3e-3)
    parser.add_argument("--save-every", type=float, default=240.0)
    parser.add_argument("--compile", action="store_true")


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    add_options(parser)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(2)
    Run(options).go()


if __name__ == "__main__":
    main()
