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
        composer = Composer(self.units, tokenizer)
        self.batches = Batches(composer, language, tokenizer.pad_token_id, options.micro_tokens)
        self.anew = options.begin is None
        self.shape = Shape(len(tokenizer), options.width, options.layers, options.hidden)
        torch.manual_seed(options.seed)
        self.device = torch.device(options.device)
        self.model = Decoder(self.shape).bfloat16().to(self.device)
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
