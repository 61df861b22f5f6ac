"""GGUF files → the same model in safetensors. transformers unpacks and names the weights.

By itself, transformers has the metadata of a file parsed three times, for its configuration, its
tokenizer and its weights, with one array for each token. Here the three share one reader, which is
faster, and weights are unpacked a few at a time.
"""

from __future__ import annotations

import inspect
import json
import logging
import mmap
import os
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from instructclf.engine.models.gguf_files import (
    Header,
    check_all_used,
    check_gguf_file,
    find_gguf_files,
    find_splitting,
)
from instructclf.engine.models.names import Source, split_source
from instructclf.engine.models.pretrained import (
    load_config,
    load_model,
    load_tokenizer,
    read_tokenizer,
    replaced,
    without_bar,
    write_tokenizer,
)
from instructclf.engine.models.weight_files import list_converted_files
from instructclf.engine.running.locks import process_state
from instructclf.engine.running.progress import announced
from instructclf.exceptions import ModelLoadingError
from instructclf.storage import cache_folder, find_conversion, remove_conversion

_logger = logging.getLogger(__name__)

_ARRAY, _STRING = 9, 8
"""The types of values in a GGUF file that have no fixed length."""
_LONG = 10_000
"""Arrays with more items are those of the tokenizer."""
_SLICED = ("token_embd.weight", "output.weight")
"""Tensors with one row for each token, which may be most of a small model."""
_N_SLICES = 32
"""How many parts the largest tensors are unpacked in, if all of the model were one of them."""
_SHARD = "256MB"
_LEGACY = "transformers.modeling_gguf_pytorch_utils"
"""The module that unpacks most architectures."""
_SWITCH = "INSTRUCTCLF_GGUF_CACHE"
_FORMAT = "1"
"""Changes when this package converts otherwise."""


@contextmanager
def reading_once(path: Path, *others: Path) -> Iterator[Any]:
    """Let transformers share one reader of this file inside the block, and draw no bar of its own.

    It has the tensors of the model's other files too. Three names are replaced for this thread: how
    gguf opens a file and names tensors, and the bar. Without one, loading is slower or draws a bar.
    """
    import gguf

    thread, open_file = threading.get_ident(), gguf.GGUFReader
    reader, *rest = map(_make_reader(open_file), (path, *others))
    reader.tensors += [tensor for part in rest for tensor in part.tensors]

    def open_once(name: Any, *mode: Any, **options: Any) -> Any:
        is_ours = threading.get_ident() == thread and path.samefile(name)
        return reader if is_ours else open_file(name, *mode, **options)

    with process_state, ExitStack() as stack:
        stack.enter_context(replaced(gguf, "GGUFReader", lambda _: open_once))
        stack.enter_context(replaced(gguf, "get_tensor_name_map", cache))
        with suppress(ImportError):
            quiet = replaced(import_module(_LEGACY), "tqdm", lambda _: lambda items, **_: items)
            stack.enter_context(quiet)
        yield reader


def _make_reader(base: Any) -> Any:
    """Return a reader that takes arrays as a whole. The one of gguf takes values one by one."""

    class Reader(base):
        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            data: Any = np.asarray(self.data)
            start = int(orig_offs)
            kind, n_items = struct.unpack_from("<IQ", data, start)
            numbers = self.gguf_scalar_to_np.get(kind)
            if raw_type != _ARRAY or (kind != _STRING and numbers is None):
                return super()._get_field_parts(orig_offs, raw_type)
            end = start + struct.calcsize("<IQ")
            parts = [data[start : start + 4].view(np.uint32), data[start + 4 : end].view(np.uint64)]
            if numbers is None:
                for _ in range(n_items):
                    (length,) = struct.unpack_from("<Q", data, end)
                    parts.append(data[end + 8 : end + 8 + length])
                    end += 8 + length
            else:
                values = data[end : end + n_items * np.dtype(numbers).itemsize].view(numbers)
                parts.extend(values[:, None])
                end += values.nbytes
            return end - start, parts, [*range(2, 2 + n_items)], [raw_type, kind][: 1 + n_items]

    return Reader


