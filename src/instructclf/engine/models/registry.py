"""One base model per process: estimators hold a name, and the registry holds the weights.

The models used last are kept alive, and a model that a fitted classifier reads is found for as long
as the classifier lives. So clones, folds and candidates of a search load a model once.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import OrderedDict
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from instructclf.engine.models.adapter_folders import find_adapter_folder, read_base_name
from instructclf.engine.models.devices import (
    resolve_device,
    resolve_dtype,
    resolve_map,
    warn_of_shared_device,
)
from instructclf.engine.models.loading import (
    BaseModel,
    DeviceMap,
    find_stored_dtype,
    load_base_model,
    wrap_loaded_model,
)
from instructclf.engine.models.names import find_path
from instructclf.engine.models.weight_files import list_read_files
from instructclf.engine.running.locks import ProcessLock
from instructclf.engine.running.memory import give_back_free_memory, keep_few_products
from instructclf.engine.running.progress import tell
from instructclf.exceptions import ModelLoadingError

N_KEPT_ALIVE = 2
_LOAD_IN_4BIT = "quantization_config=BitsAndBytesConfig(load_in_4bit=True)"

_Key = tuple[str, str, str, str | None, str | None]
_lock = ProcessLock()
_locks: dict[_Key, ProcessLock] = {}
_known: WeakValueDictionary[_Key, BaseModel] = WeakValueDictionary()
_recent: OrderedDict[_Key, BaseModel] = OrderedDict()
_stored: dict[str, torch.dtype | None] = {}


def get_base_model(
    model: str | PathLike[str] | tuple[Any, Any],
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str | None = None,
    device_map: DeviceMap = None,
    verbose: int | bool = False,
) -> BaseModel:
    """Return the base model of this name, loaded at most once per process and only ever read.

    A pair of (model, tokenizer) keeps its device and data type, so the other parameters say nothing
    of it. With a device map, parts of the model go where the map says instead of to ``device``.
    With ``verbose``, a line says that a file is converted first, if that takes long, and another
    one which data type ``"auto"`` has chosen.

    Raises
    ------
    ModelLoadingError
        If the model cannot be loaded; if loaded objects are to be quantised or spread; or if both a
        device and ``device_map`` are given.
    """
    keep_few_products()
    if isinstance(model, tuple):
        _check_loaded_by_name("quantization", quantization, "quantise", _LOAD_IN_4BIT)
        _check_loaded_by_name("device_map", device_map, "spread", "device_map=...")
        return wrap_loaded_model(model)
    model = fspath(model)
    _check_device_or_map(device, device_map)
    devices = [resolve_device(device)] if device_map is None else resolve_map(device_map)
    identity = _identity(model)
    stored = partial(_stored_dtype, identity, model)
    target, precision = devices[0], resolve_dtype(dtype, *devices, stored=stored)
    spread = None if device_map is None else json.dumps(device_map, sort_keys=True)
    key = (identity, str(target), str(precision), quantization, spread)
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
                verbose=verbose,
            )
            give_back_free_memory()
            if dtype == "auto":
                chosen = str(precision).removeprefix("torch.")
                tell(f"The model {model!r} computes in {chosen}.", verbose=verbose)
        _remember(key, base)
    return base


def clear_base_models() -> None:
    """Forget all models, so that they are loaded anew. Fitted classifiers keep what they read."""
    with _lock:
        _recent.clear()
        _known.clear()
        _stored.clear()


def _check_loaded_by_name(name: str, value: Any, verb: str, remedy: str) -> None:
    """Raise if a pair of loaded objects comes with an option that only loading can follow."""
    if value is not None:
        msg = (
            f"ModelOptions({name}={value!r}) is for models that are loaded by name, and 'model' is "
            f"a pair of objects. Give the model's name or folder, or {verb} it while you load it: "
            f"from_pretrained(..., {remedy})."
        )
        raise ModelLoadingError(msg)


def _check_device_or_map(device: str, device_map: DeviceMap) -> None:
    if device != "auto" and device_map is not None:
        msg = (
            f"device={device!r} puts the whole model on one device, and device_map={device_map!r} "
            "its parts on several. Leave one of these two ModelOptions at its default."
        )
        raise ModelLoadingError(msg)


def _identity(name: str) -> str:
    """Return a hub id as it is; for a model on disk its path, and facts of all files that are read.

    The model that an adapter was trained on is read too.
    """
    path = find_path(name)
    if path is None:
        return name
    stats = [(file.name, file.stat()) for file in list_read_files(path)]
    facts = [(file, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for file, s in stats]
    return f"{path.resolve()} {facts} {_identity_of_base(path, name)}"


def _identity_of_base(path: Path, name: str) -> str:
    try:
        return _identity(read_base_name(path, name)) if find_adapter_folder(name) else ""
    except (ModelLoadingError, RecursionError):  # loading says what is wrong with it
        return ""


def _stored_dtype(identity: str, name: str) -> torch.dtype | None:
    """Return the precision of the weights in a model's files. Its configuration is read once."""
    if identity not in _stored:
        _stored[identity] = find_stored_dtype(name)
    return _stored[identity]


def _remember(key: _Key, base: BaseModel) -> None:
    with _lock:
        _known[key] = base
        _recent[key] = base
        _recent.move_to_end(key)
        while len(_recent) > N_KEPT_ALIVE:
            _recent.popitem(last=False)
