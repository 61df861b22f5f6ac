"""Base model → a view of it: a module tree of its own over the same weights.

Adapters, attention functions and train/eval flags set on a view reach neither the base model nor
another view, and a view costs milliseconds and no weights.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from instructclf.engine.models.placement import offloaded_parts
from instructclf.engine.models.quantization import keep_layout, quantization_states


def shared_view(model: Any) -> Any:
    """Copy the module tree and configuration of a model, and share its tensors.

    Each parameter becomes a new, frozen ``Parameter`` over the same storage, so that flags such as
    ``requires_grad`` belong to the view. Tied parameters stay tied. Quantised weights are shared
    as they are: they carry more than a tensor, and cannot be trained. The hooks of a model that is
    spread over devices are copied, and run the view's own modules.

    Parameters
    ----------
    model : torch.nn.Module
        The base model.

    Returns
    -------
    torch.nn.Module
        The view, in evaluation mode.
    """
    memo: dict[int, Any] = {id(parameter): _shared(parameter) for parameter in model.parameters()}
    memo |= {id(buffer): buffer for buffer in model.buffers()}
    memo |= {id(state): state for state in quantization_states(model)}
    memo |= {id(part): part for part in offloaded_parts(model)}
    view = copy.deepcopy(model, memo).eval()
    keep_layout(view)
    return view


def _shared(parameter: nn.Parameter) -> nn.Parameter:
    if type(parameter) is not nn.Parameter and issubclass(type(parameter), nn.Parameter):
        return parameter
    return nn.Parameter(parameter.detach(), requires_grad=False)
