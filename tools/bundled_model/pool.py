"""Weights and gradients that several processes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import multiprocessing

if TYPE_CHECKING:
    from torch import nn

N_TOTALS = 8


class Pool:
    """One copy of the weights to read and one sum of gradients to add to.

    Whoever has finished a micro-batch adds its gradients; the optimiser takes what is there. A slow
    process so delays nobody: its gradients count in the step that comes next, a step or two after
    the weights that they were computed from.

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
        """Show everybody the weights of a model."""
        if not self.shared:
            return
        first = 0
        for weight in model.parameters():
            self.weights[first : first + weight.numel()].copy_(weight.flatten())
            first += weight.numel()

    @torch.no_grad()
    def read(self, model: nn.Module) -> None:
        """Give a model the weights shown."""
        first = 0
        for weight in model.parameters():
            weight.copy_(self.weights[first : first + weight.numel()].view_as(weight))
            first += weight.numel()

    @torch.no_grad()
    def add(self, model: nn.Module, totals: torch.Tensor) -> None:
        """Add the gradients of one micro-batch, and what was counted on it."""
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
        """Return the mean gradients by the names of the weights, and start the sum anew."""
        with self.lock:
            mean = self.gradients / int(self.count)
            self.gradients.zero_()
            self.count.zero_()
        sizes = [weight.numel() for weight in model.parameters()]
        parts = mean.split(sizes)
        named = zip(parts, model.named_parameters(), strict=True)
        return {name: part.view_as(weight) for part, (name, weight) in named}
