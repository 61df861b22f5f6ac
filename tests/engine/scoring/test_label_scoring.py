"""Fast scores equal those of one forward pass for each pair of a text and a label."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.scoring.strategies import FULL_PROMPTS
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.exceptions import ScoringError, TruncationWarning
from instructclf.prompts import TEMPLATES, Prompt, PromptTemplate, write_instruction
from tests.fixtures import ARCHITECTURES, END, PAD, START, make_model, make_tokenizer

TEXTS = [
    "good",
    "I like {it} </s> very\n\n much" * 3,
    "",
    "### Response:\npositive",
    " \n a longer text that goes on and on and on, and nothing happens in it at all",
    "good",
]
LABEL_SETS = {
    "single tokens": ["negative", "positive"],
    "shared beginnings": ["very positive", "very negative", "positive", "good", "good film"],
}


def make_encoder(tokenizer, words, *, n_shots=5, template=TEMPLATES["alpaca"], max_length=None):
    shots = tuple((f"text number {i} is here", words[i % len(words)]) for i in range(n_shots))
    prompt = Prompt(template, write_instruction(None, words), shots, (START, END, PAD))
    return PromptEncoder(tokenizer, prompt, words, max_length)


def strategy_of(scorer):
    """Return the strategy of a scorer for ordinary prompts."""
    (prompt,) = scorer.encoder.encode(["x"])
    return scorer._shared.prepare(prompt)[0]


def score_naively(model, tokenizer, encoder, texts):
    """One full forward pass for each pair, nothing cached, nothing shared, nothing padded."""
    return np.array([_score_text(model, tokenizer, encoder, text) for text in texts])


def _score_text(model, tokenizer, encoder, text):
    prompt = tokenizer(encoder.prompt.render(text))["input_ids"]
    wholes = [
        tokenizer(encoder.prompt.render(text, words))["input_ids"]
        for words in encoder.verbalizer.answers
    ]
    start = min(_n_equal(prompt, whole) for whole in wholes)
    return [_score_pair(model, tokenizer, start, whole, wholes) for whole in wholes]


def _score_pair(model, tokenizer, start, whole, wholes):
    if any(len(other) > len(whole) and other[: len(whole)] == whole for other in wholes):
        whole = [*whole, tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(torch.tensor([whole]), use_cache=False).logits[0].double()
    log_probabilities = logits.log_softmax(dim=-1)
    return sum(log_probabilities[t - 1, whole[t]].item() for t in range(start, len(whole)))


def _n_equal(first, second):
    for position, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return position
    return min(len(first), len(second))


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS.keys())
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_equal_a_naive_forward_pass(architecture, words, tokenizer):
    model = make_model(architecture)
    encoder = make_encoder(tokenizer, words)
    scores = LocalLabelScorer(shared_view(model), encoder).score(TEXTS)
    expected = score_naively(model, tokenizer, encoder, TEXTS)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS.keys())
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_relative_scores_lack_the_same_number_for_all_labels_of_a_text(
    architecture, words, tokenizer
):
    encoder = make_encoder(tokenizer, words)
    scorer = LocalLabelScorer(shared_view(make_model(architecture)), encoder)
    assert_differ_by_one_number(scorer.score(TEXTS, relative=True), scorer.score(TEXTS))
    assert_differ_by_one_number(
        scorer.score_demonstrations(relative=True), scorer.score_demonstrations()
    )


def test_relative_scores_of_several_answers_lack_the_same_number_too(tokenizer):
    prompt = make_encoder(tokenizer, ["good", "bad"]).prompt
    encoder = PromptEncoder(tokenizer, prompt, [("good", "very good"), ("bad",)], None)
    scorer = LocalLabelScorer(shared_view(make_model()), encoder)
    assert_differ_by_one_number(scorer.score(TEXTS, relative=True), scorer.score(TEXTS))


def assert_differ_by_one_number(scores, others):
    differences = scores - others
    assert np.abs(differences).max() > 0.1  # something was left out
    expected = np.broadcast_to(differences[:, :1], differences.shape)
    np.testing.assert_allclose(differences, expected, rtol=0, atol=1e-5)


def test_relative_scores_of_one_token_read_no_other_row_of_the_output_layer(tokenizer):
    model = make_model()
    encoder = make_encoder(tokenizer, LABEL_SETS["single tokens"])
    expected = LocalLabelScorer(shared_view(model), encoder).score(TEXTS)
    (encoded,) = encoder.encode(["x"])
    read = [token for _, _, token in encoded.trie.edges]
    unread = torch.ones(len(model.lm_head.weight), dtype=torch.bool)
    unread[read] = False
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())  # tied or not
        model.lm_head.weight[unread] = torch.nan
    scorer = LocalLabelScorer(shared_view(model), encoder)
    scores = scorer.score(TEXTS, relative=True)
    np.testing.assert_allclose(np.diff(scores), np.diff(expected), rtol=0, atol=1e-5)
    with pytest.raises(ScoringError, match="log-likelihood of nan"):
        scorer.score(TEXTS)


def test_the_likelihoods_of_several_answers_for_one_label_add_up(tokenizer):
    model = make_model()
    answers = [("good", "good film", "very good"), ("bad",), ("so-so", "mixed")]
    prompt = make_encoder(tokenizer, ["good", "bad", "so-so"]).prompt
    encoder = PromptEncoder(tokenizer, prompt, answers, None)
    scores = LocalLabelScorer(shared_view(model), encoder).score(TEXTS)
    naive = np.exp(score_naively(model, tokenizer, encoder, TEXTS))
    sums = [naive[:, :3].sum(axis=1), naive[:, 3], naive[:, 4:].sum(axis=1)]
    np.testing.assert_allclose(scores, np.log(np.transpose(sums)), rtol=0, atol=1e-5)


def test_one_answer_a_label_scores_the_same_alone_or_in_a_list(tokenizer):
    model = make_model()
    words = LABEL_SETS["shared beginnings"]
    encoder = make_encoder(tokenizer, words)
    listed = PromptEncoder(tokenizer, encoder.prompt, [[word] for word in words], None)
    expected = LocalLabelScorer(shared_view(model), encoder).score(TEXTS)
    scores = LocalLabelScorer(shared_view(model), listed).score(TEXTS)
    np.testing.assert_array_equal(scores, expected)


def test_demonstrations_are_scored_by_all_answers_of_a_label(tokenizer):
    model = make_model()
    prompt = Prompt(
        TEMPLATES["alpaca"], "Do.", (("one", "good"), ("two", "bad"), ("three", "good"))
    )
    scorers = [
        LocalLabelScorer(shared_view(model), PromptEncoder(tokenizer, prompt, answers, None))
        for answers in ([("good", "very good"), ("bad",)], ["good", "very good", "bad"])
    ]
    together, apart = (np.exp(scorer.score_demonstrations()) for scorer in scorers)
    expected = np.transpose([apart[:, 0] + apart[:, 1], apart[:, 2]])
    np.testing.assert_allclose(together, expected, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])
def test_scores_equal_a_naive_forward_pass_without_demonstrations(architecture, tokenizer):
    model = make_model(architecture)
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"], n_shots=0)
    scores = LocalLabelScorer(shared_view(model), encoder).score(TEXTS)
    expected = score_naively(model, tokenizer, encoder, TEXTS)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_scores_equal_a_naive_forward_pass_without_a_start_token():
    tokenizer = make_tokenizer(adds_start=False)
    model = make_model()
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"])
    scores = LocalLabelScorer(shared_view(model), encoder).score(TEXTS)
    expected = score_naively(model, tokenizer, encoder, TEXTS)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATES["alpaca_legacy"],
        TEMPLATES["alpaca_short"],
        PromptTemplate("{instruction}\nText: {input}\nVerdict: {response}"),  # cue ends in a space
        PromptTemplate("{instruction}\n{input}{response}"),  # no cue at all
    ],
    ids=["legacy", "short", "cue ends in a space", "no cue"],
)
def test_scores_equal_a_naive_forward_pass_with_any_template(template, tokenizer):
    model = make_model()
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"], template=template)
    scores = LocalLabelScorer(shared_view(model), encoder).score(TEXTS)
    expected = score_naively(model, tokenizer, encoder, TEXTS)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("texts", [["a"], ["a", "longer"]], ids=["alone", "with another"])
def test_a_prompt_of_one_token_is_scored(texts, model):
    tokenizer = make_tokenizer(adds_start=False)
    prompt = Prompt(PromptTemplate("{instruction}{input}{response}"), "")
    encoder = PromptEncoder(tokenizer, prompt, ["1", "2 or more"], None)
    scores = LocalLabelScorer(shared_view(model), encoder).score(texts)
    expected = score_naively(model, tokenizer, encoder, texts)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS.keys())
def test_the_scores_of_tokens_sum_up_to_those_of_labels(words, model, tokenizer):
    scorer = LocalLabelScorer(shared_view(model), make_encoder(tokenizer, words))
    for text in TEXTS[:3]:
        found = scorer.score_tokens(text)
        sums = np.zeros(len(words))
        labels = [label for label, _, _ in found.prompt.trie.edges]
        np.add.at(sums, labels, found.log_likelihoods)
        np.testing.assert_allclose(sums, scorer.score([text])[0], rtol=0, atol=1e-5)
        assert found.n_shared == len(scorer.encoder.prefix_ids)


def test_an_architecture_with_a_recurrent_state_falls_back_to_full_prompts(tokenizer):
    model = make_model("mamba", state_size=4)
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"])
    scorer = LocalLabelScorer(shared_view(model), encoder)
    expected = score_naively(model, tokenizer, encoder, TEXTS)
    np.testing.assert_allclose(scorer.score(TEXTS), expected, rtol=0, atol=1e-5)
    assert strategy_of(scorer) is FULL_PROMPTS


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS.keys())
def test_a_prefix_is_shared_if_that_is_exact(words, model, tokenizer):
    scorer = LocalLabelScorer(shared_view(model), make_encoder(tokenizer, words))
    assert strategy_of(scorer).prefix is PrefixAttention


@pytest.mark.parametrize("max_batch_tokens", [1, 64, 10_000])
def test_scores_do_not_depend_on_the_batch_size(max_batch_tokens, model, tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"])
    expected = LocalLabelScorer(shared_view(model), encoder).score(TEXTS)
    scorer = LocalLabelScorer(shared_view(model), encoder, max_batch_tokens=max_batch_tokens)
    np.testing.assert_allclose(scorer.score(TEXTS), expected, rtol=0, atol=1e-5)


def test_scores_do_not_depend_on_the_order_of_texts_or_on_neighbours(model, tokenizer):
    scorer = LocalLabelScorer(
        shared_view(model), make_encoder(tokenizer, LABEL_SETS["single tokens"])
    )
    expected = scorer.score(TEXTS)
    np.testing.assert_allclose(scorer.score(TEXTS[::-1]), expected[::-1], rtol=0, atol=1e-5)
    alone = np.concatenate([scorer.score([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-5)


def test_equal_texts_get_equal_scores(model, tokenizer):
    scores = LocalLabelScorer(
        shared_view(model), make_encoder(tokenizer, LABEL_SETS["single tokens"])
    ).score(TEXTS)
    np.testing.assert_array_equal(scores[0], scores[-1])


def test_with_labels_of_one_token_only_the_tokens_after_the_prefix_are_computed(model, tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["single tokens"])
    view = shared_view(model)
    scorer = LocalLabelScorer(view, encoder)
    scorer.score(["warm up"])
    widths = []
    hook = view.register_forward_pre_hook(
        lambda _module, _args, kwargs: widths.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    scorer.score(["a text of a few words"])
    hook.remove()
    (prompt,) = encoder.encode(["a text of a few words"])
    assert [tuple(shape) for shape in widths] == [(1, len(prompt.ids) - len(encoder.prefix_ids))]


def test_only_a_label_that_begins_another_is_scored_with_its_end(tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"], n_shots=0)
    ends = [label for label, _, token in encoder.trie.edges if token == tokenizer.eos_token_id]
    assert [encoder.verbalizer.answers[label] for label in ends] == ["good"]


def test_probabilities_of_all_labels_never_exceed_one(model, tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"])
    mass = np.exp(LocalLabelScorer(shared_view(model), encoder).score(TEXTS)).sum(axis=1)
    assert (mass <= 1 + 1e-6).all()


def test_generation_settings_of_a_model_do_not_change_scores(model, tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["single tokens"])
    expected = LocalLabelScorer(shared_view(model), encoder).score(TEXTS)
    view = shared_view(model)
    view.generation_config.repetition_penalty = 1.5
    np.testing.assert_array_equal(LocalLabelScorer(view, encoder).score(TEXTS), expected)


def test_very_long_labels_do_not_underflow(model, tokenizer):
    words = ["one " * 100 + "way", "another " * 100 + "way"]
    scores = LocalLabelScorer(shared_view(model), make_encoder(tokenizer, words, n_shots=0)).score(
        ["x"]
    )
    assert np.isfinite(scores).all()
    assert (scores < -500).all()


def test_long_texts_are_cut_with_one_warning_that_names_them(model, tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["single tokens"], n_shots=0, max_length=250)
    scorer = LocalLabelScorer(shared_view(model), encoder)
    with pytest.warns(TruncationWarning, match=r"2 texts .* max_length=250 .* 1, 2\)") as seen:
        scores = scorer.score(["short", "long " * 500, "also long " * 500])
    assert len(seen) == 1
    assert np.isfinite(scores).all()


def test_scores_that_are_not_finite_are_an_error_that_names_the_text(tokenizer):
    model = make_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    scorer = LocalLabelScorer(
        shared_view(model), make_encoder(tokenizer, LABEL_SETS["single tokens"])
    )
    with pytest.raises(ScoringError, match=r"log-likelihood of nan for the text .good.*float32"):
        scorer.score(["good"])
    with pytest.raises(ScoringError, match=r"log-likelihood of nan for the text"):
        scorer.score_demonstrations()


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])
def test_scoring_demonstrations_equals_prompts_without_them(architecture, tokenizer):
    model = make_model(architecture)
    encoder = make_encoder(tokenizer, LABEL_SETS["shared beginnings"], n_shots=3)
    scores = LocalLabelScorer(shared_view(model), encoder).score_demonstrations()
    solved = encoder.prompt.demonstrations
    for left_out, (text, _) in enumerate(solved):
        others = encoder.prompt.with_demonstrations(solved[:left_out] + solved[left_out + 1 :])
        smaller = PromptEncoder(tokenizer, others, encoder.verbalizer.answers, None)
        expected = score_naively(model, tokenizer, smaller, [text])[0]
        np.testing.assert_allclose(scores[left_out], expected, rtol=0, atol=1e-5)


def test_a_demonstration_that_repeats_is_not_in_the_prompt_that_scores_it(model, tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["single tokens"], n_shots=3)
    first, *others = encoder.prompt.demonstrations
    repeated = encoder.prompt.with_demonstrations((first, *others, first))
    scorer = LocalLabelScorer(
        shared_view(model), PromptEncoder(tokenizer, repeated, encoder.verbalizer.answers, None)
    )
    scores = scorer.score_demonstrations()
    without = encoder.prompt.with_demonstrations(tuple(others))
    smaller = PromptEncoder(tokenizer, without, encoder.verbalizer.answers, None)
    expected = score_naively(model, tokenizer, smaller, [first[0]])[0]
    np.testing.assert_allclose(scores[[0, -1]], [expected, expected], rtol=0, atol=1e-5)


def test_prompts_without_a_demonstration_share_the_tokens_before_it(model, tokenizer):
    encoder = make_encoder(tokenizer, LABEL_SETS["single tokens"], n_shots=6)
    scorer = LocalLabelScorer(shared_view(model), encoder)
    scorer.score(["x"])  # the prefix goes through
    lengths = []
    scorer.model.get_input_embeddings().register_forward_hook(
        lambda _, inputs, __: lengths.append(inputs[0].numel())
    )
    scorer.score_demonstrations()
    n_prefix = len(encoder.prefix_ids)
    sent = lengths[-6:]
    assert sent == sorted(sent, reverse=True)
    assert sent[0] > 3 * sent[-1]
    assert sum(sent) < 0.6 * 6 * n_prefix
