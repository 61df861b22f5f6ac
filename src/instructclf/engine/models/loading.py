"""Name → base model and tokenizer. The only module that imports transformers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from instructclf.engine.models.gguf_files import (
    Header,
    check_all_used,
    check_gguf_file,
    find_gguf_file,
    find_splitting,
)
from instructclf.engine.models.names import A_NAME, split_source
from instructclf.engine.models.placement import input_device
from instructclf.engine.models.quantization import (
    check_not_repacked,
    check_quantization,
    prevent_repacking,
)
from instructclf.engine.models.sources import (
    TOKENIZER_FILES,
    check_all_fit,
    check_architecture,
    check_source,
    is_model_and_tokenizer,
    warn_of_remote_code,
)
from instructclf.engine.models.weight_files import check_weights
from instructclf.engine.running.locks import process_state
from instructclf.exceptions import ModelLoadingError, ScoringError

_logger = logging.getLogger(__name__)

BUNDLED = "bundled"
DeviceMap = str | dict[str, int | str] | None
"""``"auto"``, or a device for each part of a model, as accelerate takes it."""
_LONGEST_TEXT = 300


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A causal language model with its tokenizer. Many classifiers read it and none changes it.

    Parameters
    ----------
    name : str
        The name that it was loaded by, or the class of a model that was given as an object.
    model : torch.nn.Module
        The causal language model, in evaluation mode.
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
    def context_length(self) -> int | None:
        """The longest input in tokens, ``None`` if neither model nor tokenizer states it."""
        lengths = (
            getattr(self.config, "max_position_embeddings", None),
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
) -> BaseModel:
    """Load a model and its tokenizer from a folder, the hub, or this package.

    Only safetensors and GGUF weights are read, and code that comes with a model is never run.
    The name is ``"bundled"``, or one that `split_source` takes; an adapter is merged into the model
    that it was trained on. Layers in ``"4bit"`` compute in ``dtype``. A device map replaces
    ``device``. The result is frozen and in evaluation mode.

    Raises
    ------
    ModelLoadingError
        If the model does not exist, lacks a tokenizer or safetensors weights, or is not a
        decoder-only language model; if it is an adapter that cannot be merged; or if the
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
        return _load_with_adapter(name, adapter, device, dtype)
    check_source(source)
    parts = split_source(source)
    header = None if parts.file is None else check_gguf_file(find_gguf_file(source))
    splitting = None if header is None else _find_splitting(header, source)
    if header is None and not parts.may_be_on_hub:
        check_weights(Path(parts.location))
    model = _place_model(source, device, dtype, quantization, device_map)
    if header is not None:
        check_all_used(header, [weight.shape for weight in model.state_dict().values()], source)
    tokenizer = _load_tokenizer(source)
    if splitting is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = splitting
    return _freeze(name, model, tokenizer)


def _place_model(
    source: str,
    device: torch.device,
    dtype: torch.dtype,
    quantization: str | None,
    device_map: DeviceMap,
) -> Any:
    # While loading, transformers changes torch's default data type and turns off the functions that
    # initialise weights: another thread would make adapters of this type, and uninitialised.
    with process_state:
        options = _quantised(dtype) if quantization is not None else {}
        if quantization is not None or device_map is not None:
            model = _load_model(source, dtype, options | {"device_map": device_map or {"": device}})
        else:
            model = _load_model(source, dtype).to(device)
    prevent_repacking(model)
    return model


def _freeze(name: str, model: Any, tokenizer: Any) -> BaseModel:
    return BaseModel(name, model.requires_grad_(requires_grad=False).eval(), tokenizer)


def _load_with_adapter(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype
) -> BaseModel:
    """Load the model that an adapter was trained on, and merge the adapter into it."""
    base_name = read_base_name(folder, name)
    try:
        base = load_base_model(base_name, device=device, dtype=dtype)
    except ModelLoadingError as error:
        error.add_note(f"The adapter {name!r} names it as the model that it was trained on.")
        raise
    model = merge_adapter_folder(base.model, folder, name)
    has_tokenizer = any((folder / file).is_file() for file in TOKENIZER_FILES)
    tokenizer = _load_tokenizer(str(folder)) if has_tokenizer else base.tokenizer
    return _freeze(name, model, tokenizer)


