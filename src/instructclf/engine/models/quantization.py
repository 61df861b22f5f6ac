"""Weights in 4 bits: what they need to be loaded, to be shared and to be trained on.

bitsandbytes stores and multiplies them. Nothing here imports it unless somebody asks for 4 bits.
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
"""8 bits are missing on purpose: LLM.int8 rounds a text by what else is in its batch."""

_REPACKS = "support_avx512bf16_for_cpu"
_IS_REPACKED = "packing_format_for_cpu"


def check_quantization(quantization: str | None, dtype: torch.dtype) -> None:
    """Check that weights can be quantised this way and computed with in this type.

    Parameters
    ----------
    quantization : str or None
        A name in ``QUANTIZATIONS``, or ``None`` for weights as they are.
    dtype : torch.dtype
        What the model computes in.

    Raises
    ------
    ValueError
        If there is no such way, or it cannot compute in this type.
    MissingExtraError
        If bitsandbytes is not installed.
    """
    if quantization is None:
        return
    if quantization not in QUANTIZATIONS:
        msg = (
            f"The 'quantization' parameter must be one of {QUANTIZATIONS} or None. "
            f"Got {quantization!r}."
        )
        raise ValueError(msg)
    if dtype == torch.float64:
        msg = (
            f"quantization={quantization!r} computes in float32, bfloat16 or float16. "
            "Got dtype='float64'."
        )
        raise ValueError(msg)
    _import_bitsandbytes(quantization)


def _import_bitsandbytes(quantization: str) -> None:
    try:
        with without_layout_hint():
            import_module("bitsandbytes")
    except ImportError as error:
        msg = (
            f"quantization={quantization!r} needs bitsandbytes. "
            'Install it with pip install "instructclf[quantization]".'
        )
        raise MissingExtraError(msg) from error


@contextmanager
def without_layout_hint() -> Iterator[None]:
    """Let bitsandbytes be imported without its hint at a package for a layout of weights.

    ``keep_layout`` turns that layout off. PEFT imports bitsandbytes wherever it is installed.

    Yields
    ------
    None
        Meanwhile it logs errors only.
    """
    logger = logging.getLogger("bitsandbytes")
    with process_state:  # of two threads that overlap, one would keep the other's level
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def quantization_states(model: Any) -> Iterator[Any]:
    """Yield what turns each 4-bit weight back into numbers: scales, shape and type.

    Parameters
    ----------
    model : torch.nn.Module
        A model, quantised or not.

    Yields
    ------
    object
        The state, which the weight and its layer both hold.
    """
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            yield state


def keep_layout(model: Any) -> None:
    """Keep bitsandbytes from storing weights in another order at their first use.

    On CPUs with AVX512-BF16 it does so in evaluation mode, for speed. What is stored then computes
    in bfloat16 whatever the type asked for, and passes no gradient back to what comes before it,
    without an error; and the weights are those of every view.

    Parameters
    ----------
    model : torch.nn.Module
        A model or a view, quantised or not. Only a switch of its layers is changed.
    """
    for module in model.modules():
        if hasattr(module, _REPACKS):
            setattr(module, _REPACKS, False)


def check_layout(model: Any, name: str) -> None:
    """Refuse weights that bitsandbytes has stored in the order that ``keep_layout`` prevents.

    Parameters
    ----------
    model : torch.nn.Module
        A model, quantised or not.
    name : str
        What to call it.

    Raises
    ------
    ModelLoadingError
        If a weight is stored so.
    """
    if any(getattr(state, _IS_REPACKED, False) for state in quantization_states(model)):
        msg = (
            f"The 4-bit weights of this {name} were repacked by bitsandbytes when the model first "
            "ran on this CPU. So stored they compute in bfloat16 and cannot be trained on. Load "
            "the model again and hand it over before running it, or give its name or folder with "
            "quantization='4bit'."
        )
        raise ModelLoadingError(msg)


def compute_dtype(model: Any) -> torch.dtype:
    """Return the least precise type that a model computes in.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model. Quantised layers may compute in another type than the rest.

    Returns
    -------
    torch.dtype
        The type.
    """
    types = {model.get_input_embeddings().weight.dtype}
    types |= {getattr(module, "compute_dtype", None) for module in model.modules()}
    floating = [one for one in types if isinstance(one, torch.dtype) and one.is_floating_point]
    return max(floating, key=lambda one: torch.finfo(one).eps)
