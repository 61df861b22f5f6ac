"""Scores, terms and states of one batch, compared with one forward pass for each label."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring import forward
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.forward import (
    edge_log_likelihoods,
    label_log_likelihoods,
    last_states,
    token_log_likelihoods,
)
from instructclf.engine.scoring.layouts import row_layout, tree_layout
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import build_trie
from instructclf.exceptions import ScoringError
from tests.fixtures import make_model

LABELS = [[11, 12, 13], [11, 14, 15], [16, 17], [18]]
TRIE = build_trie(LABELS, 1)
PREFIX = list(range(100, 130))
TAILS = [[20, 21, 22, 23, 24], [30], [50, 51]]
BATCH = [EncodedPrompt(tail, TRIE, PREFIX) for tail in TAILS]
LAYOUTS = {"rows": row_layout, "tree": tree_layout}
PREFIXES = {"no prefix": None, "cache": PrefixCache, "attention": PrefixAttention}

pytestmark = pytest.mark.usefixtures("_without_gradients")


@pytest.fixture
def _without_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def view(model):
    return shared_view(model)


def naive_terms(model, prompt, label):
    """Return the log-likelihood of each token of a label from a pass over the whole sequence."""
    ids = torch.tensor([[*prompt.ids, *label]])
    log_probabilities = model(ids, use_cache=False).logits[0].double().log_softmax(dim=-1)
    start = len(prompt.ids)
    return [log_probabilities[start + i - 1, token].item() for i, token in enumerate(label)]


def make_prefix(kind, view):
    return None if kind is None else kind(view, PREFIX)


@pytest.mark.parametrize("kind", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_label_log_likelihoods_equal_one_pass_for_each_label(layout, kind, view, model):
    found = label_log_likelihoods(view, BATCH, layout, make_prefix(kind, view))
    expected = [[sum(naive_terms(model, prompt, label)) for label in LABELS] for prompt in BATCH]
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_edge_log_likelihoods_are_the_terms_in_the_order_of_the_edges(layout, kind, view, model):
    found = edge_log_likelihoods(view, BATCH[0], layout, make_prefix(kind, view)).tolist()
    terms = iter([term for label in LABELS for term in naive_terms(model, BATCH[0], label)])
    assert [label for label, _, _ in TRIE.edges] == [0, 0, 0, 1, 1, 1, 2, 2, 3]
    assert found == pytest.approx(list(terms), abs=1e-5)


@pytest.mark.parametrize("kind", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_last_states_are_those_of_each_prompts_last_token(layout, kind, view, model):
    found = last_states(view, BATCH, layout, make_prefix(kind, view))
    for state, prompt in zip(found, BATCH, strict=True):
        output = model(torch.tensor([prompt.ids]), output_hidden_states=True)
        torch.testing.assert_close(state, output.hidden_states[-1][0, -1], rtol=0, atol=1e-5)


def test_token_log_likelihoods_are_those_of_a_softmax_over_all_positions(model):
    ids = [3, 4, 5, 6, 7]
    log_probabilities = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    expected = [log_probabilities[i, token].item() for i, token in enumerate(ids[1:])]
    assert token_log_likelihoods(model, ids).tolist() == pytest.approx(expected, abs=1e-5)


def test_label_sums_are_double_precision_and_logits_are_normalised_in_single(view):
    assert label_log_likelihoods(view, BATCH, row_layout).dtype == torch.float64
    half = shared_view(make_model(dtype=torch.bfloat16))
    assert label_log_likelihoods(half, BATCH, row_layout).dtype == torch.float64
    assert edge_log_likelihoods(half, BATCH[0], row_layout).dtype == torch.float32
    # On a CPU, what passes between the layers of half precision is float32.
    assert last_states(half, BATCH, row_layout).dtype == torch.float32


def test_logits_of_a_trained_output_layer_are_computed_only_at_the_nodes_of_tries():
    view = shared_view(make_model(tie_word_embeddings=False))
    view.lm_head.weight.requires_grad_()
    shapes = []
    view.get_output_embeddings().register_forward_hook(
        lambda _, __, logits: shapes.append(tuple(logits.shape[:-1]))
    )
    with torch.enable_grad():
        label_log_likelihoods(view, BATCH, row_layout)
    assert shapes == [(len(BATCH), len(TRIE.tokens))]


def test_with_gradients_scores_are_the_same(view):
    expected = label_log_likelihoods(view, BATCH, tree_layout)
    with torch.enable_grad():
        found = label_log_likelihoods(view, BATCH, tree_layout)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_distributions_are_normalised_in_parts_with_the_same_result(view, monkeypatch):
    with torch.enable_grad():
        expected = label_log_likelihoods(view, BATCH, tree_layout)
        monkeypatch.setattr(forward, "_N_NODES_AT_ONCE", 2)
        assert torch.equal(label_log_likelihoods(view, BATCH, tree_layout), expected)


@pytest.mark.parametrize("kind", [PrefixCache, PrefixAttention])
def test_only_the_tokens_after_a_prefix_go_through_the_model(kind, view):
    prefix = kind(view, PREFIX)
    shapes = []
    view.get_input_embeddings().register_forward_hook(
        lambda _, inputs, __: shapes.append(tuple(inputs[0].shape))
    )
    last_states(view, BATCH, tree_layout, prefix)
    assert shapes == [(len(BATCH), max(map(len, TAILS)) + len(TRIE.tokens) - 1)]


def test_position_ids_are_passed_only_to_models_that_name_them(model):
    class CountsItself(type(model)):
        def forward(self, input_ids=None, attention_mask=None, use_cache=None, **options):
            assert "position_ids" not in options
            return super().forward(input_ids, attention_mask, use_cache=use_cache)

    view = shared_view(model)
    view.__class__ = CountsItself
    label_log_likelihoods(view, BATCH, tree_layout)


def test_states_need_a_model_that_calls_its_output_layer(view):
    view.forward = make_model().forward
    with pytest.raises(ScoringError, match="without calling its output layer.* Use a classifier"):
        last_states(view, BATCH, row_layout)
