"""Name → base model and tokenizer."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from instructclf import bundled
from instructclf.engine.models.adapter_folders import (
    check_mergeable,
    find_adapter_folder,
    merge_adapter_folder,
    read_base_name,
)
from instructclf.engine.models.decoder_layers import has_encoder
from instructclf.engine.models.gguf_conversion import load_gguf_file
from instructclf.engine.models.gguf_files import check_gguf_file, find_gguf_files
from instructclf.engine.models.names import Source, split_source
from instructclf.engine.models.placement import input_device
from instructclf.engine.models.pretrained import (
    load_config,
    load_model,
    load_tokenizer,
    quantised,
)
from instructclf.engine.models.quantization import (
    check_not_repacked,
    check_quantization,
    prevent_repacking,
)
from instructclf.engine.models.sources import (
    TOKENIZER_FILES,
    check_architecture,
    check_has_decoder,
    check_source,
    is_model_and_tokenizer,
    warn_of_remote_code,
)
from instructclf.engine.models.weight_files import check_weights
from instructclf.engine.running.locks import process_state
from instructclf.engine.running.padding_masks import without_reading
from instructclf.exceptions import ModelLoadingError, ScoringError

_logger = logging.getLogger(__name__)

BUNDLED = "bundled"
_GGUF_TYPES = {None: None, 0: torch.float32, 1: torch.float16}
"""What a GGUF file says of its type, if not that weights are in blocks of a few bits."""
DeviceMap = str | dict[str, int | str] | None
"""``"auto"``, or a device for each part of a model, as accelerate takes it."""


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A language model with its tokenizer. Many classifiers read it and none changes it.

    Parameters
    ----------
    name : str
        The name that it was loaded by, or the class of a model that was given as an object.
    model : torch.nn.Module
        The causal or encoder-decoder language model, in evaluation mode.
    tokenizer : object
        Its transformers tokenizer.
    """

    name: str
    model: Any
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        """The device that takes inputs."""
        return input_device(self.model)

    @property
    def config(self) -> Any:
        """The configuration of the text model."""
        return self.model.config.get_text_config()

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the prompt, and a decoder of its own produces the label."""
        return has_encoder(self.model)

    @property
    def context_length(self) -> int | None:
        """The longest input in tokens, ``None`` if neither model nor tokenizer states it."""
        lengths = (
            getattr(self.config, "max_position_embeddings", None),
            getattr(self.config, "max_encoder_position_embeddings", None),
            self.tokenizer.model_max_length,
        )
        # Tokenizers without a limit state a very large number.
        known = [int(length) for length in lengths if length is not None and 0 < length < 10**9]
        return min(known, default=None)


def load_base_model(
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    quantization: str | None = None,
    device_map: DeviceMap = None,
    verbose: int | bool = False,
) -> BaseModel:
    """Load a model and its tokenizer from a folder, the hub, or this package.

    Only safetensors and GGUF weights are read, and code that comes with a model is never run.
    The name is ``"bundled"``, or one that `split_source` takes; an adapter is merged into the model
    that it was trained on. Layers in ``"4bit"`` compute in ``dtype``. A device map replaces
    ``device``. The result is frozen and in evaluation mode. With ``verbose``, a line says when a
    file is converted for long.

    Raises
    ------
    ModelLoadingError
        If the model does not exist, lacks a tokenizer or safetensors weights, or is not a
        language model; if it is an adapter that cannot be merged; or if the
        quantization is unknown, or cannot compute in this type.
    MissingExtraError
        If quantising, or reading GGUF, needs a package that is not installed.
    """
    check_quantization(quantization, dtype)
    _logger.info("Loading base model %r (%s, %s, %s)", name, dtype, device, quantization)
    source = str(bundled.model_path()) if name == BUNDLED else name
    adapter = find_adapter_folder(source)
    if adapter is not None:
        check_mergeable(source, quantization, device_map)
        return _load_with_adapter(name, adapter, device, dtype, verbose=verbose)
    check_source(source)
    parts = split_source(source)
    place = partial(
        _place_model, device=device, dtype=dtype, quantization=quantization, device_map=device_map
    )
    if parts.file is not None:
        keep = quantization is None  # transformers says that it is not quantised again
        return _freeze(name, *load_gguf_file(source, place, dtype, keep=keep, verbose=verbose))
    if not parts.may_be_on_hub:
        check_weights(Path(parts.location))
    return _freeze(name, place(source, parts), load_tokenizer(source))


def find_stored_dtype(name: str) -> torch.dtype | None:
    """Return the precision in which a model's weights are stored, ``None`` if that is unknown.

    The configuration says so. Weights of 8 bits or less in GGUF files count as bfloat16.

    Raises
    ------
    ModelLoadingError
        If the configuration cannot be loaded.
    """
    source = str(bundled.model_path()) if name == BUNDLED else name
    adapter = find_adapter_folder(source)
    if adapter is not None:
        try:
            return find_stored_dtype(read_base_name(adapter, name))
        except (ModelLoadingError, RecursionError):  # loading says what is wrong with it
            return None
    check_source(source)
    parts = split_source(source)
    if parts.file is not None:
        return _GGUF_TYPES.get(_gguf_type(source), torch.bfloat16)
    return load_config(source, parts).get_text_config().dtype


def _gguf_type(source: str) -> int | None:
    return check_gguf_file(*find_gguf_files(source)).values.get("general.file_type")


def _place_model(
    source: str,
    parts: Source,
    *,
    device: torch.device,
    dtype: torch.dtype,
    quantization: str | None,
    device_map: DeviceMap,
) -> Any:
    # While loading, transformers changes torch's default data type and turns off the functions that
    # initialise weights: another thread would make adapters of this type, and uninitialised.
    with process_state:
        options = quantised(dtype) if quantization is not None else {}
        if quantization is not None or device_map is not None:
            options |= {"device_map": device_map or {"": device}}
            model = load_model(source, parts, dtype, options)
        else:
            model = load_model(source, parts, dtype).to(device)
    prevent_repacking(model)
    return model


def _freeze(name: str, model: Any, tokenizer: Any) -> BaseModel:
    return BaseModel(name, model.requires_grad_(requires_grad=False).eval(), tokenizer)


def _load_with_adapter(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype, *, verbose: int | bool
) -> BaseModel:
    """Load the model that an adapter was trained on, and merge the adapter into it."""
    base_name = read_base_name(folder, name)
    try:
        base = load_base_model(base_name, device=device, dtype=dtype, verbose=verbose)
    except ModelLoadingError as error:
        error.add_note(f"The adapter {name!r} names it as the model that it was trained on.")
        raise
    model = merge_adapter_folder(base.model, folder, name)
    has_tokenizer = any((folder / file).is_file() for file in TOKENIZER_FILES)
    tokenizer = load_tokenizer(str(folder)) if has_tokenizer else base.tokenizer
    return _freeze(name, model, tokenizer)


def install_attention(view: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Give a view an attention function of this package that extends the one of transformers.

    ``make`` makes it from the function that the view uses, torch's scaled dot-product attention or
    the one that its architecture writes out. transformers registers it under ``name`` and that of
    the function.

    Raises
    ------
    ScoringError
        If the view uses another attention function, or ignores the change.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import eager_mask, sdpa_mask

    known: dict[str, tuple[Any, Any]] = {
        "sdpa": (sdpa_attention_forward, sdpa_mask),
        "eager": (_eager_attention, eager_mask),
    }
    current = getattr(view.config, "_attn_implementation", None)
    if current in {f"{name}_{extended}" for extended in known}:
        return
    wanted = f"{name}_{current}"
    if current in known:
        attention, mask = known[current]
        AttentionInterface.register(wanted, make(attention))
        AttentionMaskInterface.register(wanted, without_reading(mask))
        view.set_attn_implementation(wanted)
    if getattr(view.config, "_attn_implementation", None) != wanted:
        msg = f"The attention of {type(view).__name__} ({current}) cannot be changed."
        raise ScoringError(msg)


def _eager_attention(module: Any, *inputs: Any, **options: Any) -> Any:
    """Call the attention function that the architecture of a layer writes out."""
    written_out = vars(sys.modules[type(module).__module__])["eager_attention_forward"]
    return written_out(module, *inputs, **options)


def wrap_loaded_model(pair: tuple[Any, Any]) -> BaseModel:
    """Make a base model of a loaded model and its tokenizer, which stay the same objects.

    It is named after the model's class.

    Raises
    ------
    ModelLoadingError
        If the pair is not a language model and a tokenizer, or bitsandbytes has repacked
        its weights.

    Warns
    -----
    RemoteCodeWarning
        If the model or the tokenizer runs code that came with it.
    """
    if not is_model_and_tokenizer(*pair):
        kinds = ", ".join(type(thing).__name__ for thing in pair)
        msg = (
            "A 'model' given as objects must be (model, tokenizer), a transformers causal or "
            f"encoder-decoder language model and its tokenizer. Got ({kinds})."
        )
        raise ModelLoadingError(msg)
    model, tokenizer = pair
    warn_of_remote_code(model, tokenizer)
    name = type(model).__name__
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # one of PEFT
    is_masked = [kind for kind in model.config.architectures or [] if "ForMaskedLM" in kind]
    check_architecture(model.config, name, [type(inner).__name__, *is_masked])
    if has_encoder(model):
        check_has_decoder(inner, name)
    check_not_repacked(model, name)
    return BaseModel(name, model, tokenizer)
