"""The last decoder layer → its feed-forward part at the places that are read only.

What the last layer makes of other positions nobody reads. Its attention stops at the places in
``attention``; its feed-forward part, which looks at each position by itself, stops at them here.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from torch import Tensor, nn

from instructclf.engine.models.decoder_layers import named_decoder_layers
from instructclf.engine.running.locks import module_state
from instructclf.engine.scoring.outputs import places_to_narrow

_FEED_FORWARD = "mlp"
_MARK = "_is_narrowed"


def narrow_feed_forward(model: Any) -> None:
    """Let a view compute the last feed-forward part where its outputs are read.

    It takes effect in forward passes within ``output_at(..., narrows=True)``. A model whose layers
    name that part otherwise is left as it is.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model.
    """
    layers = list(named_decoder_layers(model).values())
    part = getattr(layers[-1], _FEED_FORWARD, None) if layers else None
    if not isinstance(part, nn.Module):
        return
    with module_state:  # narrowed twice, it would look for the places among the places
        if not getattr(part, _MARK, False):
            part.forward = _narrowed(part.forward)
            setattr(part, _MARK, True)


def _narrowed(forward: Any) -> Any:
    @wraps(forward)
    def run(hidden: Tensor, *inputs: Any, **options: Any) -> Any:
        places = places_to_narrow()
        if places is None:
            return forward(hidden, *inputs, **options)
        at_places = places.rows.to(hidden.device), places.columns.to(hidden.device)
        found = forward(hidden[at_places], *inputs, **options)
        if not isinstance(found, Tensor):  # what else a layer returns has a shape of its own
            return forward(hidden, *inputs, **options)
        return hidden.new_zeros(hidden.shape).index_put(at_places, found)

    return run
