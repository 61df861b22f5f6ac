"""Gradients → a step: learning rate, loss scaling and clipping, and an end where they diverge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from instructclf.exceptions import TrainingDivergedError

_MAX_GRADIENT_NORM = 1.0
_LEAST_SCALE = 1.0
"""Gradients that overflow although losses are not scaled up do not overflow because of that."""


class Optimiser:
    """AdamW with a learning rate that rises and falls linearly.

    Parameters
    ----------
    weights : list of torch.nn.Parameter
        What is trained.
    learning_rate : float
        The highest learning rate.
    n_steps : int
        How many steps there are at most. After all of them the learning rate is 0.
    warmup_ratio : float
        The share of them in which the learning rate rises.
    model_dtype : torch.dtype
        What the model computes in. Gradients of a float16 model vanish below 6e-8 unless the loss
        is scaled up; they are scaled down again before a step.
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
        # It sets itself up with the first loss, which one of several processes may have no row for.
        self._scaler.scale(weights[0].new_zeros(()))

    def scale(self, loss: Tensor) -> Tensor:
        """Return a loss scaled up as far as the model's data type takes."""
        return self._scaler.scale(loss)

    def step(self, losses: Tensor) -> list[float] | None:
        """Take a step along the gradients, and forget them.

        Where they overflowed because the loss was scaled up too far, no step is taken, and the
        losses that follow are scaled by half as much. There may be few steps in all, so that the
        gradients should be found again, and not be done without.

        Parameters
        ----------
        losses : Tensor of shape (n_losses,)
            What the gradients are of, the loss to minimise first.

        Returns
        -------
        list of float or None
            The losses, which are finite. ``None`` if the gradients overflowed.

        Raises
        ------
        TrainingDivergedError
            If the loss is not finite, or its gradient is not, however little it is scaled up.
        """
        self._scaler.unscale_(self._adamw)
        norm = nn.utils.clip_grad_norm_(self._weights, _MAX_GRADIENT_NORM)
        *values, length = torch.cat([losses, norm.to(losses).reshape(1)]).tolist()
        self._check_finite(values[0], length)
        for group in self._adamw.param_groups:
            group["lr"] = self._rate()
        self._scaler.step(self._adamw)  # does nothing with gradients that overflowed
        self._scaler.update()
        self.forget_gradients()
        if not math.isfinite(length):
            return None
        self.n_done += 1
        return values

    def forget_gradients(self) -> None:
        """Drop the gradients that have been found so far."""
        self._adamw.zero_grad(set_to_none=True)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return all that the next step depends on: plain values, and tensors by name."""
        moments = self._adamw.state_dict()["state"]
        tensors = {
            f"{name}.{number}": tensor
            for number, own in moments.items()
            for name, tensor in own.items()
        }
        tensors |= {f"weight.{i}": weight.detach() for i, weight in enumerate(self._weights)}
        return {"n_done": self.n_done, "scaler": self._scaler.state_dict()}, tensors

    @torch.no_grad()
    def restore(self, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned.

        Parameters
        ----------
        plain : mapping
            Its plain values.
        tensors : mapping of str to Tensor
            Its tensors.
        """
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            name, _, number = key.rpartition(".")
            if name == "weight":
                self._weights[int(number)].copy_(tensor)
            else:
                moments.setdefault(int(number), {})[name] = tensor
        groups = self._adamw.state_dict()["param_groups"]
        self._adamw.load_state_dict({"state": moments, "param_groups": groups})
        self._scaler.load_state_dict(dict(plain["scaler"]))
        self.n_done = plain["n_done"]

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
            f"rate of {self._rate():.2g}. Use a lower learning_rate, or dtype='float32'."
        )
        return TrainingDivergedError(msg)


def rate_factor(step: int, n_steps: int, warmup_ratio: float) -> float:
    """Return the share of the highest learning rate at a step: up to 1, then down to 0.

    Parameters
    ----------
    step : int
        How many steps are done.
    n_steps : int
        How many there are.
    warmup_ratio : float
        The share of them in which the learning rate rises.

    Returns
    -------
    float
        From 0 to 1.
    """
    n_warmup = math.ceil(n_steps * warmup_ratio)
    if step < n_warmup:
        return (step + 1) / n_warmup
    return max(0.0, (n_steps - step) / max(1, n_steps - n_warmup))
