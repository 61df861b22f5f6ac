"""Labels that are read side by side score as one forward pass with a mask written out says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.scoring.prefixes import CHUNK
from instructclf.engine.scoring.windows import layer_windows
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tokens.variants import VariantEncoder
from instructclf.exceptions import ScoringError
from instructclf.prompts import TEMPLATES, Prompt, write_instruction
from tests.engine.scoring.test_label_scoring import strategy_of
from tests.families import make_family
from tests.fixtures import END, PAD, START, make_model

WORDS = ["very positive", "negative", "so-so", "good", "good film"]
DEFINITIONS = ["They love it.", "They regret it, and say so at length.", "Both.", "It is.", "One!"]
TEXTS = ["good", "I like {it} </s> very\n\n### Response:", "film " * 40]
SLIDING, FULL, CHUNKED = "sliding_attention", "full_attention", "chunked_attention"
BEYOND, WITHIN = 24, 100
"""Windows that end before the labels and among them."""

MODELS = {
    "gpt2": ("gpt2", {}),
    "llama": ("llama", {}),
    "opt": ("opt", {}),
    "phi3": ("phi3", {"sliding_window": None}),
    "mistral, narrow window": ("mistral", {"sliding_window": BEYOND}),
    "mistral, window that ends among labels": ("mistral", {"sliding_window": WITHIN}),
    "gemma3, two kinds of layers": (
        "gemma3_text",
        {"sliding_window": WITHIN, "layer_types": [SLIDING, FULL], "head_dim": 8},
    ),
    "llama4, chunks": (
        "llama4_text",
        {
            "attention_chunk_size": WITHIN,
            "layer_types": [CHUNKED, FULL],
            "intermediate_size_mlp": 48,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 8,
        },
    ),
}


def make_prompt(words, definitions=None, *, n_shots=5, template="alpaca"):
    shots = tuple((f"text number {i} is here", words[i % len(words)]) for i in range(n_shots))
    alone = tuple(
        write_instruction(None, [word], definitions and [definitions[i]])
        for i, word in enumerate(words)
    )
    instruction = write_instruction(None, words, definitions)
    return Prompt(TEMPLATES[template], instruction, shots, (START, END, PAD), alternatives=alone)


def make_encoder(tokenizer, words=WORDS, definitions=None, *, answers=WORDS, **options):
    return PromptEncoder(tokenizer, make_prompt(words, definitions, **options), answers, None)


def score_naively(model, tokenizer, encoder, texts):
    """One forward pass for each pair: all tokens, their positions, and a mask written out."""
    answers = encoder.verbalizer.answers
    return np.array(
        [
            [score_pair(model, tokenizer, encoder, text, words) for words in answers]
            for text in texts
        ]
    )


def score_pair(model, tokenizer, encoder, text, words):
    listed = encoder.side_by_side
    prompt = tokenizer(encoder.prompt.render(text))["input_ids"]
    whole = tokenizer(encoder.prompt.render(text, words))["input_ids"]
    if any(other.startswith(f"{words} ") for other in encoder.verbalizer.answers):
        whole = [*whole, tokenizer.eos_token_id]
    assert whole[: len(prompt)] == prompt
    tokens, positions, owners = lay_out(whole, listed)
    logits = run_with_masks(model, tokens, positions, owners)
    n_label = len(whole) - len(prompt)
    log_probabilities = logits.double().log_softmax(dim=-1)[-n_label - 1 : -1]
    return log_probabilities[torch.arange(n_label), tokens[-n_label:]].sum().item()


def lay_out(whole, listed):
    """Return tokens, positions, and the label that a token belongs to, -1 for none."""
    rows = [(token, place, -1) for place, token in enumerate(whole)]
    labels = [
        (token, listed.start + step, owner)
        for owner, sequence in enumerate(listed.sequences)
        for step, token in enumerate(sequence)
    ]
    rows[listed.start : listed.stop] = labels
    return torch.tensor(rows).T


def run_with_masks(model, tokens, positions, owners):
    order = torch.arange(len(tokens))
    visible = order <= order[:, None]
    visible &= (owners == -1) | (owners[:, None] == -1) | (owners == owners[:, None])
    windows = layer_windows(model.config)
    kinds = getattr(model.config, "layer_types", None) or [FULL] * len(windows)
    masks = {}
    for kind, window in zip(kinds, windows, strict=True):
        first = torch.zeros_like(positions) if window is None else window.first_visible(positions)
        hidden = ~(visible & (positions >= first[:, None]))
        masks[kind] = torch.zeros(1, 1, *hidden.shape).masked_fill(hidden, torch.finfo().min)
    takes_several = model.config.model_type in {"gemma3_text", "llama4_text"}
    with torch.no_grad():
        return model(
            input_ids=tokens[None],
            position_ids=positions[None],
            attention_mask=masks if takes_several else next(iter(masks.values())),
            use_cache=False,
        ).logits[0]


@pytest.mark.parametrize("definitions", [None, DEFINITIONS], ids=["names", "definitions"])
@pytest.mark.parametrize("name", MODELS)
def test_scores_equal_a_forward_pass_with_a_mask_written_out(name, definitions, tokenizer):
    architecture, changes = MODELS[name]
    model = make_model(architecture, **changes)
    encoder = make_encoder(tokenizer, definitions=definitions)
    scorer = LocalLabelScorer(shared_view(model), encoder)
    expected = score_naively(model, tokenizer, encoder, TEXTS)
    np.testing.assert_allclose(scorer.score(TEXTS), expected, rtol=0, atol=2e-5)
    assert strategy_of(scorer).prefix is PrefixAttention


def test_many_labels_go_through_the_model_in_several_groups(tokenizer, model):
    words = [f"{i}, or with more words: label {i}" for i in range(60)]
    encoder = make_encoder(tokenizer, words, answers=words)
    assert sum(map(len, encoder.side_by_side.sequences)) > 2 * CHUNK
    scores = LocalLabelScorer(shared_view(model), encoder).score(TEXTS[:1])
    expected = score_naively(model, tokenizer, encoder, TEXTS[:1])
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("definitions", [None, DEFINITIONS], ids=["names", "definitions"])
def test_no_order_of_labels_changes_a_score_to_the_last_bit(definitions, tokenizer, model):
    order = [3, 0, 4, 2, 1]
    shuffled = [WORDS[i] for i in order], definitions and [definitions[i] for i in order]
    encoder = make_encoder(tokenizer, WORDS, definitions)
    other = replace(make_prompt(*shuffled), demonstrations=encoder.prompt.demonstrations)
    assert other.instruction != encoder.prompt.instruction
    reordered = PromptEncoder(tokenizer, other, WORDS, None)
    scores, others = (
        LocalLabelScorer(shared_view(model), one).score(TEXTS) for one in (encoder, reordered)
    )
    np.testing.assert_array_equal(scores, others)


def test_a_list_is_read_otherwise_than_labels_side_by_side(tokenizer, model):
    encoder = make_encoder(tokenizer)
    listed = PromptEncoder(tokenizer, replace(encoder.prompt, alternatives=()), WORDS, None)
    assert listed.side_by_side is None
    scores, others = (
        LocalLabelScorer(shared_view(model), one).score(TEXTS) for one in (encoder, listed)
    )
    assert np.abs(scores - others).max() > 1e-3


def test_each_shot_is_scored_after_the_others_as_if_these_were_all(tokenizer, model):
    encoder = make_encoder(tokenizer)
    found = LocalLabelScorer(shared_view(model), encoder).score_demonstrations()
    solved = encoder.prompt.demonstrations
    for left_out, (text, _) in enumerate(solved):
        others = tuple(pair for pair in solved if pair[0] != text)
        prompt = encoder.prompt.with_demonstrations(others)
        alone = PromptEncoder(tokenizer, prompt, WORDS, None)
        expected = LocalLabelScorer(shared_view(model), alone).score([text])
        np.testing.assert_allclose(found[left_out], expected[0], rtol=0, atol=1e-5)


def test_texts_with_shots_of_their_own_read_labels_side_by_side_too(tokenizer, model):
    encoder = make_encoder(tokenizer)
    bare = encoder.prompt.with_demonstrations(())
    solved = encoder.prompt.demonstrations
    own = VariantEncoder(tokenizer, bare, WORDS, None, lambda texts: [solved] * len(texts))
    expected = LocalLabelScorer(shared_view(model), encoder).score(TEXTS)
    scores = LocalLabelScorer(shared_view(model), own).score(TEXTS)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["bloom", "rwkv"])
def test_a_model_without_positions_for_each_token_is_an_error(family, tokenizer):
    encoder = make_encoder(tokenizer)
    scorer = LocalLabelScorer(shared_view(make_family(family)), encoder)
    with pytest.raises(ScoringError, match="cannot read labels side by side"):
        scorer.score(["good"])
