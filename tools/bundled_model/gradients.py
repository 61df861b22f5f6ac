"""Micro-batches → gradients, summed over this process and its assistants."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import multiprocessing
from torch.nn import functional
from transformers import AutoTokenizer

from tools.bundled_model.batches import Batches, Micro, mix_at
from tools.bundled_model.episodes import Composer
from tools.bundled_model.model import Decoder, Shape

if TYPE_CHECKING:
    import argparse

    from torch import nn

    from tools.bundled_model.units import Units

PROBE = 0.5
"""Weight of the loss of the probe."""
N_TOTALS = 8


class Pool:
    """One copy of the weights to read and one sum of gradients to add to.

    Each process adds its gradients after a micro-batch, and the optimiser takes the sum so far. So
    a slow process delays no other: its gradients count in a later step, one or two steps after the
    weights that they were computed from.

    Parameters
    ----------
    model : torch.nn.Module
        The model whose weights and gradients are shared.
    shared : bool
        Whether other processes take part. If not, the sum stays on the model's device.
    """

    def __init__(self, model: nn.Module, *, shared: bool) -> None:
        size = sum(weight.numel() for weight in model.parameters())
        device = "cpu" if shared else next(model.parameters()).device
        self.weights = torch.zeros(size if shared else 0, dtype=torch.bfloat16).share_memory_()
        self.gradients = torch.zeros(size, device=device)
        if shared:
            self.gradients.share_memory_()
        self.shared = shared
        self.totals = torch.zeros(N_TOTALS, dtype=torch.float64).share_memory_()
        self.count = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.progress = torch.zeros(1, dtype=torch.float64).share_memory_()
        self.lock = multiprocessing.get_context("spawn").Lock()

    @torch.no_grad()
    def write(self, model: nn.Module) -> None:
        """Publish the weights of a model."""
        if not self.shared:
            return
        first = 0
        for weight in model.parameters():
            self.weights[first : first + weight.numel()].copy_(weight.flatten())
            first += weight.numel()

    @torch.no_grad()
    def read(self, model: nn.Module) -> None:
        """Copy the published weights into a model."""
        first = 0
        for weight in model.parameters():
            weight.copy_(self.weights[first : first + weight.numel()].view_as(weight))
            first += weight.numel()

    @torch.no_grad()
    def add(self, model: nn.Module, totals: torch.Tensor) -> None:
        """Add the gradients and the counts of one micro-batch."""
        with self.lock:
            first = 0
            for weight in model.parameters():
                part = self.gradients[first : first + weight.numel()]
                if weight.grad is not None:
                    part.add_(weight.grad.flatten())
                weight.grad = None
                first += weight.numel()
            self.totals += totals
            self.count += 1

    @torch.no_grad()
    def take(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return the mean gradients by the names of the weights, and reset the sum."""
        with self.lock:
            mean = self.gradients / int(self.count)
            self.gradients.zero_()
            self.count.zero_()
        sizes = [weight.numel() for weight in model.parameters()]
        parts = mean.split(sizes)
        named = zip(parts, model.named_parameters(), strict=True)
        return {name: part.view_as(weight) for part, (name, weight) in named}


class Worker:
    """Draws micro-batches and adds their gradients to a pool.

    Parameters
    ----------
    options : argparse.Namespace
        The options of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        tokenizer = AutoTokenizer.from_pretrained(options.work / "tokenizer")
        with (options.work / "units.pkl").open("rb") as file:
            self.units: Units = pickle.load(file)
        language = np.load(options.work / "language.npy", mmap_mode="r")
        composer = Composer(self.units, tokenizer)
        self.batches = Batches(composer, language, tokenizer.pad_token_id, options.micro_tokens)
        self.anew = options.begin is None
        self.shape = Shape(len(tokenizer), options.width, options.layers, options.hidden)
        torch.manual_seed(options.seed)
        self.device = torch.device(options.device)
        self.model = Decoder(self.shape).bfloat16().to(self.device)
        self.forward = torch.compile(self.model, dynamic=False) if options.compile else self.model

    def work(self, pool: Pool, rng: np.random.Generator) -> None:
        """Add the gradients of one micro-batch to a pool."""
        mix = mix_at(float(pool.progress), anew=self.anew)
        micro = self.batches.draw(mix, rng).to(self.device)
        totals = torch.zeros(N_TOTALS, dtype=torch.float64)
        self._loss(micro, totals).backward()
        totals[7] = micro.ids.numel()
        pool.add(self.model, totals)

    def _loss(self, micro: Micro, totals: torch.Tensor) -> torch.Tensor:
        states, halfway = (x.flatten(0, 1) for x in self.forward(micro.ids))
        logits = states[micro.positions] @ self.model.embedding.weight.T
        losses = functional.cross_entropy(logits.float(), micro.targets, reduction="none")
        unsure = micro.doubts.nonzero()[:, 0]
        other = functional.cross_entropy(
            logits[unsure].float(), micro.others[unsure], reduction="none"
        )
        losses = losses.index_add(0, unsure, micro.doubts[unsure] * (other - losses[unsure]))
        _note(micro, logits.detach(), losses.detach(), totals)
        loss = losses @ micro.weights / micro.weights.sum()
        if len(micro.sensed):
            loss = loss + PROBE * self._probe(halfway, micro, totals)
        return loss

    def _probe(self, states: torch.Tensor, micro: Micro, totals: torch.Tensor) -> torch.Tensor:
        guess = (states[micro.sensed] @ self.model.probe).float()
        totals[5] = float(((guess > 0) == (micro.senses > 0.5)).sum())
        totals[6] = len(guess)
        return functional.binary_cross_entropy_with_logits(guess, micro.senses)


def _note(micro: Micro, logits: torch.Tensor, losses: torch.Tensor, totals: torch.Tensor) -> None:
    mark = micro.is_label
    totals[0] = float(losses[~mark].sum())
    totals[1] = float((~mark).sum())
    totals[2] = float(losses[mark].sum())
    totals[3] = float(mark.sum())
    totals[4] = float((logits[mark].argmax(-1) == micro.targets[mark]).sum())


def _assist(options: argparse.Namespace, pool: Pool, number: int, first: int) -> None:
    torch.set_num_threads(1)
    worker = Worker(options)
    draw = first
    while True:
        pool.read(worker.model)
        worker.work(pool, np.random.default_rng([options.seed, number, draw]))
        draw += 1


def start_assistants(options: argparse.Namespace, pool: Pool, first: int) -> list:
    """Start processes that add gradients to a pool until they are ended.

    Their random draws are numbered from ``first``, so that a resumed run does not repeat them.
    """
    context = multiprocessing.get_context("spawn")
    found = []
    for number in range(1, options.workers):
        process = context.Process(target=_assist, args=(options, pool, number, first), daemon=True)
        process.start()
        found.append(process)
    return found
