"""Base model → a view of it: another module tree over the same weights.

Adapters, attention functions and train/eval flags that are set on a view reach neither the base
model nor another view. A view costs milliseconds and copies no weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from instructclf.engine.models.placement import offloaded_parts
from instructclf.engine.models.quantization import prevent_repacking, quantization_states
from instructclf.engine.running.arithmetic import use_fast_arithmetic
from instructclf.engine.running.feed_forward import fuse_feed_forward
from instructclf.engine.running.norms import fuse_norms


def shared_view(model: Any) -> Any:
    """Copy the module tree and configuration of a model, and share its tensors.

    Each parameter becomes a new, frozen ``Parameter`` over the same storage, so that flags such as
    ``requires_grad`` belong to the view. Tied parameters stay tied. Quantised weights are shared
    as they are: they carry more than a tensor, and cannot be trained. The hooks of a model that is
    spread over devices are copied, and run the modules of the view. The view is in evaluation mode,
    and computes in the fastest arithmetic of the device.
    """
    # deepcopy takes the values of the memo where it would have copied these objects.
    memo: dict[int, Any] = {id(parameter): _shared(parameter) for parameter in model.parameters()}
    memo |= {id(buffer): buffer for buffer in model.buffers()}
    memo |= {id(state): state for state in quantization_states(model)}
    memo |= {id(part): part for part in offloaded_parts(model)}
    memo |= {id(tensor): tensor.detach() for tensor in _remembered_tensors(model)}
    view = copy.deepcopy(model, memo).eval()
    prevent_repacking(view)
    use_fast_arithmetic(view)
    fuse_feed_forward(view)
    fuse_norms(view)
    return view


def _remembered_tensors(model: nn.Module) -> Iterator[Tensor]:
    """Yield tensors that PEFT keeps with layers that it has tied, and that deepcopy refuses."""
    for module in model.modules():
        for held in (getattr(module, "kwargs", None) or {}).values():
            if isinstance(held, dict):
                yield from (value for value in held.values() if isinstance(value, Tensor))


def _shared(parameter: nn.Parameter) -> nn.Parameter:
    if type(parameter) is not nn.Parameter and issubclass(type(parameter), nn.Parameter):
        return parameter
    return nn.Parameter(parameter.detach(), requires_grad=False)
