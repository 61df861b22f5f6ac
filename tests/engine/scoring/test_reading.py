"""Readers group prompts by what they share, and compute what is shared once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from instructclf import PromptClassifier
from instructclf.engine.models.views import shared_view
from instructclf.engine.running.processes import Processes
from instructclf.engine.running.progress import Progress
from instructclf.engine.running.weight_changes import WeightsAsTheyWere
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.batching import read_behind
from instructclf.engine.scoring.budgets import TokenBudget
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.engine.scoring.reading import PrefixReader
from instructclf.engine.scoring.strategies import FULL_PROMPTS, Strategies
from instructclf.engine.tokens.encoding import EncodedPrompt, PromptEncoder
from instructclf.engine.tokens.tries import build_trie
from instructclf.engine.tokens.variants import VariantEncoder
from instructclf.exceptions import TruncationWarning
from instructclf.prompts import TEMPLATES, Prompt, write_instruction
from tests.engine.scoring.test_label_scoring import LABEL_SETS, make_encoder, score_naively
from tests.fixtures import LABELS, TEXTS, make_model

TRIE = build_trie([[11, 12, 13], [11, 14, 15], [16, 17], [18]], 1)
PREFIX = list(range(100, 140))
BATCH = [EncodedPrompt(list(range(20, 20 + n)), TRIE, PREFIX) for n in (3, 9, 1, 5)]


def make_reader(model, ids=PREFIX, n_tokens=1000, **options):
    return PrefixReader(shared_view(model), ids, TokenBudget(n_tokens), **options)


def read(reader, encoded=BATCH):
    """Return what a reader reads of each prompt, and the size of each batch."""
    values, sizes = {}, []
    with torch.inference_mode():
        for positions, found in read_behind(reader.queue(encoded), 0):
            values |= zip(positions, found, strict=True)
            sizes.append(len(positions))
    return np.array([values[position] for position in range(len(encoded))]), sizes


def count_passes(view):
    """Return a list that collects the number of tokens of each forward pass."""
    passes = []
    view.get_input_embeddings().register_forward_hook(
        lambda _, inputs, __: passes.append(inputs[0].numel())
    )
    return passes


# Weights that are changed in place


def change_counted(weight):
    with torch.no_grad():
        weight.mul_(1.5)


def change_data(weight):
    weight.data.mul_(1.5)


def change_under_inference(weight):
    with torch.inference_mode():
        weight[-1] += 1.0


CHANGES = [change_counted, change_data, change_under_inference]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("prefix", [PrefixAttention, PrefixCache])
def test_a_prefix_is_computed_again_after_a_change_of_weights(change, prefix):
    model = make_model()
    reader = make_reader(model)
    reader._strategies = Strategies(reader._model, n_prefix=len(PREFIX), prefixes=[prefix])
    before, _ = read(reader)
    change(model.model.layers[0].self_attn.k_proj.weight)
    found, _ = read(reader)
    expected, _ = read(make_reader(model, None))
    assert np.abs(found - before).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_prefix_is_computed_once_while_weights_stay():
    view = shared_view(make_model())
    reader = PrefixReader(view, PREFIX, TokenBudget(1000))
    read(reader)
    passes = count_passes(view)
    read(reader)
    read(reader)
    assert len(passes) == 2  # a batch each time, and no prefix


def test_weights_made_under_inference_mode_are_watched_by_their_values():
    with torch.inference_mode():
        model = make_model()
        reader = make_reader(model)
        before, _ = read(reader)
        model.model.layers[0].self_attn.k_proj.weight.mul_(1.5)
        assert np.abs(read(reader)[0] - before).max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16, torch.int8, torch.bool])
def test_weights_of_any_type_are_watched(dtype):
    layer = torch.nn.Linear(4, 4)
    layer.weight = torch.nn.Parameter(torch.zeros(4, 4).to(dtype), requires_grad=False)
    layer.bias = torch.nn.Parameter(torch.full((4,), torch.nan))
    weights = WeightsAsTheyWere(layer)
    assert not weights.have_changed()
    layer.weight.data.fill_(1)
    assert weights.have_changed()


def test_a_fitted_classifier_reads_the_weights_that_were_loaded_since(tokenizer):
    model, texts = make_model(), ["good thing", "bad thing"]
    options = {"n_shots": 4, "calibration": None, "random_state": 0}
    classifier = PromptClassifier((model, tokenizer), **options).fit(TEXTS, LABELS)
    before = classifier.predict_proba(texts)
    model.load_state_dict({name: 1.1 * weight for name, weight in model.state_dict().items()})
    found = classifier.predict_proba(texts)
    fresh = PromptClassifier((model, tokenizer), **options).fit(TEXTS, LABELS)
    assert np.abs(found - before).max() > 1e-4
    np.testing.assert_allclose(found, fresh.predict_proba(texts), rtol=0, atol=1e-5)


# Prompts with one prefix


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral"])
def test_a_shared_prefix_changes_no_score(architecture):
    model = make_model(architecture)
    expected, _ = read(make_reader(model, None))
    found, _ = read(make_reader(model))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_tokens", [1, 20, 40])
def test_batches_stay_within_the_budget_and_change_no_score(n_tokens, model):
    expected, sizes = read(make_reader(model))
    assert sizes == [len(BATCH)]
    found, sizes = read(make_reader(model, n_tokens=n_tokens))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert len(sizes) > 1
    assert sum(sizes) == len(BATCH)


def test_a_prefix_is_computed_once(model):
    view = shared_view(model)
    reader = PrefixReader(view, PREFIX, TokenBudget(1000))
    read(reader)
    passes = count_passes(view)
    read(reader)
    n_nodes = len(TRIE.tokens) - 1
    assert passes == [len(BATCH) * (9 + n_nodes)]


def test_without_ids_full_prompts_go_through_the_model(model):
    reader = make_reader(model, None)
    assert reader.prepare(BATCH[0]) == (FULL_PROMPTS, None)
    reader = make_reader(model)
    strategy, prefix = reader.prepare(BATCH[0])
    assert strategy.prefix is PrefixAttention
    assert prefix.length == len(PREFIX)


def test_an_empty_prefix_is_none_that_is_shared(model):
    bare = [EncodedPrompt(prompt.ids, TRIE) for prompt in BATCH]
    strategy, prefix = make_reader(model, []).prepare(bare[0])
    assert strategy.prefix is prefix is None
    expected, _ = read(make_reader(model, None))
    found, _ = read(make_reader(model, []), bare)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_any_function_of_a_batch_can_be_read(model):
    def count_tokens(_model, batch, _layout, prefix):
        return torch.tensor([[prompt.n_tokens - prefix.length] for prompt in batch])

    found, _ = read(make_reader(model, read=count_tokens))
    assert found[:, 0].tolist() == [3, 9, 1, 5]


def test_edges_sum_up_to_the_labels_score(model):
    reader = make_reader(model)
    scores, _ = read(reader)
    with torch.inference_mode():
        edges = reader.score_edges(BATCH[1])
    sums = np.zeros(TRIE.n_labels)
    np.add.at(sums, [label for label, _, _ in TRIE.edges], edges)
    np.testing.assert_allclose(sums, scores[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_prompt_may_begin_with_only_a_part_of_the_prefix(attention):
    """With eager attention the prefix is a cache, which cannot be split."""
    model = make_model(attn_implementation=attention)
    reader = make_reader(model)
    for n_shared in (25, 1, 0):
        prompt = EncodedPrompt([50, 51, 52], TRIE, PREFIX[:n_shared])
        with torch.inference_mode():
            found = reader.score_after_part(prompt)
        expected, _ = read(make_reader(model, None), [prompt])
        np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-5)


def test_prompts_beyond_a_length_limit_are_batched_apart_from_others():
    model = make_model("mistral", sliding_window=47)
    reader = make_reader(model)
    expected, _ = read(make_reader(model, None))
    found, sizes = read(reader)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert sizes == [2, 2]


# Prompts of texts


def test_prompts_of_equal_demonstrations_share_them(model, tokenizer):
    words = LABEL_SETS["single tokens"]
    rows = {"a": (("word " * 40, words[0]),), "b": (("other " * 40, words[1]),)}
    bare = Prompt(TEMPLATES["alpaca"], write_instruction(None, words))
    encoder = VariantEncoder(
        tokenizer, bare, words, None, lambda texts: [rows[text[0]] for text in texts]
    )
    texts = ["a1", "b1", "a2", "b2", "a3"]
    view = shared_view(model)
    scorer = LocalLabelScorer(view, encoder)
    scorer.score(texts[:1])  # the instruction goes through
    passes = count_passes(view)
    scores = scorer.score(texts)
    n_instruction = len(encoder.prefix_ids)
    encoded = encoder.encode(texts)
    assert sum(passes) < sum(prompt.n_tokens - n_instruction for prompt in encoded)
    for text, found in zip(texts, scores, strict=True):
        alone = PromptEncoder(tokenizer, encoder.prompt_for(text), words, None)
        expected = score_naively(model, tokenizer, alone, [text])[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_equal_texts_go_through_the_model_once(model, tokenizer):
    view = shared_view(model)
    scorer = LocalLabelScorer(view, make_encoder(tokenizer, LABEL_SETS["single tokens"]))
    scorer.score(["good"])
    passes = count_passes(view)
    once, twice = scorer.score(["bad"]), scorer.score(["bad"] * 7)
    assert passes[0] == passes[1]
    np.testing.assert_array_equal(twice, np.repeat(once, 7, axis=0))


def test_no_texts_have_no_scores(model, tokenizer):
    scorer = LocalLabelScorer(
        shared_view(model), make_encoder(tokenizer, LABEL_SETS["single tokens"])
    )
    assert scorer.score([]).shape == (0, 2)


def test_chunks_of_texts_change_no_score(model, tokenizer, monkeypatch):
    scorer = LocalLabelScorer(
        shared_view(model), make_encoder(tokenizer, LABEL_SETS["shared beginnings"])
    )
    texts = [f"text {'x' * i}" for i in range(7)]
    expected = scorer.score(texts)
    monkeypatch.setattr("instructclf.engine.scoring.reading._CHUNK", 3)
    np.testing.assert_allclose(scorer.score(texts), expected, rtol=0, atol=1e-5)


def test_every_different_text_is_counted_as_progress(model, tokenizer):
    class Counter(Progress):
        n_done = 0

        def advance(self, n_steps=1, note=""):
            self.n_done += n_steps

    counter = Counter("counting", 3, verbose=0)
    scorer = LocalLabelScorer(
        shared_view(model), make_encoder(tokenizer, LABEL_SETS["single tokens"])
    )
    scorer.score(["a", "b", "a", "c"], counter)
    assert counter.n_done == 3


def test_cuts_are_reported_by_the_positions_of_all_texts(model, tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["single tokens"], n_shots=0, max_length=250)
    scorer = LocalLabelScorer(shared_view(model), encoder)
    with pytest.warns(TruncationWarning, match=r"^3 texts .*\(positions 1, 2, 4\)") as seen:
        scorer.score(["short", "long " * 500, "more " * 500, "short", "long " * 500])
    assert len(seen) == 1


def test_a_prompt_without_the_common_prefix_goes_through_whole(model, tokenizer):
    scorer = LocalLabelScorer(
        shared_view(model), make_encoder(tokenizer, LABEL_SETS["single tokens"])
    )
    (prompt,) = scorer.encoder.encode(["good"])
    for odd in (
        EncodedPrompt(prompt.ids, prompt.trie),
        EncodedPrompt([*prompt.prefix[4:], *prompt.tail], prompt.trie, prompt.prefix[:4]),
    ):
        assert scorer._reader_of([odd]).prepare(odd) == (FULL_PROMPTS, None)
    assert scorer._reader_of([prompt]) is scorer._shared


def test_prompts_that_share_more_than_others_get_their_own_reader(tokenizer):
    model = make_model("mistral", sliding_window=400)
    scorer = LocalLabelScorer(
        shared_view(model), make_encoder(tokenizer, LABEL_SETS["single tokens"])
    )
    (prompt,) = scorer.encoder.encode(["good"])
    prefix = [*prompt.prefix, *range(50, 60)]
    for tail in ([20, 21], [20] * 400):
        longer = EncodedPrompt(tail, prompt.trie, prefix)
        assert scorer._reader_of([longer]).prepare(longer)[1].length == len(prefix)


# Several processes


class FirstOfTwo(Processes):
    """The first of two processes, of which the other one computes nothing."""

    def check_alike(self, rows, what):
        assert what == "texts"

    def sum(self, values):
        return values


def test_a_process_reads_its_share_and_leaves_the_others_at_zero(model, tokenizer, monkeypatch):
    scorer = LocalLabelScorer(
        shared_view(model), make_encoder(tokenizer, LABEL_SETS["single tokens"])
    )
    texts = ["a", "b", "a", "c", "d"]
    expected = scorer.score(texts)
    processes = FirstOfTwo(rank=0, size=2)
    monkeypatch.setattr("instructclf.engine.scoring.reading.current_processes", lambda: processes)
    found = scorer.score(texts)
    np.testing.assert_allclose(found[[0, 2, 3]], expected[[0, 2, 3]], rtol=0, atol=1e-5)
    assert not found[[1, 4]].any()
