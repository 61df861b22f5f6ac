"""Whether the weights of a model were changed in place since something was computed from them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

_N_SAMPLED = 32
"""About how many values of each weight are compared."""


class WeightsAsTheyWere:
    """Notices that the weights of a model were changed in place.

    torch counts such changes of each tensor, but not those through ``.data``. For these, a few
    values of each tensor are compared.
    """

    def __init__(self, model: Any) -> None:
        self._counted = [p for p in model.parameters() if not p.is_inference()]
        self._counts = self._count()
        self._samples: dict[Any, list[Tensor]] = {}
        for weight in model.parameters():
            if type(weight) is Parameter and not weight.is_meta and weight.is_contiguous():
                flat = weight.detach().view(-1)  # shares the weight's memory
                sample = flat[:: max(len(flat) // _N_SAMPLED, 1)]
                self._samples.setdefault((weight.device, weight.dtype), []).append(sample)
        self._values = self._read()

    def have_changed(self) -> bool:
        """Say whether a weight has another value, or may have one."""
        return self._counts != self._count() or not all(
            map(torch.equal, self._values, self._read())
        )

    def _count(self) -> list[int]:
        return [weight._version for weight in self._counted]  # noqa: SLF001  (has no public name)

    def _read(self) -> list[Tensor]:
        """Return the bytes of the compared values: torch compares no floats of 8 bits."""
        return [torch.cat(samples).view(torch.uint8) for samples in self._samples.values()]
