"""Weights of a base model, guarded while somebody else's code builds an adapter on a view of them.

Some initialisations of PEFT write into the layers that they adapt. A view's weights are the base
model's, so this would change every other classifier. Such an operation is stopped before it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class SharedWeights:
    """The weights and buffers that a view has before it gets an adapter.

    Parameters
    ----------
    view : torch.nn.Module
        A view of a base model.
    """

    def __init__(self, view: nn.Module) -> None:
        tensors: list[Tensor] = [*view.parameters(), *view.buffers()]
        self._places = [(tensor, _place(tensor)) for tensor in tensors]
        self._shared = {place for _, place in self._places if place}

    def guarded(self) -> TorchDispatchMode:
        """Return a context in which writing into a shared tensor raises ``SharedWeightError``."""
        return _Guard(self._shared)

    def own_trained(self, parameters: Iterator[nn.Parameter]) -> None:
        """Give weights that are to be trained storage of their own.

        Parameters
        ----------
        parameters : iterator of torch.nn.Parameter
            A view's parameters. Biases of the base model may be among those to train.
        """
        for parameter in parameters:
            if parameter.requires_grad and _place(parameter) in self._shared:
                parameter.data = parameter.data.clone()

    def check_kept(self) -> None:
        """Raise ``SharedWeightError`` if a weight that is not trained was exchanged for another."""
        for tensor, place in self._places:
            if not tensor.requires_grad and _place(tensor) != place:
                raise SharedWeightError


class SharedWeightError(Exception):
    """A weight of the base model would have been changed."""


class _Guard(TorchDispatchMode):
    """Looks at each operation before it runs, those on ``.data`` included."""

    def __init__(self, shared: set[int]) -> None:
        super().__init__()
        self._shared = shared

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        for position, argument in enumerate(func._schema.arguments):  # noqa: SLF001  (torch has no public way)
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            if any(_place(tensor) in self._shared for tensor in _tensors(value)):
                raise SharedWeightError
        return func(*args, **kwargs)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        yield from (one for one in value if isinstance(one, Tensor))


def _place(tensor: Tensor) -> int:
    """Return where a tensor's storage begins. 0 if it has none."""
    return 0 if tensor.is_meta else tensor.untyped_storage().data_ptr()