def _find_splitting(header: Header, source: str) -> Any:
    """Return how text is split before tokenizing, if transformers reads that wrongly."""
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:  # releases before 5.23 choose by the architecture
        return None
    return find_splitting(header, GGUF_PRE_TOKENIZER_SPLITS, source)


def _write_weights(
    reader: Any, path: Path, config: Any, dtype: torch.dtype, folder: Path
) -> list[torch.Size] | None:
    """Write the weights of a GGUF file as safetensors, a layer at a time.

    Returns
    -------
    list of Size or None
        The shapes of the model's weights. ``None`` if this release of transformers, or this
        architecture, has no way to unpack only a part of a file.
    """
    from transformers import AutoModelForCausalLM

    try:
        load = _find_loader(reader)
        if load is None:
            return None
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        options = {"return_tensors": True, "model_to_load": model, "torch_dtype": dtype}

        def unpack(tensors: list[Any]) -> dict[str, torch.Tensor]:
            reader.tensors = tensors
            weights = load(str(path), **options)["tensors"]
            for tensor in tensors if hasattr(mmap, "MADV_DONTNEED") else ():  # read, not needed
                tensor.data._mmap.madvise(mmap.MADV_DONTNEED)  # noqa: SLF001  (NumPy has no other)
            return weights

        with _without_tokens(reader):
            _write_shards(unpack_all(reader.tensors, unpack), folder)
    except (OSError, SafetensorError):
        raise
    except Exception:  # in a release where this works otherwise, the whole file can be loaded
        _logger.debug("The weights of %s are not unpacked in parts", path, exc_info=True)
        for file in folder.glob("model*.safetensors"):
            file.unlink()
        return None
    return _shapes(model)


def _find_loader(reader: Any) -> Any:
    """Return the function with which transformers unpacks the tensors that a reader has."""
    try:
        load = import_module(_LEGACY).load_gguf_checkpoint
    except (ImportError, AttributeError):
        return None
    try:
        from transformers.integrations.gguf.utils import is_gguf_arch_supported
    except ImportError:  # releases before 5.20
        is_elsewhere = False
    else:
        is_elsewhere = is_gguf_arch_supported(reader.fields["general.architecture"].contents())
    is_lean = "torch_dtype" in inspect.signature(load).parameters  # since 5.12, or before
    return load if is_lean and not is_elsewhere else None


@contextmanager
def _without_tokens(reader: Any) -> Iterator[None]:
    """Cut the arrays of the tokenizer, which weights do not need, to their first item meanwhile."""
    fields, tensors = reader.fields, reader.tensors
    reader.fields = {
        name: field._replace(data=field.data[:1]) if len(field.data) > _LONG else field
        for name, field in fields.items()
    }
    try:
        yield
    finally:
        reader.fields, reader.tensors = fields, tensors