def install_attention(view: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Give a view an attention function of this package that extends the one of transformers.

    ``make`` makes it from torch's scaled dot-product attention, which the view has to use, and
    transformers registers it under ``name``.

    Raises
    ------
    ScoringError
        If the view uses another attention function, or ignores the change.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    current = getattr(view.config, "_attn_implementation", None)
    if current == name:
        return
    if current == "sdpa":
        AttentionInterface.register(name, make(sdpa_attention_forward))
        AttentionMaskInterface.register(name, sdpa_mask)
        view.set_attn_implementation(name)
    if getattr(view.config, "_attn_implementation", None) != name:
        msg = f"The attention of {type(view).__name__} ({current}) cannot be changed."
        raise ScoringError(msg)


def wrap_loaded_model(pair: tuple[Any, Any]) -> BaseModel:
    """Make a base model of a loaded model and its tokenizer, which stay the same objects.

    It is named after the model's class.

    Raises
    ------
    ModelLoadingError
        If the pair is not a causal language model and a tokenizer, or bitsandbytes has repacked
        its weights.

    Warns
    -----
    RemoteCodeWarning
        If the model or the tokenizer runs code that came with it.
    """
    if not is_model_and_tokenizer(*pair):
        kinds = ", ".join(type(thing).__name__ for thing in pair)
        msg = (
            "A 'model' given as objects must be (model, tokenizer), a transformers causal language "
            f"model and its tokenizer. Got ({kinds})."
        )
        raise ModelLoadingError(msg)
    model, tokenizer = pair
    warn_of_remote_code(model, tokenizer)
    name = type(model).__name__
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # one of PEFT
    is_masked = [kind for kind in model.config.architectures or [] if "ForMaskedLM" in kind]
    check_architecture(model.config, name, [type(inner).__name__, *is_masked])
    check_not_repacked(model, name)
    return BaseModel(name, model, tokenizer)


def _quantised(dtype: torch.dtype) -> dict[str, Any]:
    """Return arguments that make transformers quantise weights as they arrive on their device.

    NF4 with quantised scales. Source: Dettmers et al., "QLoRA: Efficient Finetuning of Quantized
    LLMs" (NeurIPS 2023), sections 3 and 4.
    """
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config}


def _load_model(source: str, dtype: torch.dtype, options: dict[str, Any] | None = None) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    parts = split_source(source)
    is_gguf = parts.file is not None
    try:
        config: Any = AutoConfig.from_pretrained(
            parts.location, trust_remote_code=False, **parts.options
        )
        check_architecture(config, source, config.architectures or [])
        with _without_progress_bar():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                parts.location,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # to name them: see check_all_fit
                **parts.options,
                **(_unpacked() if is_gguf and not options else {}),
                **(options or {}),
            )
    except ModelLoadingError:
        raise
    except Exception as error:  # readers of damaged files raise anything
        msg = (
            f"The model {source!r} could not be loaded: it must be {A_NAME}. transformers said: "
            f"{_shortened(error)}"
        )
        raise ModelLoadingError(msg) from error
    model, found = loaded
    check_all_fit(found, config, source)
    return model


def _unpacked() -> dict[str, Any]:
    """Return arguments that make transformers unpack all weights of a GGUF file."""
    import transformers

    # Releases before 5.23 lack this class, and always unpack.
    make: Any = getattr(transformers, "GgufConfig", None)
    return {} if make is None else {"quantization_config": make(dequantize=True)}


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar for each file of weights."""
    from transformers.utils import logging as transformers_logging

    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


def _load_tokenizer(source: str) -> Any:
    from transformers import AutoTokenizer

    parts = split_source(source)
    try:
        return AutoTokenizer.from_pretrained(
            parts.location, trust_remote_code=False, **parts.options
        )
    except Exception as error:  # readers of damaged files raise anything
        said = _shortened(error)
        msg = f"The tokenizer of {source!r} could not be loaded. transformers said: {said}"
        raise ModelLoadingError(msg) from error


def _shortened(error: Exception) -> str:
    """Return the text of an error on one line. Some list all that there is."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} …"


def _find_splitting(header: Header, source: str) -> Any:
    """Return how text is split before tokenizing, if transformers reads that wrongly."""
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:  # releases before 5.23 choose by the architecture
        return None
    return find_splitting(header, GGUF_PRE_TOKENIZER_SPLITS, source)
