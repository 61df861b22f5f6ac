"""Encoded prompts → label log-likelihoods of one batch, or the hidden states behind its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instructclf.engine.models.placement import accepts, input_device, send_integers
from instructclf.engine.running.arithmetic import activation_dtype
from instructclf.engine.running.padding_masks import hiding_nothing
from instructclf.engine.scoring.layouts import Layout, LayoutFunction
from instructclf.engine.scoring.outputs import ReadPositions, output_at
from instructclf.engine.scoring.prefixes import Prefix
from instructclf.engine.scoring.vocabulary import find_vocabulary, sum_dtype
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
    device has it. All prompts have the same labels, and begin with the prefix if there is one. If
    labels are compared in groups, what is the same for all labels of a group is left out.
    """
    edges = _edges(batch)
    log_probabilities = _read_edges(model, batch, edges, layout, prefix)
    device, n_labels = log_probabilities.device, batch[0].trie.n_labels
    text, label, _, _ = edges.T
    (place,) = send_integers(device, text * n_labels + label)
    # float64 keeps the sums of long labels from collecting rounding errors.
    sums = log_probabilities.new_zeros(len(batch) * n_labels, dtype=sum_dtype(device))
    return sums.index_add_(0, place, log_probabilities.to(sums.dtype)).view(-1, n_labels)


def edge_log_likelihoods(
    model: Any, prompt: EncodedPrompt, layout: LayoutFunction, prefix: Prefix | None = None
) -> Tensor:
    """Return the log-likelihood of each token of each label, which the labels' scores sum up.

    Its shape is (n_edges,), in the order of the trie's edges.
    """
    whole = replace(prompt, trie=replace(prompt.trie, groups=()))
    return _read_edges(model, [whole], _edges([whole]), layout, prefix)


def last_states(
    model: Any,
    batch: Sequence[EncodedPrompt],
    layout: LayoutFunction,
    prefix: Prefix | None = None,
) -> Tensor:
    """Return the last hidden state at the end of each prompt, which the output layer reads.

    Its shape is (n_texts, n_channels), in the data type that passes
    between the model's layers. The output layer does not run.

    Raises
    ------
    ScoringError
        If the model computes logits without calling its output layer.
    """
    return node_states(model, batch, layout, prefix)[:, 0]  # those of the trie's root


def node_states(
    model: Any,
    batch: Sequence[EncodedPrompt],
    layout: LayoutFunction,
    prefix: Prefix | None = None,
) -> Tensor:
    """Return the last hidden state at each trie node, of shape (n_texts, n_nodes, n_channels).

    Raises
    ------
    ScoringError
        If the model computes logits without calling its output layer.
    """
    inputs = _lay_out(model, batch, layout, prefix)
    limits = prefix is not None and prefix.limits_last_layer
    with output_at(
        model, inputs.rows, inputs.columns, limits_last_layer=limits, stops=True
    ) as positions:
        _run(model, inputs, prefix)
    return _states_of(model, positions)


def states_of_token_ids(model: Any, ids: Sequence[int], n_last: int) -> Tensor:
    """Return the last ``n_last`` hidden states of a forward pass over nothing but token ids.

    Their shape is (n_last, n_channels).

    Raises
    ------
    ScoringError
        If the model computes logits without calling its output layer.
    """
    device = input_device(model)
    columns = torch.arange(len(ids) - n_last, len(ids), device=device).unsqueeze(0)
    with output_at(model, torch.zeros_like(columns), columns, stops=True) as positions:
        model(input_ids=torch.tensor([ids], device=device), use_cache=False)
    return _states_of(model, positions)[0]


def _states_of(model: Any, positions: ReadPositions) -> Tensor:
    if positions.states is None:
        msg = (
            f"{type(model).__name__} computes its logits without calling its output layer, so the "
            "states before it cannot be read. Use a classifier, which needs the logits alone."
        )
        raise ScoringError(msg)
    return positions.states


