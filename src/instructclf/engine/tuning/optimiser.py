"""Gradients → a step: learning rate, loss scaling, clipping, and an error if training diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from instructclf.exceptions import TrainingDivergedError

_MAX_GRADIENT_NORM = 1.0
_LEAST_SCALE = 1.0
"""At this scale losses are not scaled up, so an overflow has another cause."""


class Optimiser:
    """AdamW with a learning rate that rises and falls linearly.

    Parameters
    ----------
    weights : list of torch.nn.Parameter
        The weights to train.
    learning_rate : float
        The highest learning rate.
    n_steps : int
        The most steps. After all of them the learning rate is 0.
    warmup_ratio : float
        The share of these steps in which the learning rate rises.
    model_dtype : torch.dtype
        The type that the model computes in. In float16, gradients below 6e-8 vanish unless the loss
        is scaled up. They are scaled down again before a step.
    """

    def __init__(
        self,
        weights: list[nn.Parameter],
        *,
        learning_rate: float,
        n_steps: int,
        warmup_ratio: float,
        model_dtype: torch.dtype,
    ) -> None:
        self.n_done = 0
        self._weights = weights
        self._learning_rate = learning_rate
        self._n_steps = n_steps
        self._warmup_ratio = warmup_ratio
        device = weights[0].device.type
        self._adamw = torch.optim.AdamW(
            weights,
            lr=learning_rate,
            weight_decay=0.0,
            fused=device in {"cpu", "cuda"},  # one call for all weights
        )
        self._scaler = torch.amp.GradScaler(device, enabled=model_dtype == torch.float16)
        # The scaler is initialised by the first loss, which a process without rows of the first
        # batch does not compute.
        self._scaler.scale(weights[0].new_zeros(()))

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss, scaled up if the model computes in float16."""
        return self._scaler.scale(loss)

    def step(self, losses: Tensor) -> list[float] | None:
        """Take a step with the gradients so far, and drop them.

        If they overflowed because the loss was scaled up too far, no step is taken, and the next
        loss is scaled by half as much. A run may have few steps, so the caller should compute the
        gradients of the same batch again rather than go on to the next one. The result is ``None``
        then, and the finite losses otherwise, of shape (n_losses,). Gradients belong to the first.

        Raises
        ------
        TrainingDivergedError
            If the loss is not finite, or if its gradient is not even without scaling.
        """
        self._scaler.unscale_(self._adamw)
        norm = nn.utils.clip_grad_norm_(self._weights, _MAX_GRADIENT_NORM)
        # One transfer from the device, which waits for all work there.
        *values, length = torch.cat([losses, norm.to(losses).reshape(1)]).tolist()
        self._check_finite(values[0], length)
        for group in self._adamw.param_groups:
            group["lr"] = self._rate()
        self._scaler.step(self._adamw)  # does nothing if gradients overflowed
        # The fused AdamW does not count its changes, and copies of weights are renewed by count.
        torch.autograd.graph.increment_version(self._weights)
        self._scaler.update()
        self.drop_gradients()
        if not math.isfinite(length):
            return None
        self.n_done += 1
        return values

    def drop_gradients(self) -> None:
        """Drop the gradients that have been computed so far."""
        self._adamw.zero_grad(set_to_none=True)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return all that the next step depends on: JSON-serialisable values, tensors by name."""
        moments = self._adamw.state_dict()["state"]
        tensors = {
            f"{name}.{number}": tensor
            for number, of_weight in moments.items()
            for name, tensor in of_weight.items()
        }
        tensors |= {f"weight.{i}": weight.detach() for i, weight in enumerate(self._weights)}
        return {"n_done": self.n_done, "scaler": self._scaler.state_dict()}, tensors

    @torch.no_grad()
    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Continue from the values and tensors that `state` returned."""
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            name, _, number = key.rpartition(".")
            if name == "weight":
                self._weights[int(number)].copy_(tensor)
            else:
                moments.setdefault(int(number), {})[name] = tensor
        groups = self._adamw.state_dict()["param_groups"]
        self._adamw.load_state_dict({"state": moments, "param_groups": groups})
        self._scaler.load_state_dict(dict(values["scaler"]))
        self.n_done = values["n_done"]

    def _rate(self) -> float:
        return self._learning_rate * rate_factor(self.n_done, self._n_steps, self._warmup_ratio)

    def _check_finite(self, loss: float, norm: float) -> None:
        if not math.isfinite(loss):
            raise self._diverged(f"loss became {loss}")
        is_scaled = self._scaler.is_enabled() and not math.isfinite(norm)
        if not math.isfinite(norm) and not (is_scaled and self._scaler.get_scale() > _LEAST_SCALE):
            raise self._diverged(f"loss was {loss:.3g} and its gradient {norm}")

    def _diverged(self, what: str) -> TrainingDivergedError:
        msg = (
            f"The training {what} at step {self.n_done + 1} of {self._n_steps} with a learning "
            f"rate of {self._rate():.2g}. Use a lower learning_rate, or "
            "model_options=ModelOptions(dtype='float32')."
        )
        return TrainingDivergedError(msg)


def rate_factor(step: int, n_steps: int, warmup_ratio: float) -> float:
    """Return the share of the highest learning rate after ``step`` steps: up to 1, then down to 0.

    It rises linearly over a share of ``warmup_ratio`` of all steps, and falls over the others.
    """
    n_warmup = math.ceil(n_steps * warmup_ratio)
    if step < n_warmup:
        return (step + 1) / n_warmup
    return max(0.0, (n_steps - step) / max(1, n_steps - n_warmup))
