"""One base model per process: estimators hold a name, and the registry holds the weights.

The last few models are kept alive, and any model that a fitted classifier still reads is found
again for as long as it lives, so clones, folds and candidates of a search share one load.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import OrderedDict
from os import PathLike, fspath
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from instructclf.engine.models.devices import resolve_device, resolve_dtype, warn_of_shared_device
from instructclf.engine.models.loading import (
    BaseModel,
    DeviceMap,
    load_base_model,
    wrap_loaded_model,
)
from instructclf.engine.running.locks import ProcessLock
from instructclf.exceptions import ModelLoadingError

N_KEPT_ALIVE = 2

_Key = tuple[str, str, str, str | None, str | None]
_lock = ProcessLock()
_locks: dict[_Key, ProcessLock] = {}
_known: WeakValueDictionary[_Key, BaseModel] = WeakValueDictionary()
_recent: OrderedDict[_Key, BaseModel] = OrderedDict()


def get_base_model(
    model: str | PathLike[str] | tuple[Any, Any],
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str | None = None,
    device_map: DeviceMap = None,
) -> BaseModel:
    """Return the base model of this name, loaded at most once per process.

    Parameters
    ----------
    model : str, path or tuple of (model, tokenizer)
        ``"bundled"``, a folder or a hub id; or loaded objects, which are taken as they are, on
        their device and in their data type.
    device : str, default="auto"
        Where a model that is loaded goes. ``"auto"`` takes CUDA if there is a device.
    dtype : str, default="auto"
        What weights that are loaded are converted to. ``"auto"`` takes what suits the device.
    quantization : str or None, default=None
        ``"4bit"`` stores the weights of linear layers in 4 bits while loading them.
    device_map : str, dict or None, default=None
        Where the parts of a model that is loaded go, instead of all of it to ``device``.

    Returns
    -------
    BaseModel
        The shared model, which is only ever read.

    Raises
    ------
    ModelLoadingError
        If the model cannot be loaded, or is to be quantised or spread and loaded already.
    ValueError
        If both a device and ``device_map`` are given.
    """
    if isinstance(model, tuple):
        _check_not_quantised_afterwards(quantization)
        _check_not_spread_afterwards(device_map)
        return wrap_loaded_model(model)
    model = fspath(model)
    _check_device_or_map(device, device_map)
    target = resolve_device(device)
    precision = resolve_dtype(dtype, target)
    spread = None if device_map is None else json.dumps(device_map, sort_keys=True)
    key = (_identity(model), str(target), str(precision), quantization, spread)
    with _lock:
        lock = _locks.setdefault(key, ProcessLock())
    with lock:  # two threads that ask for the same model load it once
        base = _known.get(key)
        if base is None:
            warn_of_shared_device(target, multiprocessing.current_process().name)
            base = load_base_model(
                model,
                device=target,
                dtype=precision,
                quantization=quantization,
                device_map=device_map,
            )
        _remember(key, base)
    return base


def clear_base_models() -> None:
    """Forget the models kept alive. Their memory is freed once no fitted classifier reads them."""
    with _lock:
        _recent.clear()


def _check_not_quantised_afterwards(quantization: str | None) -> None:
    if quantization is not None:
        msg = (
            f"quantization={quantization!r} is for models that are loaded by name, and 'model' is "
            "a pair of objects. Give the model's name or folder, or quantise it while you load it: "
            "from_pretrained(..., quantization_config=BitsAndBytesConfig(load_in_4bit=True))."
        )
        raise ModelLoadingError(msg)


def _check_not_spread_afterwards(device_map: DeviceMap) -> None:
    if device_map is not None:
        msg = (
            f"device_map={device_map!r} is for models that are loaded by name, and 'model' is a "
            "pair of objects. Give the model's name or folder, or spread it while you load it: "
            "from_pretrained(..., device_map=...)."
        )
        raise ModelLoadingError(msg)


def _check_device_or_map(device: str, device_map: DeviceMap) -> None:
    if device != "auto" and device_map is not None:
        msg = (
            f"device={device!r} puts the whole model on one device, and device_map={device_map!r} "
            "its parts on several. Leave one of these two ModelOptions at its default."
        )
        raise ValueError(msg)


def _identity(name: str) -> str:
    """Return what tells a model from others: of one on disk also when it was written."""
    place = Path(name).expanduser()
    weights = [place] if place.is_file() else [*place.glob("*.safetensors")]
    if not place.exists():
        return name
    written = max((file.stat().st_mtime_ns for file in weights), default=0)
    return f"{place.resolve()}@{written}"


def _remember(key: _Key, base: BaseModel) -> None:
    with _lock:
        _known[key] = base
        _recent[key] = base
        _recent.move_to_end(key)
        while len(_recent) > N_KEPT_ALIVE:
            _recent.popitem(last=False)
