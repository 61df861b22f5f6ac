"""Weights of a base model, protected while PEFT builds an adapter on a view of them.

Some initialisations of PEFT write into the layers that they adapt. A view shares its weights with
the base model, so this would change every other classifier. The guard stops such an operation
before it runs.
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
        self._addresses = [(tensor, _storage_address(tensor)) for tensor in tensors]
        self._shared = {address for _, address in self._addresses if address}

    def guarded(self) -> TorchDispatchMode:
        """Return a context in which writing into a shared tensor raises ``SharedWeightError``."""
        return _Guard(self._shared)

    def copy_trained(self, parameters: Iterator[nn.Parameter]) -> None:
        """Give those parameters that are to be trained storage that the base model does not share.

        Some kinds of adapters train biases or whole layers of the model itself.
        """
        for parameter in parameters:
            if parameter.requires_grad and _storage_address(parameter) in self._shared:
                parameter.data = parameter.data.clone()

    def check_unchanged(self) -> None:
        """Raise ``SharedWeightError`` if a weight that is not trained was replaced by another."""
        for tensor, address in self._addresses:
            if not tensor.requires_grad and _storage_address(tensor) != address:
                raise SharedWeightError


class SharedWeightError(Exception):
    """A weight of the base model would have been changed."""


class _Guard(TorchDispatchMode):
    """Inspects each operation before it runs, including operations on ``.data``."""

    def __init__(self, shared: set[int]) -> None:
        super().__init__()
        self._shared = shared

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        # The schema of an operation marks each argument that it writes into.
        for position, argument in enumerate(func._schema.arguments):  # noqa: SLF001  (torch has no public way)
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            if any(_storage_address(tensor) in self._shared for tensor in _tensors(value)):
                raise SharedWeightError
        return func(*args, **kwargs)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        yield from (item for item in value if isinstance(item, Tensor))


def _storage_address(tensor: Tensor) -> int:
    """Return the address of a tensor's storage, 0 if it has none."""
    return 0 if tensor.is_meta else tensor.untyped_storage().data_ptr()
