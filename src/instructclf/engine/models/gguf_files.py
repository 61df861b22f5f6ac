"""GGUF file → its header, checked before transformers reads anything of it.

GGUF is the format of llama.cpp: one file with weights, often in few bits, and the tokenizer. It
holds no code. Its weights are unpacked while loading, and then shared and tuned like any others.
Large models are split into several files, of which the first has the tokenizer.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from instructclf.engine.models.names import list_parts, split_source
from instructclf.engine.models.weight_files import check_not_pointer
from instructclf.exceptions import ModelLoadingError, SavedClassifierError
from instructclf.storage import fetch_file

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_FORMATS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""The types of single values, by their number in the file."""
_STRING, _ARRAY = 8, 9
_NUMBER, _N_PARTS, _N_TENSORS = "split.no", "split.count", "split.tensors.count"
"""In the headers of parts: which one it is, from 0; how many there are; tensors in all of them."""
_LAYER = re.compile(r"blk\.(\d+)\.")
_PRE_TOKENIZER = "tokenizer.ggml.pre"
_UNSTATED = (None, "default")
"""Old files do not say how text is split. transformers then splits it as GPT-2 does."""
_SAME_AS = {
    "qwen2": ("stablelm2", "hunyuan", "grok-2"),
    "llama-bpe": ("glm4", "chatglm-bpe"),
}
"""Names of llama.cpp for one way of splitting; transformers has an entry for the first of them."""
_LIKE_GPT2 = {
    *("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "mellum", "a.x-4.0"),
    *("exaone4", "granite-docling", "modern-bert", "roberta-bpe", "jina-v1-en", "jina-es"),
    *("jina-de", "jina-v2-code", "jina-v2-es", "jina-v2-de"),
}
_DIGITS_THEN_GPT2 = (
    "starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"
)  # fmt: skip
"""Each digit is a piece; what lies between is split as GPT-2 does."""


@dataclass(frozen=True)
class Header:
    """What a GGUF model says of itself.

    Parameters
    ----------
    values : dict
        Its metadata: numbers and texts, without arrays.
    length : int
        How many bytes it has in all its files, if none is missing.
    shapes : dict of str to list of int
        The shapes of its tensors, by their names.
    """

    values: dict[str, Any]
    length: int
    shapes: dict[str, list[int]]


def find_gguf_files(name: str) -> list[Path]:
    """Return the path of a GGUF file, and of the further files of its model if it is the first.

    They are fetched if they are on the hub.

    Raises
    ------
    ModelLoadingError
        If the repository cannot be reached, if a file is missing, or if the name is that of a later
        file of a model.
    """
    location, file, revision = split_source(name)
    path = Path(location) / str(file)
    paths = [path.with_name(part) for part in list_parts(path.name)]
    if path.is_file():
        missing = next((str(part) for part in paths if not part.is_file()), None)
        if missing is not None:
            msg = (
                f"The GGUF file {missing!r} is missing: the model has {len(paths)} files, all of "
                "which are read. Download or copy it to this folder."
            )
            raise ModelLoadingError(msg)
        return paths
    return [_fetch(name, location, part, revision) for part in list_parts(str(file))]


def _fetch(name: str, location: str, file: str, revision: str | None) -> Path:
    try:
        fetched = fetch_file(location, file, revision)
    except SavedClassifierError as error:
        msg = f"The model {name!r} could not be loaded. {error}"
        raise ModelLoadingError(msg) from error
    if fetched is None:
        msg = f"The repository {location!r} has no file {file!r}. Name one that it holds."
        raise ModelLoadingError(msg)
    return fetched


def check_gguf_file(*paths: Path) -> Header:
    """Return the header of a GGUF file, or of all files of a model together.

    Raises
    ------
    ModelLoadingError
        If a file is no GGUF file, damaged, incomplete, or of another model than the first.
    """
    headers = [_check_file(path) for path in paths]
    _check_belong_together(paths, headers)
    shapes = {name: shape for header in headers for name, shape in header.shapes.items()}
    return Header(headers[0].values, sum(header.length for header in headers), shapes)


def _check_file(path: Path) -> Header:
    check_not_pointer(path)
    size = path.stat().st_size
    try:
        header = _read_header(path)
    except ModelLoadingError:
        raise
    except (struct.error, ValueError, KeyError, OverflowError, MemoryError) as error:
        msg = (
            f"The GGUF file {str(path)!r} is damaged or incomplete: it ends or breaks off in its "
            f"header, and has {size:,} bytes. Download or copy it again."
        )
        raise ModelLoadingError(msg) from error
    if size < header.length:
        msg = (
            f"The GGUF file {str(path)!r} is incomplete: it has {size:,} of {header.length:,} "
            "bytes. Download or copy it again."
        )
        raise ModelLoadingError(msg)
    return header


def _check_belong_together(paths: Sequence[Path], headers: Sequence[Header]) -> None:
    """Raise ``ModelLoadingError`` unless these are all parts of one model, in their order."""
    owners: dict[str, Path] = {}
    for number, (path, header) in enumerate(zip(paths, headers, strict=True), 1):
        # A file that was joined from parts has no number, and 0 for how many there are.
        said = header.values.get(_NUMBER, 0) + 1, header.values.get(_N_PARTS) or 1
        if said != (number, len(paths)):
            msg = (
                f"The GGUF file {str(path)!r} is part {said[0]} of {said[1]} by its header, and "
                f"part {number} of {len(paths)} by its name. Give it its name back: "
                f"NAME-{said[0]:05d}-of-{said[1]:05d}.gguf."
            )
            raise ModelLoadingError(msg)
        others = [owners[name] for name in header.shapes if name in owners]
        if header.values.get(_N_TENSORS) != headers[0].values.get(_N_TENSORS):
            others.append(paths[0])
        if others:
            msg = (
                f"The GGUF files {str(others[0])!r} and {str(path)!r} are parts of different "
                "models. Download or copy all parts of one model."
            )
            raise ModelLoadingError(msg)
        owners |= dict.fromkeys(header.shapes, path)
    n_tensors = headers[0].values.get(_N_TENSORS, len(owners))
    if len(paths) > 1 and len(owners) != n_tensors:
        msg = (
            f"The parts of the model in {str(paths[0])!r} hold {len(owners)} of the {n_tensors} "
            "tensors that it counts. Download or copy all parts of one model."
        )
        raise ModelLoadingError(msg)


def _read_header(path: Path) -> Header:
    from gguf import GGML_QUANT_SIZES

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != _MAGIC:
            msg = f"{str(path)!r} is not a GGUF file: it does not begin with {_MAGIC.decode()!r}."
            raise ModelLoadingError(msg)
        reader = _Reader(data, 4)
        version, n_tensors, n_values = reader.take("IQQ")
        if version not in _VERSIONS:
            msg = (
                f"The GGUF file {str(path)!r} has version {version}, and versions {_VERSIONS} are "
                "read. Convert the model again with a current llama.cpp."
            )
            raise ModelLoadingError(msg)
        values = {}
        for _ in range(n_values):
            name = reader.take_text()
            values[name] = reader.take_value(*reader.take("I"))
        sizes: dict[Any, tuple[int, int]] = dict(GGML_QUANT_SIZES)
        end, shapes = 0, {}
        for _ in range(n_tensors):
            name = reader.take_text()
            (n_dimensions,) = reader.take("I")
            *shape, kind, offset = reader.take(f"{n_dimensions}QIQ")
            shapes[name] = shape
            block, n_bytes = sizes.get(kind, (1, 0))  # 0 for types that came later
            end = max(end, offset + prod(shape) // block * n_bytes)
        alignment = values.get("general.alignment", 32)
        return Header(values, -(-reader.position // alignment) * alignment + end, shapes)


class _Reader:
    """Takes values from the bytes of a file, one after the other."""

    def __init__(self, data: mmap.mmap, position: int) -> None:
        self._data, self.position = data, position

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._data, self.position)
        self.position += struct.calcsize(f"<{form}")
        return values

    def take_text(self) -> str:
        (length,) = self.take("Q")
        return self.take(f"{length}s")[0].decode()

    def take_value(self, kind: int) -> Any:
        """Take a number or a text. Arrays are skipped and give ``None``."""
        if kind == _STRING:
            return self.take_text()
        if kind != _ARRAY:
            return self.take(_FORMATS[kind])[0]
        kind, n_items = self.take("IQ")
        if kind in _FORMATS:
            self.position += n_items * struct.calcsize(f"<{_FORMATS[kind]}")
            return None
        for _ in range(n_items):
            if kind == _STRING:
                (length,) = self.take("Q")
                self.position += length
            else:
                self.take_value(kind)
        return None


def check_all_used(header: Header, shapes: Iterable[Sequence[int]], name: str) -> None:
    """Raise ``ModelLoadingError`` if transformers has dropped layers, biases or norms of a file.

    It does so without a word, for weights that the architecture does not have there. ``shapes`` are
    those of the loaded weights.
    """
    dropped = _find_dropped(header, sum(prod(shape) for shape in shapes if len(shape) == 1))
    if dropped:
        examples = ", ".join(repr(key) for key in dropped[:3])
        msg = (
            f"The GGUF file {name!r} holds weights that transformers has no place for in its "
            f"architecture, such as {examples}, and scores without them would be wrong. Use the "
            "original model in safetensors."
        )
        raise ModelLoadingError(msg)


def _find_dropped(header: Header, n_loaded: int) -> list[str]:
    """Name tensors of layers that the header does not count, or of vectors that are too many."""
    n_layers = header.values.get(f"{header.values.get('general.architecture')}.block_count")
    layers = {key: _LAYER.match(key) for key in header.shapes}
    beyond = [key for key, at in layers.items() if at and n_layers and int(at[1]) >= n_layers]
    if beyond and not any("nextn" in key for key in beyond):  # layers that draft tokens
        return beyond
    vectors = {
        key: shape[0]
        for key, shape in header.shapes.items()
        if len(shape) == 1 and key not in beyond and not key.startswith("rope_")  # computed anew
    }
    extra = sum(vectors.values()) - n_loaded
    if extra <= 0:
        return []
    sizes: Counter[str] = Counter()
    for key, size in vectors.items():
        sizes[_LAYER.sub("", key)] += size
    likely = [key for key in vectors if sizes[_LAYER.sub("", key)] == extra] or [*vectors]
    return [key for key in likely if key.endswith(".bias")] or likely


def find_splitting(header: Header, splits: dict[str, str], name: str) -> Any:
    """Return how text is split before tokenizing, or ``None`` if transformers knows it.

    It ignores names that it has no entry for among ``splits``, and then splits as GPT-2 does.

    Raises
    ------
    ModelLoadingError
        If this way of splitting is not known.
    """
    from tokenizers import Regex, pre_tokenizers

    wanted = header.values.get(_PRE_TOKENIZER)
    is_bpe = header.values.get("tokenizer.ggml.model") == "gpt2"
    if not is_bpe or wanted in splits or wanted in _UNSTATED or wanted in _LIKE_GPT2:
        return None
    twin = next((twin for twin, names in _SAME_AS.items() if wanted in names), None)
    if wanted in _DIGITS_THEN_GPT2:
        first: Any = pre_tokenizers.Digits(individual_digits=True)
    elif twin in splits:
        first = pre_tokenizers.Split(Regex(splits[twin]), behavior="isolated")
    else:
        msg = (
            f"The GGUF file {name!r} splits text before tokenizing in a way that transformers does "
            f"not know, and its scores would be wrong: {_PRE_TOKENIZER} is {wanted!r}. Use the "
            "original model in safetensors, or load the model and its own tokenizer with "
            "transformers and give both: model=(model, tokenizer)."
        )
        raise ModelLoadingError(msg)
    then = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=twin is None)
    return pre_tokenizers.Sequence([first, then])