def unpack_all(
    tensors: list[Any], unpack: Callable[[list[Any]], dict[str, torch.Tensor]]
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield weights of the model: large ones with a row for each token, and then layer by layer.

    Tensors of one layer stay together, because some become one weight.
    """
    size = sum(int(tensor.n_elements) for tensor in tensors) // _N_SLICES
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for tensor in tensors:
        if tensor.name in _SLICED and tensor.n_elements > size:
            yield _unpack_rows(tensor, size, unpack)
        else:
            layer = tensor.name.split(".")[:2] if tensor.name.startswith("blk.") else []
            groups[".".join(layer)].append(tensor)
    yield from map(unpack, groups.values())


def _unpack_rows(
    tensor: Any, size: int, unpack: Callable[[list[Any]], dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Unpack a tensor some rows at a time, all of which transformers must leave in their place."""
    from gguf import dequantize

    n_rows = len(tensor.data)
    step = max(1, size * n_rows // int(tensor.n_elements))
    whole: dict[str, torch.Tensor] = {}
    for start in range(0, n_rows, step):
        rows = tensor._replace(data=tensor.data[start : start + step])
        for name, values in unpack([rows]).items():
            if start == 0:
                kept = torch.tensor(dequantize(rows.data, rows.tensor_type), dtype=values.dtype)
                if not torch.equal(values, kept):
                    raise ValueError(name)
                whole[name] = values.new_empty((n_rows, *values.shape[1:]))
            whole[name][start : start + step] = values
    return whole


def _write_shards(parts: Iterable[dict[str, torch.Tensor]], folder: Path) -> None:
    """Write each part into a file of its own, and the index that transformers reads."""
    files: dict[str, str] = {}
    for number, part in enumerate(filter(None, parts)):
        if files.keys() & part.keys():
            raise ValueError(number)
        file = f"model-{number:05d}.safetensors"
        weights = {name: weight.contiguous() for name, weight in part.items()}
        save_file(weights, folder / file, {"format": "pt"})
        files |= dict.fromkeys(part, file)
    index = json.dumps({"metadata": {}, "weight_map": files})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")


def load_gguf_file(
    source: str,
    place: Callable[[str, Source], Any],
    dtype: torch.dtype,
    *,
    keep: bool,
    verbose: int | bool,
) -> tuple[Any, Any]:
    """Load a model and its tokenizer from the folder that a GGUF file was converted to.

    The file is converted if there is no such folder. If ``keep`` is false, or none can be written,
    it is loaded as it is. ``place`` loads the model that a name stands for from where its parts
    say, onto its device. With ``verbose``, a line says when the file is converted for long.

    Raises
    ------
    ModelLoadingError
        If the file cannot be read, or transformers cannot load all of it.
    """
    paths, parts = find_gguf_files(source), split_source(source)
    for is_last in (False, True) if keep and _keeps_conversions() else ():
        folder = _find_folder(source, paths, dtype, verbose=verbose)
        if folder is None:
            break
        try:
            model = place(source, Source(str(folder), None))
            tokenizer = read_tokenizer(folder)
        except ModelLoadingError:
            remove_conversion(folder)
            if is_last:
                raise
        else:
            for named in (tokenizer, model, model.config):
                named.name_or_path = parts.location
            return model, tokenizer
    header = check_gguf_file(*paths)
    splitting = _find_splitting(header, source)
    with reading_once(*paths):
        model = place(source, parts)
        check_all_used(header, _shapes(model), source)
        return model, _load_tokenizer(source, splitting)


def _keeps_conversions() -> bool:
    return os.environ.get(_SWITCH, "").upper() not in {"0", "OFF", "NO", "FALSE"}


def _find_folder(
    source: str, paths: Sequence[Path], dtype: torch.dtype, *, verbose: int | bool
) -> Path | None:
    packages = [f"{name} {version(name)}" for name in ("transformers", "tokenizers", "gguf")]
    what = f"Converting {paths[0].name} to safetensors, this time only"

    def convert(folder: Path) -> None:
        with announced(what, verbose=verbose):
            _convert(source, paths, dtype, folder)

    return find_conversion(
        cache_folder("gguf"),
        lambda: list_converted_files(paths),
        (_FORMAT, *packages, str(dtype).removeprefix("torch.")),
        convert,
    )


def _convert(source: str, paths: Sequence[Path], dtype: torch.dtype, folder: Path) -> None:
    """Write the model of a GGUF file into a folder, with its weights in this data type."""
    header, parts = check_gguf_file(*paths), split_source(source)
    splitting = _find_splitting(header, source)
    with reading_once(*paths) as reader:
        config = load_config(source, parts)
        shapes = _write_weights(reader, paths[0], config, dtype, folder)
        if shapes is None:
            shapes = _write_whole(load_model(source, parts, dtype), folder)
        config.save_pretrained(folder)
        check_all_used(header, shapes, source)
        write_tokenizer(_load_tokenizer(source, splitting), folder)


def _write_whole(model: Any, folder: Path) -> list[torch.Size]:
    with without_bar():
        model.save_pretrained(folder, max_shard_size=_SHARD)
    return _shapes(model)


def _shapes(model: Any) -> list[torch.Size]:
    return [weight.shape for weight in model.state_dict().values()]


def _load_tokenizer(source: str, splitting: Any) -> Any:
    tokenizer = load_tokenizer(source)
    if splitting is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = splitting
    return tokenizer
