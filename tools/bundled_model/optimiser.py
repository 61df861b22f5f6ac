"""Muon for the matrices, Adam for the rest, on float32 copies of bfloat16 weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return a matrix with its singular values brought near 1 by Newton-Schulz iterations."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).float()


class Optimiser:
    """Updates float32 copies of the weights and copies them into the bfloat16 model.

    Parameters
    ----------
    model : torch.nn.Module
        A bfloat16 model.
    matrix_rate, other_rate : float
        Peak learning rates of Muon and of Adam.
    decay : float, default=0.02
        Weight decay of the matrices, in units of the learning rate.
    average : float, default=0.99
        Decay of the running average of the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        matrix_rate: float,
        other_rate: float,
        decay: float = 0.02,
        average: float = 0.99,
    ) -> None:
        self.weights = dict(model.named_parameters())
        self.matrix_rate, self.other_rate = matrix_rate, other_rate
        self.decay, self.average = decay, average
        self.steps = 0
        self.master = {name: w.detach().float().clone() for name, w in self.weights.items()}
        self.mean = {name: w.clone() for name, w in self.master.items()}
        self.first = {name: torch.zeros_like(w) for name, w in self.master.items()}
        others = [name for name in self.master if not self._is_matrix(name)]
        self.second = {name: torch.zeros_like(self.master[name]) for name in others}

    def _is_matrix(self, name: str) -> bool:
        return name.startswith("blocks") and "norms" not in name

    @torch.no_grad()
    def step(self, gradients: dict[str, torch.Tensor], scale: float) -> float:
        """Apply float32 gradients, with scaled learning rates, and return their norm."""
        self.steps += 1
        total = sum(float(grad.square().sum()) for grad in gradients.values()) ** 0.5
        clip = min(1.0, 1.0 / (total + 1e-6))
        for name, weight in self.weights.items():
            grad = gradients[name]
            if self._is_matrix(name):
                self._muon(name, grad, scale)
            else:
                self._adam(name, grad * clip, scale)
            weight.copy_(self.master[name])
            self.mean[name].lerp_(self.master[name], 1 - min(self.average, self.steps / 1e2))
        return total

    def _muon(self, name: str, grad: torch.Tensor, scale: float) -> None:
        first = self.first[name].mul_(0.95).add_(grad)
        direction = grad.add(first, alpha=0.95)
        parts = {"query_key_value": 3, "gate_up": 2}.get(name.split(".")[-2], 1)
        update = torch.cat([orthogonalise(part) for part in direction.chunk(parts)])
        rows = update.shape[0] // parts
        rate = self.matrix_rate * scale
        master = self.master[name]
        master.mul_(1 - rate * self.decay)
        master.add_(update, alpha=-rate * max(1.0, rows / update.shape[1]) ** 0.5)

    def _adam(self, name: str, grad: torch.Tensor, scale: float) -> None:
        first = self.first[name].lerp_(grad, 0.1)
        second = self.second[name].lerp_(grad.square(), 0.02)
        first = first / (1 - 0.9**self.steps)
        spread = (second / (1 - 0.98**self.steps)).sqrt().add_(1e-10)
        self.master[name].addcdiv_(first, spread, value=-self.other_rate * scale)

    @torch.no_grad()
    def warm(self, sentiment: np.ndarray) -> None:
        """Add the sentiment of each token to its embedding, along one direction for the probe."""
        embedding = self.master["embedding.weight"]
        direction = torch.randn(embedding.shape[1], generator=torch.Generator().manual_seed(0))
        direction = (direction / direction.norm()).to(embedding)
        size = float(embedding.norm(dim=1).mean())
        amount = torch.from_numpy(sentiment).to(embedding) * (0.5 * size)
        embedding.add_(amount[:, None] * direction)
        self.master["probe"].copy_(2 * direction)
        for name in ("embedding.weight", "probe"):
            self.mean[name].copy_(self.master[name])
            self.weights[name].copy_(self.master[name])

    @torch.no_grad()
    def begin(self, weights: dict[str, torch.Tensor]) -> None:
        """Start from the weights of a finished model."""
        for name, weight in weights.items():
            self.master[name].copy_(weight)
            self.mean[name].copy_(weight)
            self.weights[name].copy_(weight)

    def state(self) -> dict:
        """Return the state that a resumed run needs."""
        names = ("steps", "master", "mean", "first", "second")
        return {name: getattr(self, name) for name in names}

    @torch.no_grad()
    def load(self, state: dict) -> None:
        """Restore the value of `state`."""
        self.steps = state["steps"]
        for name in ("master", "mean", "first", "second"):
            getattr(self, name).update(state[name])
        for name, weight in self.weights.items():
            weight.copy_(self.master[name])
