"""Tensors of a simulated GPU: each holds a CPU tensor, and operators run on these.

On the way, three things are checked that a CPU cannot show. All tensors of an operator must be on
one device. Indices out of range destroy the context: no call works after that, so a program that
catches the error and goes on is found out. And memory is limited.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.simulated_device import operators
from tests.simulated_device.machine import Machine

BACKEND = "simulated"
"""The name under which torch knows these devices. In Python, their tensors say "cuda"."""
_TYPES = {"cuda", BACKEND}

machine = Machine([])
"""The machine that is simulated now."""


class GpuTensor(torch.Tensor):
    """A tensor that says it is on a CUDA device.

    Parameters
    ----------
    inner : Tensor
        Its numbers, on the CPU. Another tensor of this class, as accelerate gives it, is shared.
    index : int
        The index of its device.
    requires_grad : bool, default=False
        Whether gradients are recorded.
    """

    inner: torch.Tensor
    index: int
    _memory: Any

    @staticmethod
    def __new__(
        cls, inner: torch.Tensor, index: int = 0, *, requires_grad: bool = False
    ) -> GpuTensor:
        if isinstance(inner, GpuTensor):
            inner, index = inner.inner, inner.index
        memory = machine.allocate(inner, index)
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device(BACKEND, index),
            requires_grad=requires_grad,
        )
        made.inner, made.index, made._memory = inner, index, memory
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", self.index)

    @property
    def is_cuda(self) -> bool:
        return True

    def get_device(self) -> int:
        return self.index

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> GpuTensor:
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        copied.__dict__.update({k: v for k, v in vars(self).items() if k not in vars(copied)})
        return memo.setdefault(id(self), copied)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return GpuTensor, (self.inner.detach(), self.index)

    def __repr__(self, **_: Any) -> str:
        return f"GpuTensor({self.inner!r}, device='cuda:{self.index}')"


class OperatorMode(TorchDispatchMode):
    """Runs operators that touch a simulated device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(a, GpuTensor) or _is_gpu(a) for a in _leaves((args, kwargs))):
            return func(*args, **kwargs)
        # In inference mode, operators arrive that autograd would have taken apart.
        is_kernel = _name(func) in operators.NOT_COMPOSED
        if not is_kernel and func._can_decompose():
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        return _run(func, args, kwargs)


class FunctionMode(TorchFunctionMode):
    """Names devices of the simulation in calls that torch would send to the real CUDA."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if "device" in kwargs:
            kwargs["device"] = _named(kwargs["device"])
        func, args = _moved(func, args)
        attended = _attend(func, args, kwargs)
        if attended is not None:
            return attended
        if func is torch.Tensor.tolist and isinstance(args[0], GpuTensor):
            return args[0].cpu().tolist()
        if func in (torch.tensor, torch.as_tensor) and _is_gpu(kwargs.get("device")):
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is torch.Tensor.new_tensor and isinstance(args[0], GpuTensor):
            like, values = args
            device = _named(kwargs.pop("device", like.device))
            return torch.tensor(values, **{"dtype": like.dtype, **kwargs}).to(device)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            where = args[1] if isinstance(args[1], tuple) else (args[1],)
            where = tuple(torch.tensor(w) if isinstance(w, list) else w for w in where)
            args = (args[0], where, *args[2:])
        return func(*args, **kwargs)


def _moved(func: Any, args: Any) -> tuple[Any, Any]:
    """Name the simulation's devices in calls that move a tensor. All memory here is pinned."""
    if func is torch.Tensor.cuda:
        return torch.Tensor.to, (args[0], _named(args[1] if len(args) > 1 else "cuda"))
    if func is torch.Tensor.pin_memory:
        return torch.Tensor.detach, args
    return func, tuple(map(_named, args)) if func is torch.Tensor.to else args


def _attend(func: Any, args: Any, kwargs: Any) -> torch.Tensor | None:
    """Attend by the kernel that torch would choose on CUDA, if this is attention."""
    if func is not scaled_dot_product_attention or not isinstance(args[0], GpuTensor):
        return None
    capability = machine.gpus[args[0].index].capability
    return operators.choose_attention(*args, **kwargs, capability=capability)


def _is_gpu(value: Any) -> bool:
    return isinstance(value, torch.device) and value.type in _TYPES


