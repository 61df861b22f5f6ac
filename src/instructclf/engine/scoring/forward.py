"""Encoded prompts → label log-likelihoods of one batch, or the hidden states behind its logits.

This is the only module that turns logits into log-likelihoods.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.models.placement import input_device
from instructclf.engine.scoring.layouts import Layout, LayoutFunction
from instructclf.engine.scoring.outputs import output_at
from instructclf.engine.scoring.prefixes import Prefix
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.exceptions import ScoringError

_N_NODES_AT_ONCE = 256
"""How many distributions are normalised at once."""


def label_log_likelihoods(
    model: Any,
    batch: Sequence[EncodedPrompt],
    layout: LayoutFunction,
    prefix: Prefix | None = None,
) -> Tensor:
    """Return ``log p(label | prompt)``, of shape (n_texts, n_labels).

    The log-softmax over the full vocabulary is in float32; tokens are summed in float64 if the
    device has it. All prompts have the same labels, and begin with the prefix if there is one.
    """
    logits, _ = _lay_out_and_run(model, batch, layout, prefix)
    return _sum_edges(logits, batch)


def edge_log_likelihoods(
    model: Any, prompt: EncodedPrompt, layout: LayoutFunction, prefix: Prefix | None = None
) -> Tensor:
    """Return the log-likelihood of each token of each label, which the labels' scores sum up.

    Its shape is (n_edges,), in the order of the trie's edges.
    """
    logits, _ = _lay_out_and_run(model, [prompt], layout, prefix)
    return _read_edges(logits, [prompt])[0]


def last_states(
    model: Any,
    batch: Sequence[EncodedPrompt],
    layout: LayoutFunction,
    prefix: Prefix | None = None,
) -> Tensor:
    """Return the last hidden state at the end of each prompt, which the output layer reads.

    Its shape is (n_texts, n_channels), in the model's data type.

    Raises
    ------
    ScoringError
        If the model computes logits without calling its output layer.
    """
    _, states = _lay_out_and_run(model, batch, layout, prefix)
    if states is None:
        msg = (
            f"{type(model).__name__} computes its logits without calling its output layer, so the "
            "states before it cannot be read. Use a classifier, which needs the logits alone."
        )
        raise ScoringError(msg)
    return states[:, 0]  # those of the trie's root


def token_log_likelihoods(model: Any, ids: Sequence[int]) -> Tensor:
    """Return ``log p(token | tokens before it)`` from a forward pass over nothing but token ids.

    Its shape is (n_tokens - 1,). Logits are computed at every position, so sequences should be
    short.
    """
    device = input_device(model)
    tokens = torch.tensor([ids], device=device)
    logits = _wide(model(input_ids=tokens[:, :-1], use_cache=False).logits[0])
    return logits.log_softmax(dim=-1).gather(1, tokens[0, 1:, None])[:, 0]


def _lay_out_and_run(
    model: Any, batch: Sequence[EncodedPrompt], layout: LayoutFunction, prefix: Prefix | None
) -> tuple[Tensor, Tensor | None]:
    """Return logits of shape (n_texts, n_nodes, n_vocabulary), and the states they come from."""
    n_prefix = 0 if prefix is None else prefix.length
    weight = model.get_input_embeddings().weight
    n_masked = 0 if prefix is None or not prefix.is_in_mask else n_prefix
    inputs = layout(
        batch,
        n_prefix=n_prefix,
        n_masked=n_masked,
        dtype=weight.dtype,
        device=input_device(model),
    )
    return _run(model, inputs, prefix)


def _run(model: Any, inputs: Layout, prefix: Prefix | None) -> tuple[Tensor, Tensor | None]:
    """Return logits and states, computed only at the positions that are read."""
    n_rows = inputs.input_ids.shape[0]
    options: dict[str, Any] = {"use_cache": False} if prefix is None else prefix.inputs(n_rows)
    if inputs.mask is not None:
        options["attention_mask"] = inputs.mask
    elif not options["use_cache"]:
        # Some architectures count positions from the mask. Without a mask, transformers looks for
        # packed sequences in position_ids.
        options["attention_mask"] = torch.ones_like(inputs.input_ids)
    # Without prefix and mask, the model counts positions itself: some do not begin at 0.
    if (prefix is not None or inputs.mask is not None) and _accepts(model, "position_ids"):
        options["position_ids"] = inputs.position_ids
    limits_last_layer = prefix is not None and prefix.limits_last_layer
    with output_at(
        model, inputs.rows, inputs.columns, limits_last_layer=limits_last_layer
    ) as positions:
        logits = model(input_ids=inputs.input_ids, **options).logits
    return logits, positions.states


def _accepts(model: Any, name: str) -> bool:
    """Say whether the model's forward names this parameter: ``**kwargs`` would swallow it."""
    return name in inspect.signature(type(model).forward).parameters


def _sum_edges(logits: Tensor, batch: Sequence[EncodedPrompt]) -> Tensor:
    """Sum the log-probabilities along each label's path, of all texts at once."""
    log_probabilities, text, label = _read_edges(logits, batch)
    # float64 keeps the sums of long labels from collecting rounding errors. Apple's GPUs lack it.
    sum_dtype = torch.float32 if logits.device.type == "mps" else torch.float64
    n_labels = batch[0].trie.n_labels
    sums = log_probabilities.new_zeros(len(batch) * n_labels, dtype=sum_dtype)
    sums = sums.index_add(0, text * n_labels + label, log_probabilities.to(sum_dtype))
    return sums.view(-1, n_labels)


def _read_edges(logits: Tensor, batch: Sequence[EncodedPrompt]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log-probability of each edge of all texts, and its text and label."""
    edges = [
        (text, label, node, token)
        for text, prompt in enumerate(batch)
        for label, node, token in prompt.trie.edges
    ]
    text, label, node, token = torch.tensor(edges, device=logits.device).unbind(dim=1)
    normaliser = _log_normaliser(logits)
    return _wide(logits[text, node, token]) - normaliser[text, node], text, label


def _log_normaliser(logits: Tensor) -> Tensor:
    """Return the log-sum-exp over the vocabulary, without a float32 copy of all logits at once."""
    parts = logits.flatten(0, 1).split(_N_NODES_AT_ONCE)
    return torch.cat([_wide(part).logsumexp(dim=-1) for part in parts]).view(logits.shape[:2])


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