def token_log_likelihoods(model: Any, ids: Sequence[int]) -> Tensor:
    """Return ``log p(token | tokens before it)`` from a forward pass over nothing but token ids.

    Its shape is (n_tokens - 1,). Logits are computed at every position, so sequences should be
    short.
    """
    device = input_device(model)
    tokens = torch.tensor([ids], device=device)
    logits = _wide(model(input_ids=tokens[:, :-1], use_cache=False).logits[0])
    return logits.log_softmax(dim=-1).gather(1, tokens[0, 1:, None])[:, 0]


def _read_logits(
    model: Any, batch: Sequence[EncodedPrompt], layout: LayoutFunction, prefix: Prefix | None
) -> Tensor:
    """Return logits at the positions that are read, of shape (n_texts, n_nodes, n_vocabulary)."""
    inputs = _lay_out(model, batch, layout, prefix)
    limits = prefix is not None and prefix.limits_last_layer
    with output_at(model, inputs.rows, inputs.columns, limits_last_layer=limits):
        return _run(model, inputs, prefix).logits


def _lay_out(
    model: Any, batch: Sequence[EncodedPrompt], layout: LayoutFunction, prefix: Prefix | None
) -> Layout:
    n_prefix = 0 if prefix is None else prefix.length
    return layout(
        batch,
        n_prefix=n_prefix,
        n_masked=0 if prefix is None or not prefix.is_in_mask else n_prefix,
        dtype=activation_dtype(model),
        device=input_device(model),
    )


def _run(model: Any, inputs: Layout, prefix: Prefix | None) -> Any:
    options: dict[str, Any] = {"use_cache": False} if prefix is None else prefix.inputs(inputs)
    if inputs.mask is not None:
        options["attention_mask"] = inputs.mask
    elif not options["use_cache"]:
        # Some architectures count positions from the mask. Without a mask, transformers looks for
        # packed sequences in position_ids.
        options["attention_mask"] = torch.ones_like(inputs.input_ids)
    # Without prefix and mask, the model counts positions itself: some do not begin at 0.
    if (prefix is not None or inputs.mask is not None) and accepts(model, "position_ids"):
        options["position_ids"] = inputs.position_ids
    with hiding_nothing():
        return model(input_ids=inputs.input_ids, **options)


def _edges(batch: Sequence[EncodedPrompt]) -> NDArray[np.int64]:
    """Return text, label, node and token of each edge that is scored, of shape (n_edges, 4)."""
    edges = [(text, *edge) for text, prompt in enumerate(batch) for edge in prompt.trie.compared]
    return np.array(edges, dtype=np.int64).reshape(-1, 4)


def _read_edges(
    model: Any,
    batch: Sequence[EncodedPrompt],
    edges: NDArray[np.int64],
    layout: LayoutFunction,
    prefix: Prefix | None,
) -> Tensor:
    """Return the log-probability of each edge, of shape (n_edges,).

    At a node where no comparison of labels needs the normaliser, it may be the logit.
    """
    text, _, node, token = edges.T
    normalised = np.array([node in batch[text].trie.normalised for text, _, node, _ in edges])
    # In training, one product of all logits takes a GPU fewer launches than blocks do.
    sums_up = torch.is_grad_enabled() and normalised.any()
    uses_logits = sums_up and input_device(model).type != "cpu"
    vocabulary = None if uses_logits else find_vocabulary(model)
    if vocabulary is None:
        logits = _read_logits(model, batch, layout, prefix)
        rows, tokens = send_integers(logits.device, text * logits.shape[1] + node, token)
        logits = logits.flatten(0, 1)
        return _wide(logits[rows, tokens]) - _log_normaliser(logits)[rows]
    states = node_states(model, batch, layout, prefix)
    rows = text * states.shape[1] + node
    return vocabulary.log_probabilities(states.flatten(0, 1), rows, token, normalised)


def _log_normaliser(logits: Tensor) -> Tensor:
    """Return the log-sum-exp over the vocabulary, without a float32 copy of all logits at once."""
    parts = logits.split(_N_NODES_AT_ONCE)
    return torch.cat([_wide(part).logsumexp(dim=-1) for part in parts])


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
