"""Layers below the tuned ones: their outputs never change, so they are computed once.

The lower layers of a view stay in place. To replay, they pass on what they get, and the first tuned
layer is given the stored hidden states instead. So embeddings, positions and masks remain the
architecture's own business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from instructclf.engine.models.decoder_layers import named_decoder_layers, running


class _Recorded(Exception):  # noqa: N818  (ends a forward pass that has given what was wanted)
    """The hidden states that the first tuned layer was about to read."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


class FrozenLayers:
    """The lower layers of a view, to be run, or to be replaced by what they would return.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model.
    n_frozen : int
        How many of its lower layers stay as they are. At least one.
    """

    def __init__(self, model: nn.Module, n_frozen: int) -> None:
        layers = list(named_decoder_layers(model).values())
        self._frozen, self._first_tuned = layers[:n_frozen], layers[n_frozen]
        self._returns_tuple: dict[nn.Module, bool] = {}

    def record(self, forward: Callable[[], object]) -> Tensor:
        """Return the hidden states that the tuned layers read in a forward pass, and end it there.

        Parameters
        ----------
        forward : callable
            Runs a forward pass of the model.

        Returns
        -------
        Tensor of shape (n_rows, length, n_hidden)
            The outputs of the frozen layers.
        """
        handles = [layer.register_forward_hook(self._note_form) for layer in self._frozen]
        handles.append(self._first_tuned.register_forward_pre_hook(_stop, with_kwargs=True))
        try:
            forward()
        except _Recorded as recorded:
            return recorded.hidden.detach()
        finally:
            for handle in handles:
                handle.remove()
        msg = "The first tuned layer did not run."
        raise RuntimeError(msg)

    @contextmanager
    def replaying(self, hidden: Callable[[], Tensor]) -> Iterator[None]:
        """Skip the frozen layers in forward passes.

        Parameters
        ----------
        hidden : callable
            Returns the hidden states to go on with, asked for when the tuned layers begin.

        Yields
        ------
        None
            Meanwhile a forward pass begins at the tuned layers.
        """

        def inject(_: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
            if inputs:
                return (hidden(), *inputs[1:]), options
            return inputs, options | {"hidden_states": hidden()}

        handle = self._first_tuned.register_forward_pre_hook(inject, with_kwargs=True)
        with ExitStack() as stack:
            stack.callback(handle.remove)
            for layer in self._frozen:
                stack.enter_context(running(layer, self._pass_on(layer)))
            yield

    def _note_form(self, layer: nn.Module, _: Any, output: Any) -> None:
        self._returns_tuple[layer] = isinstance(output, tuple)

    def _pass_on(self, layer: nn.Module) -> Callable[..., Any]:
        in_tuple = self._returns_tuple.get(layer, False)

        def forward(*inputs: Any, **options: Any) -> Any:
            hidden = _hidden(inputs, options)
            return (hidden, None) if in_tuple else hidden

        return forward


def _stop(_: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
    raise _Recorded(_hidden(inputs, options))


def _hidden(inputs: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    return inputs[0] if inputs else options["hidden_states"]