def _named(value: Any) -> Any:
    """Turn the name of a CUDA device into the simulation's; return anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, (str, int, torch.device)):
        return value
    device = torch.device("cuda", value) if isinstance(value, int) else torch.device(value)
    if device.type not in _TYPES:
        return value
    index = machine.current if device.index is None else device.index
    if index >= len(machine.gpus):
        msg = "CUDA error: invalid device ordinal"
        raise RuntimeError(msg)
    return torch.device(BACKEND, index)


def _leaves(value: Any) -> Iterator[Any]:
    """Yield what arguments of an operator hold, of which some are lists of tensors."""
    if isinstance(value, (list, tuple, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return arguments or results of an operator with another value for each leaf."""
    if isinstance(value, dict):
        return {name: _mapped(function, inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        mapped = [_mapped(function, inner) for inner in value]
        return mapped if isinstance(value, list) else tuple(mapped)
    return function(value)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    machine.check_works()
    name = _name(func)
    tensors = [value for value in _leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    source = _common_index(name, tensors)
    wanted = kwargs.get("device")
    target = source if wanted is None else _named(wanted).index if _is_gpu(wanted) else None
    _note(name, tensors, target, kwargs)
    args, plain = _mapped(_inner, (args, kwargs))
    plain.pop("pin_memory", None)
    if wanted is not None:
        plain |= {"device": torch.device("cpu")}
        plain |= {"non_blocking": False} if "non_blocking" in plain else {}
    capability = machine.gpus[source or 0].capability
    with _generator(name, target):
        try:
            found = operators.run(name, func, args, plain, capability)
        except (IndexError, RuntimeError) as error:
            is_out = any(said in str(error) for said in ("out of bounds", "out of range in self"))
            if name in operators.CHECKED_BY_KERNELS and is_out:
                raise machine.fail(name, error) from error
            raise
    if target is not None:
        return _wrapped(name, found, tensors, target)
    return machine.download(found) if _downloads(name, kwargs) else found


def _name(func: Any) -> str:
    return func._schema.name.removeprefix("aten::")


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, GpuTensor) else value


def _wrapped(name: str, found: Any, tensors: list[torch.Tensor], index: int) -> Any:
    """Return results as tensors of a device; those that were written into, as they came."""
    given = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, GpuTensor)}
    # A view of a normal tensor is a normal tensor, in inference mode too.
    is_normal = name in operators.VIEWS and not any(tensor.is_inference() for tensor in tensors)

    def wrap(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        same = given.get(id(value))
        if same is None:
            return GpuTensor(value, index)
        if same.shape != value.shape:
            msg = f"{name} changes a shape in place, which the simulation cannot."
            raise NotImplementedError(msg)
        return same

    with torch.inference_mode(mode=False) if is_normal else contextlib.nullcontext():
        return _mapped(wrap, found)


def _common_index(name: str, tensors: list[torch.Tensor]) -> int | None:
    """Return the index of the device of all tensors. Raise if they are on several."""
    indices = [tensor.index for tensor in tensors if isinstance(tensor, GpuTensor)]
    if not indices or name in operators.CROSSING:
        return indices[0] if indices else None
    # Numbers on the CPU go along with a launch, and indices are copied.
    goes_along = name in operators.INDEXING
    others = {f"cuda:{index}" for index in indices}
    for place, tensor in enumerate(tensors):
        is_index = goes_along and place and tensor.dtype in {torch.long, torch.int, torch.bool}
        if not isinstance(tensor, GpuTensor) and tensor.dim() and not is_index:
            others.add("cpu")
    if len(others) > 1:
        msg = (
            "Expected all tensors to be on the same device, but found "
            f"{' and '.join(sorted(others))} in {name}"
        )
        raise RuntimeError(msg)
    return indices[0]


def _downloads(name: str, kwargs: Any) -> bool:
    """Say whether a copy to the host goes on without it. Its memory is pinned then."""
    return name == "_to_copy" and bool(kwargs.get("non_blocking"))


def _note(name: str, tensors: list[torch.Tensor], target: int | None, kwargs: Any) -> None:
    """Count what an operator costs."""
    on_gpu = [isinstance(tensor, GpuTensor) for tensor in tensors]
    if name == "_to_copy" and on_gpu[0] != (target is not None):
        to_host = "download" if _downloads(name, kwargs) else "synchronisation"
        return machine.note("upload" if target is not None else to_host, name)
    if name == "copy_" and on_gpu[0] != on_gpu[1]:
        return machine.note("upload" if on_gpu[0] else "synchronisation", name)
    has_mask = any(tensor.dtype in {torch.bool, torch.uint8} for tensor in tensors[1:])
    if name in operators.WAITING or (name in operators.INDEXING and has_mask):
        machine.note("synchronisation", name)
    if name in operators.INDEXING and not all(on_gpu[1:]):
        machine.note("upload", name)
    if name not in operators.VIEWS:
        machine.note("launch", name)
    return None


@contextlib.contextmanager
def _generator(name: str, index: int | None) -> Iterator[None]:
    """Let an operator draw from the generator of its device."""
    if name not in operators.RANDOM or index is None:
        yield
        return
    gpu, before = machine.gpus[index], torch.get_rng_state()
    torch.set_rng_state(gpu.random_state)
    try:
        yield
    finally:
        gpu.random_state = torch.get_rng_state()
        torch.set_rng_state(before)
