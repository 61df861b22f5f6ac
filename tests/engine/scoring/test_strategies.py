"""A strategy is used only if it gives the scores of full prompts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.scoring.layouts import row_layout, tree_layout
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.engine.scoring.strategies import FULL_PROMPTS, Strategies
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import build_trie
from instructclf.exceptions import ScoringError
from tests.engine.scoring.test_label_scoring import (
    LABEL_SETS,
    make_encoder,
    score_naively,
    strategy_of,
)
from tests.fixtures import make_model

LIMIT = 240
"""A length limit of a model: more tokens than a probe has, and fewer than some prompts have."""
LENGTHS = {
    "below the limit": ["good", "x"],
    "beyond it with the prefix": ["good", "film " * 30, "x"],
    "beyond it alone": ["good", "bad " * 120, "x", "film " * 30],
}
TEXTS = LENGTHS["beyond it alone"]


class IgnoresMasks(LlamaForCausalLM):
    """Ignores masks without an error, as some models ignore arguments that they do not know."""

    def forward(self, input_ids=None, past_key_values=None, use_cache=None, **kwargs):
        return super().forward(
            input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache
        )


class IgnoresCaches(LlamaForCausalLM):
    """Ignores keys and values of past tokens without an error."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=True)


class RefusesMasks(LlamaForCausalLM):
    """Refuses masks of four dimensions."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        if attention_mask is not None and attention_mask.dim() == 4:
            raise IndexError
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)


def score(model, tokenizer, words, texts=TEXTS):
    encoder = make_encoder(tokenizer, words, n_shots=3)
    scorer = LocalLabelScorer(shared_view(model), encoder)
    return scorer, scorer.score(texts), score_naively(model, tokenizer, encoder, texts)


@pytest.mark.parametrize(
    ("words", "layout"), [("single tokens", row_layout), ("shared beginnings", tree_layout)]
)
def test_an_ordinary_model_uses_the_fastest_strategy(words, layout, model, tokenizer):
    scorer, _, _ = score(model, tokenizer, LABEL_SETS[words], ["x"])
    assert strategy_of(scorer).prefix is PrefixAttention
    assert strategy_of(scorer).layout is layout


def test_a_model_that_writes_out_its_attention_shares_a_prefix_without_copies(tokenizer):
    model = make_model(attn_implementation="eager")
    scorer, scores, expected = score(model, tokenizer, LABEL_SETS["shared beginnings"])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert strategy_of(scorer).prefix is PrefixAttention


def test_a_model_whose_attention_cannot_be_extended_shares_its_own_cache(tokenizer):
    model = make_model("falcon")
    scorer, scores, expected = score(model, tokenizer, LABEL_SETS["shared beginnings"])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert strategy_of(scorer).prefix is PrefixCache


@pytest.mark.parametrize(
    ("model_class", "shares_prefix", "layout"),
    [
        (IgnoresMasks, True, row_layout),
        (IgnoresCaches, False, row_layout),
        (RefusesMasks, True, row_layout),
    ],
)
def test_a_model_that_ignores_or_refuses_inputs_gets_correct_scores(
    model_class, shares_prefix, layout, tokenizer
):
    model = model_class(make_model().config).eval()
    model.load_state_dict(make_model().state_dict())
    scorer, scores, expected = score(model, tokenizer, LABEL_SETS["shared beginnings"])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert (strategy_of(scorer).prefix is not None) is shares_prefix
    assert strategy_of(scorer).layout is layout


def test_full_prompts_are_the_last_resort(tokenizer):
    model = make_model("mamba", state_size=4)
    texts = LENGTHS["below the limit"]
    scorer, scores, expected = score(model, tokenizer, LABEL_SETS["shared beginnings"], texts)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert strategy_of(scorer) is FULL_PROMPTS


def test_a_model_whose_tokens_see_later_tokens_is_an_error(tokenizer):
    model = make_model("bert")
    with pytest.raises(ScoringError, match="BertLMHeadModel change by .* not a causal language m"):
        score(model, tokenizer, LABEL_SETS["single tokens"])


LONGROPE = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
WINDOWS = {
    "mistral": {"sliding_window": LIMIT},
    "gemma2": {"sliding_window": LIMIT, "head_dim": 8},
    "gemma3_text": {"sliding_window": LIMIT, "head_dim": 8},
}
# Dynamic angles change with the length too, but only beyond the context, which no prompt exceeds.
POSITIONS = {"phi3": {"rope_scaling": LONGROPE, "original_max_position_embeddings": LIMIT}}
beyond = pytest.mark.parametrize("length", [name for name in LENGTHS if "beyond" in name])


@pytest.mark.parametrize("words", LABEL_SETS)
@pytest.mark.parametrize("architecture", WINDOWS | POSITIONS)
def test_texts_below_a_limit_get_correct_scores(architecture, words, tokenizer):
    model = make_model(architecture, **(WINDOWS | POSITIONS)[architecture])
    _, scores, expected = score(model, tokenizer, LABEL_SETS[words], LENGTHS["below the limit"])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@beyond
@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        (architecture, words)
        for architecture in WINDOWS
        for words in LABEL_SETS
        if (architecture, words) != ("gemma2", "single tokens")  # correct
    ],
)
def test_texts_beyond_a_sliding_window_get_correct_scores(architecture, words, length, tokenizer):
    model = make_model(architecture, **WINDOWS[architecture])
    _, scores, expected = score(model, tokenizer, LABEL_SETS[words], LENGTHS[length])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@beyond
@pytest.mark.parametrize("words", LABEL_SETS)
@pytest.mark.parametrize("architecture", POSITIONS)
def test_texts_beyond_the_length_at_which_positions_change_get_correct_scores(
    architecture, words, length, tokenizer
):
    model = make_model(architecture, **POSITIONS[architecture])
    _, scores, expected = score(model, tokenizer, LABEL_SETS[words], LENGTHS[length])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


# Kinds of prompts

ONE_TOKEN = build_trie([[1], [2]], 9)
CHAIN = build_trie([[1, 2, 3], [1, 2, 4]], 9)
BRANCHES = build_trie([[1, 2, 3], [4, 5, 6]], 9)


def make_prompts(trie, *lengths, prefix=(7, 8, 9)):
    return [EncodedPrompt(list(range(20, 20 + n)), trie, list(prefix)) for n in lengths]


def test_limits_are_counted_with_the_longest_label():
    model = make_model("mistral", sliding_window=10)
    strategies = Strategies(shared_view(model), n_prefix=3)
    for trie, depth in ((ONE_TOKEN, 0), (CHAIN, 2)):
        below, at = make_prompts(trie, 10 - 3 - depth - 1, 10 - 3 - depth)
        assert strategies.n_limits_passed(below) == 0
        assert strategies.n_limits_passed(at) == 1


def test_a_model_without_limits_has_one_kind_of_length(model):
    strategies = Strategies(shared_view(model), n_prefix=3)
    assert [strategies.n_limits_passed(p) for p in make_prompts(ONE_TOKEN, 1, 500)] == [0, 0]


def test_prompts_are_grouped_by_strategy_and_limits():
    model = make_model("mistral", sliding_window=60)
    strategies = Strategies(shared_view(model), n_prefix=3)
    prompts = make_prompts(ONE_TOKEN, 5, 80, 6, 81)
    groups = strategies.group(prompts)
    assert sorted(groups.values()) == [[0, 2], [1, 3]]
    for (strategy, n_passed), positions in groups.items():
        for position in positions:
            assert strategies.choose(prompts[position]) is strategy
            assert strategies.n_limits_passed(prompts[position]) == n_passed


def test_no_prompts_make_no_groups(model):
    assert Strategies(shared_view(model), n_prefix=3).group([]) == {}


def test_only_tries_with_branches_need_a_tree(model):
    strategies = Strategies(shared_view(model), n_prefix=3)
    layouts = {
        name: strategies.choose(*make_prompts(trie, 5)).layout
        for name, trie in {"one": ONE_TOKEN, "chain": CHAIN, "branches": BRANCHES}.items()
    }
    assert layouts == {"one": row_layout, "chain": row_layout, "branches": tree_layout}


@pytest.mark.parametrize("n_prefix", [0, None])
def test_without_a_prefix_none_is_shared(n_prefix, model):
    strategies = Strategies(shared_view(model), n_prefix=n_prefix)
    strategy = strategies.choose(*make_prompts(BRANCHES, 5, prefix=()))
    assert strategy.prefix is None
    assert (strategy is FULL_PROMPTS) is (n_prefix is None)


def test_the_caller_decides_which_ways_of_sharing_are_tried(model):
    strategies = Strategies(shared_view(model), n_prefix=3, prefixes=[PrefixCache])
    assert strategies.choose(*make_prompts(ONE_TOKEN, 5)).prefix is PrefixCache


def count_passes(view):
    passes = []
    view.register_forward_pre_hook(lambda *_: passes.append(1))
    return passes


def test_strategies_are_tried_once_for_each_kind_of_prompt():
    view = shared_view(make_model(num_attention_heads=2))
    passes = count_passes(view)
    strategies = Strategies(view, n_prefix=3)
    strategies.group(make_prompts(BRANCHES, 5, 9, 4))
    n_passes = len(passes)
    assert n_passes > 0
    strategies.group(make_prompts(BRANCHES, 8, 2))
    assert len(passes) == n_passes


def test_strategies_found_for_an_architecture_hold_for_its_other_views():
    model = make_model(num_attention_heads=8, num_key_value_heads=4)
    expected = Strategies(shared_view(model), n_prefix=3).choose(*make_prompts(BRANCHES, 5))
    view = shared_view(model)
    passes = count_passes(view)
    assert Strategies(view, n_prefix=4).choose(*make_prompts(BRANCHES, 9)) == expected
    assert passes == []


def test_strategies_are_not_tried_again_once_the_attention_of_a_view_is_extended():
    view = shared_view(make_model(intermediate_size=24))
    expected = Strategies(view, n_prefix=3).choose(*make_prompts(BRANCHES, 5))
    assert expected.prefix is PrefixAttention
    passes = count_passes(view)
    assert Strategies(view, n_prefix=3).choose(*make_prompts(BRANCHES, 5)) == expected
    assert passes == []


def test_a_failure_is_not_remembered_for_the_architecture():
    """Weights that are not numbers make every comparison fail; the next ones may be sound."""
    model = make_model(intermediate_size=40)
    broken = make_model(intermediate_size=40)
    with torch.no_grad():
        broken.get_output_embeddings().weight.fill_(float("nan"))
    strategies = Strategies(shared_view(broken), n_prefix=3)
    assert strategies.choose(*make_prompts(BRANCHES, 5)) is FULL_PROMPTS
    strategies = Strategies(shared_view(model), n_prefix=3)
    assert strategies.choose(*make_prompts(BRANCHES, 5)).prefix is PrefixAttention
