"""A model with PEFT's adapters in its layers → the same model with their updates in its weights.

Merging is never trusted. Some kinds of adapters cannot be merged exactly, and weights that layers
share would take updates that belong to one of them. So adapted layers get weights of their own
first, and the scores of a few tokens are compared before and after.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from instructclf.engine.models.decoder_layers import has_encoder
from instructclf.engine.models.quantization import is_quantised
from instructclf.exceptions import ModelLoadingError

_N_PROBED = 16
"""Tokens of a probe, spread over the vocabulary."""
_TOLERANCE, _LARGEST_TOLERANCE = 1e-3, 0.1
_TOLERANCE_IN_STEPS = 8
"""The limit of rounding, relative to the largest logit, is so many steps of the data type."""


def task_type_of(model: Any) -> str:
    """Return PEFT's name for what a language model does."""
    return "SEQ_2_SEQ_LM" if has_encoder(model) else "CAUSAL_LM"


def has_adapters(model: Any) -> bool:
    """Say whether PEFT has put adapters into a model's layers, or around the model."""
    return hasattr(type(model), "active_peft_config") or any(_adapted_layers(model))


@torch.no_grad()
def merge_adapters(model: Any, what: str, remedy: str) -> Any:
    """Add the updates of a model's adapters to copies of its weights, and remove the adapters.

    The model changes, but no weight that it shares with another one.

    Raises
    ------
    ModelLoadingError
        If the merged model gives other scores, by more than rounding.
    """
    model.eval()
    tokens = _choose_tokens(model)
    expected = run_probe(model, tokens)
    is_tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    for _, layer in _adapted_layers(model):
        _own_weights(layer)
    try:
        merged = _unload(model)
    except (ValueError, RuntimeError, TypeError, AttributeError, KeyError) as error:
        msg = f"{what[0].upper()}{what[1:]} could not be merged. PEFT said: {error} {remedy}"
        raise ModelLoadingError(msg) from error
    if is_tied:
        _update_tying(merged)
    steps = [torch.finfo(w.dtype).eps for w in merged.parameters() if w.is_floating_point()]
    share = min(max(_TOLERANCE, _TOLERANCE_IN_STEPS * max(steps)), _LARGEST_TOLERANCE)
    _check_same_scores(expected, run_probe(merged, tokens), share, what, remedy)
    return merged


def merge_earlier_adapters(view: Any) -> Any:
    """Merge adapters that a model was given with, since PEFT would mix them up with another one.

    Raises
    ------
    ModelLoadingError
        If they cannot be merged, or give other scores then.
    """
    if not has_adapters(view):
        return view
    if is_quantised(view) or not any(_adapted_layers(view)):
        why = "its weights are quantised" if is_quantised(view) else "it works outside the layers"
        msg = (
            f"The 'model' has an adapter that cannot be merged, because {why}, as it must be "
            "before another one is tuned. Give a model without it, or use PromptClassifier, which "
            "tunes nothing."
        )
        raise ModelLoadingError(msg)
    remedy = "Merge it yourself: model=(peft_model.merge_and_unload(), tokenizer)."
    return merge_adapters(view, "the adapter of the 'model'", remedy)


def run_probe(model: Any, ids: Tensor, n_read: int | None = None) -> Tensor:
    """Return the logits of one row of its first tokens, of shape (1, n_read, n_vocabulary).

    ``n_read=None`` reads all. A decoder of its own reads them after an encoder has read all tokens.
    """
    inputs: dict[str, Tensor] = {"input_ids": ids[:, :n_read]}
    if task_type_of(model) == "SEQ_2_SEQ_LM":
        inputs = {"input_ids": ids, "decoder_input_ids": ids[:, :n_read]}
    mask = torch.ones_like(inputs["input_ids"])
    return model(**inputs, attention_mask=mask, use_cache=False).logits


