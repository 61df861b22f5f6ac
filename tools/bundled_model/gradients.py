"""Losses of micro-batches and their gradients, in this process or in one beside it."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import torch
from batches import Batches, Micro, mix_at
from episodes import Composer
from model import Decoder, Shape
from pool import N_TOTALS, Pool
from torch import multiprocessing
from torch.nn import functional
from transformers import AutoTokenizer

if TYPE_CHECKING:
    import argparse

    from units import Units

PROBE = 0.5


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
        self.batches = Batches(Composer(self.units, tokenizer), language, tokenizer.pad_token_id)
        self.shape = Shape(len(tokenizer), options.width, options.layers, options.hidden)
        torch.manual_seed(options.seed)
        self.model = Decoder(self.shape).bfloat16()
        self.forward = torch.compile(self.model, dynamic=False) if options.compile else self.model

    def work(self, pool: Pool, rng: np.random.Generator) -> None:
        """Add the gradients of one micro-batch to a pool.

        Parameters
        ----------
        pool : Pool
            The pool.
        rng : numpy.random.Generator
            The source of chance.
        """
        micro = self.batches.draw(mix_at(float(pool.progress)), rng)
        totals = torch.zeros(N_TOTALS, dtype=torch.float64)
        self._loss(micro, totals).backward()
        totals[7] = micro.ids.numel()
        pool.add(self.model, totals)

    def _loss(self, micro: Micro, totals: torch.Tensor) -> torch.Tensor:
        states = self.forward(micro.ids).flatten(0, 1)
        logits = states[micro.positions] @ self.model.embedding.weight.T
        losses = functional.cross_entropy(logits.float(), micro.targets, reduction="none")
        _note(micro, logits.detach(), losses.detach(), totals)
        loss = losses @ micro.weights / micro.weights.sum()
        if len(micro.sensed):
            loss = loss + PROBE * self._probe(states, micro, totals)
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

    Parameters
    ----------
    options : argparse.Namespace
        The options of the command line.
    pool : Pool
        The pool.
    first : int
        The number of their first draw.

    Returns
    -------
    list of multiprocessing.Process
        The processes.
    """
    context = multiprocessing.get_context("spawn")
    found = []
    for number in range(1, options.workers):
        process = context.Process(target=_assist, args=(options, pool, number, first), daemon=True)
        process.start()
        found.append(process)
    return found
