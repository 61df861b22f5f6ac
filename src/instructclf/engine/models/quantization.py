"""Weights in 4 bits: checks before they are loaded, and a layout that gradients can pass.

bitsandbytes stores and multiplies them. It is imported only when 4 bits are requested.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from instructclf.engine.running.locks import process_state
from instructclf.exceptions import MissingExtraError, ModelLoadingError

QUANTIZATIONS = ("4bit",)
"""Not 8 bits: LLM.int8 rounds the numbers of a text differently with other texts in its batch."""

_REPACKS = "support_avx512bf16_for_cpu"
_IS_REPACKED = "packing_format_for_cpu"


def check_quantization(quantization: str | None, dtype: torch.dtype) -> None:
    """Check that this machine can quantise weights this way, and compute with them in this type.

    ``None`` leaves weights as they are.

    Raises
    ------
    ModelLoadingError
        If the name is unknown, or such weights cannot compute in this type.
    MissingExtraError
        If bitsandbytes is not installed.
    """
    if quantization is None:
        return
    if quantization not in QUANTIZATIONS:
        msg = (
            f"The 'quantization' parameter of ModelOptions must be one of {QUANTIZATIONS} or None. "
            f"Got {quantization!r}."
        )
        raise ModelLoadingError(msg)
    if dtype == torch.float64:
        msg = (
            f"ModelOptions(quantization={quantization!r}) computes in float32, bfloat16 or "
            "float16. Got dtype='float64'."
        )
        raise ModelLoadingError(msg)
    try:
        with without_repacking_hint():
            import_module("bitsandbytes")
    except ImportError as error:
        msg = (
            f"ModelOptions(quantization={quantization!r}) needs bitsandbytes. "
            'Install it with pip install "instructclf[quantization]".'
        )
        raise MissingExtraError(msg) from error


@contextmanager
def without_repacking_hint() -> Iterator[None]:
    """Silence bitsandbytes, which recommends a package for repacking weights when it is imported.

    `prevent_repacking` turns repacking off. PEFT imports bitsandbytes if it is installed. Inside
    the block, bitsandbytes logs errors only.
    """
    logger = logging.getLogger("bitsandbytes")
    with process_state:  # without the lock, a second thread could take ERROR for the usual level
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def quantization_states(model: Any) -> Iterator[Any]:
    """Yield the scales, shape and type of each 4-bit weight, which its layer holds too."""
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            yield state


def is_quantised(model: Any) -> bool:
    """Say whether bitsandbytes stores weights of a model in 4 or 8 bits."""
    return getattr(model, "quantization_method", None) == "bitsandbytes"


def dequantised(model: Any, name: str) -> Any:
    """Return a model whose weights bitsandbytes has not quantised, or unpack them in place.

    Raises
    ------
    ModelLoadingError
        If transformers cannot unpack them.
    """
    if not is_quantised(model):
        return model
    try:
        return model.dequantize(dtype=model.get_input_embeddings().weight.dtype)
    except (NotImplementedError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        msg = (
            f"The weights of {name!r} are quantised, and could not be unpacked to merge an adapter "
            f"into them. Give a model that is not quantised. transformers said: {error}"
        )
        raise ModelLoadingError(msg) from error


def prevent_repacking(model: Any) -> None:
    """Keep bitsandbytes from reordering weights at their first use.

    On CPUs with AVX512-BF16 it does so in evaluation mode, for speed. Reordered weights compute in
    bfloat16 whatever type was requested, and silently pass no gradient back to the layers before
    them. All views share these weights, so a single view could spoil them for all.
    Only a switch of each layer changes here, and models that are not quantised have none.
    """
    for module in model.modules():
        if hasattr(module, _REPACKS):
            setattr(module, _REPACKS, False)


def check_not_repacked(model: Any, name: str) -> None:
    """Raise ``ModelLoadingError`` if bitsandbytes reordered weights: see `prevent_repacking`."""
    if any(getattr(state, _IS_REPACKED, False) for state in quantization_states(model)):
        msg = (
            f"bitsandbytes repacked the 4-bit weights of this {name} when the model first ran on "
            "this CPU. Repacked weights compute in bfloat16, and no adapter can be tuned on them. "
            "Load the model again and pass it before running it, or give its name or folder with "
            "model_options=ModelOptions(quantization='4bit')."
        )
        raise ModelLoadingError(msg)


def compute_dtype(model: Any) -> torch.dtype:
    """Return the least precise type that a model computes in: quantised layers may have another."""
    dtypes = {model.get_input_embeddings().weight.dtype}
    dtypes |= {getattr(module, "compute_dtype", None) for module in model.modules()}
    floating = [d for d in dtypes if isinstance(d, torch.dtype) and d.is_floating_point]
    return max(floating, key=lambda dtype: torch.finfo(dtype).eps)