def _adapted_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the outermost modules of PEFT that stand where layers of the model stood."""
    outer = ""
    for name, module in model.named_modules():
        is_inside = outer and name.startswith(outer)
        if not is_inside and (hasattr(module, "base_layer") or hasattr(module, _UNLOAD)):
            outer = f"{name}."
            yield name, module


_UNLOAD = "unload_and_optionally_merge_module"
"""The method by which special modules of PEFT say what takes their place."""


def _own_weights(layer: nn.Module) -> None:
    """Replace the weights of a layer by copies, which neither other layers nor views share."""
    for module in layer.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(weight.detach().clone(), requires_grad=False))


def _unload(model: Any) -> Any:
    """Merge adapters of PEFT, or those that transformers has loaded into a model of its own."""
    if hasattr(model, "merge_and_unload"):
        with warnings.catch_warnings():
            # What PEFT warns of is done here: weights are not shared, and the model says so.
            warnings.filterwarnings("ignore", message="(Model |Input and output emb).*tie")
            return model.merge_and_unload()
    for name, layer in list(_adapted_layers(model)):
        if hasattr(layer, _UNLOAD):
            merged = getattr(layer, _UNLOAD)(merge=True, safe_merge=False, adapter_names=None)
        else:
            layer.merge()
            merged = layer.get_base_layer()
        model.set_submodule(name, merged)
    del model.peft_config
    # Otherwise transformers would save the adapters alone, and under names of theirs.
    model._hf_peft_config_loaded, model._weight_conversions = False, None  # noqa: SLF001
    return model


def _update_tying(model: Any) -> None:
    """Tie the output layer to the embeddings again if they are equal, and say whether it is."""
    # An encoder may have embeddings of its own, which are no part of the output layer.
    reader = model.get_decoder() if task_type_of(model) == "SEQ_2_SEQ_LM" else model
    inputs, outputs = reader.get_input_embeddings(), model.get_output_embeddings()
    is_equal = torch.equal(inputs.weight, outputs.weight)
    if is_equal:
        outputs.weight = inputs.weight
    else:
        _separate_embeddings(model)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = is_equal


def _separate_embeddings(model: Any) -> None:
    """Give each embedding and output layer a weight of its own, which is written and read as such.

    transformers writes a weight that several modules share once, and would tie no other to it.
    """
    seen: set[int] = set()
    for module in model.modules():
        if isinstance(module, nn.Embedding) or module is model.get_output_embeddings():
            if id(module.weight) in seen:
                module.weight = nn.Parameter(module.weight.detach().clone(), requires_grad=False)
            seen.add(id(module.weight))


def _choose_tokens(model: Any) -> Tensor:
    """Return tokens spread over the vocabulary, and a few of those that an adapter trains."""
    weight = model.get_input_embeddings().weight
    spread = torch.linspace(0, len(weight) - 1, _N_PROBED).long().tolist()
    trained = {
        index
        for module in model.modules()
        for indices in getattr(module, "token_indices", {}).values()
        for index in indices
    }
    return torch.tensor([spread + sorted(trained)[:_N_PROBED]], device=weight.device)


def _check_same_scores(
    expected: Tensor, found: Tensor, share: float, what: str, remedy: str
) -> None:
    """Raise if log-likelihoods differ by more than a share of the largest logit."""
    expected, found = expected.float(), found.float()
    limit = share * expected.nan_to_num(posinf=0, neginf=0).abs().max().clamp_min(1.0)
    expected, found = expected.log_softmax(-1), found.log_softmax(-1)
    is_same = (expected == found) | (expected.isnan() & found.isnan())
    differences = (expected - found).abs().masked_fill(is_same, 0)
    if not differences.max() <= limit:
        msg = (
            f"Merging {what} into its model would change its answers: log-likelihoods of single "
            f"tokens differ by up to {differences.max():.2g} nats from those with the adapter next "
            f"to the weights, which is more than rounding. {remedy}"
        )
        raise ModelLoadingError(msg)
