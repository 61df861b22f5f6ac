"""Layers below the tuned ones: their outputs never change, so they are computed once.

The lower layers stay in the view. To replay a forward pass, each of them returns its input
unchanged, and the first tuned layer gets the stored hidden states instead. So the architecture
itself still computes embeddings, positions and masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from instructclf.engine.models.decoder_layers import named_decoder_layers, replacing_forward


class _Recorded(Exception):  # noqa: N818  (no error: it ends a forward pass early)
    """Carries the hidden states that the first tuned layer was about to read."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


class FrozenLayers:
    """The lower layers of a view. They run, or are skipped in favour of stored outputs.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model.
    n_frozen : int
        How many of its lower layers are not tuned. At least one.
    """

    def __init__(self, model: nn.Module, n_frozen: int) -> None:
        layers = list(named_decoder_layers(model).values())
        self._frozen, self._first_tuned = layers[:n_frozen], layers[n_frozen]
        self._returns_tuple: dict[nn.Module, bool] = {}

    def record(self, forward: Callable[[], object]) -> Tensor:
        """Run a forward pass, which does not return, up to the first tuned layer.

        Returns what this layer would read, of shape (n_rows, length, n_hidden).
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
        """Skip the frozen layers in forward passes inside the block.

        ``hidden`` returns the stored hidden states. It is called when the first tuned layer runs,
        because the layout of a batch is not known before.
        """

        def inject(_: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
            if inputs:
                return (hidden(), *inputs[1:]), options
            return inputs, options | {"hidden_states": hidden()}

        handle = self._first_tuned.register_forward_pre_hook(inject, with_kwargs=True)
        with ExitStack() as stack:
            stack.callback(handle.remove)
            for layer in self._frozen:
                stack.enter_context(replacing_forward(layer, self._pass_on(layer)))
            yield

    def _note_form(self, layer: nn.Module, _: Any, output: Any) -> None:
        self._returns_tuple[layer] = isinstance(output, tuple)

    def _pass_on(self, layer: nn.Module) -> Callable[..., Any]:
        """Return a function that takes the layer's place and returns its input, in its form."""
        in_tuple = self._returns_tuple.get(layer, False)

        def forward(*inputs: Any, **options: Any) -> Any:
            hidden = _hidden(inputs, options)
            return (hidden, None) if in_tuple else hidden

        return forward


def _stop(_: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
    raise _Recorded(_hidden(inputs, options))


def _hidden(inputs: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    return inputs[0] if inputs else options["hidden_states"]
