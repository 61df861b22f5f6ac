"""Tuning follows the gradient of the scores that prediction computes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from instructclf.engine.models.loading import BaseModel
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tokens.tokenising import control_strings
from instructclf.engine.tuning import backpropagation
from instructclf.engine.tuning.adapters import LoraSettings
from instructclf.engine.tuning.runs import TrainingSettings
from instructclf.engine.tuning.training import tune_adapter
from instructclf.exceptions import (
    FailedRunWarning,
    ScoringError,
    TrainingDivergedError,
    TruncationWarning,
)
from instructclf.prompts import TEMPLATES, Prompt, write_instruction
from tests.fixtures import make_model, make_tokenizer

TEXTS = ["good", "bad", "a rather good film " * 3, "", "not so bad", "meh, {it} is </s> good"]
LABELS = np.array([1, 0, 1, 0, 0, 1])
LORA = LoraSettings(rank=4, alpha=8, dropout=0.0, target_modules="all-linear")
SETTINGS = TrainingSettings(
    learning_rate=0.01,
    max_epochs=3,
    batch_size=4,
    warmup_ratio=0.1,
    tol=1e-3,
    n_iter_no_change=3,
    target_loss=0.0,
    max_batch_tokens=None,
)
FROZEN = {"learning_rate": 1e-30, "max_epochs": 1}
LABEL_SETS = {
    "single tokens": ["negative", "positive"],
    "shared beginnings": ["very negative", "very positive"],
    "one begins the other": ["good", "good film"],
}
ignore_failed_runs = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")


def make_base(tokenizer, **options):
    return BaseModel("tiny", make_model(**options), tokenizer)


def make_encoder(tokenizer, words=("negative", "positive"), max_length=None):
    controls = control_strings(tokenizer)
    prompt = Prompt(TEMPLATES["alpaca_short"], write_instruction(None, words), (), controls)
    return PromptEncoder(tokenizer, prompt, words, max_length)


def tune(base, encoder=None, *, texts=TEXTS, labels=LABELS, seeds=(0, 1), adapter=LORA, **changes):
    options = {name: changes.pop(name, None) for name in ("weights", "start")}
    return tune_adapter(
        base,
        make_encoder(base.tokenizer) if encoder is None else encoder,
        texts,
        labels,
        adapter=adapter,
        settings=dataclasses.replace(SETTINGS, **changes),
        seeds=seeds,
        **options,
    )


def assert_same_weights(one, other, atol=0.0):
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=0, atol=atol)


# The loss and prediction


@ignore_failed_runs
@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
def test_the_first_loss_is_the_negative_mean_of_predicted_log_probabilities(words, tokenizer):
    base, encoder = make_base(tokenizer), make_encoder(tokenizer, words)
    scores = LocalLabelScorer(shared_view(base.model), encoder).score(TEXTS)
    right = scores[np.arange(len(TEXTS)), LABELS]
    expected = np.mean(np.logaddexp.reduce(scores, axis=1) - right)
    _, record = tune(base, encoder, **FROZEN)
    assert record.label_loss_curve[0] == pytest.approx(expected, abs=1e-5)


@ignore_failed_runs
@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
def test_the_language_loss_is_that_of_a_naive_forward_pass(words, tokenizer):
    """It is the mean negative log-likelihood of the response's tokens, including its end."""
    base, encoder = make_base(tokenizer), make_encoder(tokenizer, words)
    losses = [
        naive_language_loss(base, encoder, text, words[label])
        for text, label in zip(TEXTS, LABELS, strict=True)
    ]
    _, record = tune(base, encoder, loss="lm+label", **FROZEN)
    language_loss = record.loss_curve[0] - record.label_loss_curve[0]
    assert language_loss == pytest.approx(np.mean(losses), abs=1e-5)


@ignore_failed_runs
def test_with_several_answers_a_label_is_right_by_any_and_taught_by_the_first(tokenizer):
    base = make_base(tokenizer)
    answers = [("bad", "very bad"), ("good", "good film")]
    encoder = PromptEncoder(tokenizer, make_encoder(tokenizer).prompt, answers, None)
    scores = LocalLabelScorer(shared_view(base.model), encoder).score(TEXTS)
    right = scores[np.arange(len(TEXTS)), LABELS]
    label_loss = np.mean(np.logaddexp.reduce(scores, axis=1) - right)
    language_losses = [
        naive_language_loss(base, encoder, text, answers[label][0])
        for text, label in zip(TEXTS, LABELS, strict=True)
    ]
    _, record = tune(base, encoder, loss="lm+label", **FROZEN)
    assert record.label_loss_curve[0] == pytest.approx(label_loss, abs=1e-5)
    expected = label_loss + np.mean(language_losses)
    assert record.loss_curve[0] == pytest.approx(expected, abs=1e-5)


def naive_language_loss(base, encoder, text, words):
    prompt = base.tokenizer(encoder.prompt.render(text))["input_ids"]
    whole = base.tokenizer(encoder.prompt.render(text, words))["input_ids"]
    assert whole[: len(prompt)] == prompt
    whole.append(base.tokenizer.eos_token_id)
    with torch.no_grad():
        logits = base.model(torch.tensor([whole]), use_cache=False).logits[0].double()
    steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return -steps[range(len(steps)), whole[len(prompt) :]].mean().item()


@ignore_failed_runs
def test_without_an_end_token_the_labels_alone_are_learned():
    base = make_base(make_tokenizer(end=None))
    encoder = make_encoder(base.tokenizer)
    scores = LocalLabelScorer(shared_view(base.model), encoder).score(TEXTS)
    _, record = tune(base, encoder, loss="lm+label", **FROZEN)
    language_loss = record.loss_curve[0] - record.label_loss_curve[0]
    right = scores[np.arange(len(TEXTS)), LABELS]
    assert language_loss == pytest.approx(-right.mean(), abs=1e-5)  # one token each


@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
def test_the_trained_adapter_scores_what_its_loss_says(words, tokenizer):
    """After training, prediction through shared prefixes gives the loss of one more epoch."""
    base, encoder = make_base(tokenizer), make_encoder(tokenizer, words)
    adapter, _ = tune(base, encoder, max_epochs=10)
    scores = LocalLabelScorer(adapter.model, encoder).score(TEXTS)
    with torch.no_grad():
        for row, text in enumerate(TEXTS):
            naive = LocalLabelScorer(adapter.model, encoder, max_batch_tokens=1).score([text])
            np.testing.assert_allclose(scores[row], naive[0], rtol=0, atol=1e-5)
    assert (scores.argmax(axis=1) == LABELS).all()


# Splitting a step


@ignore_failed_runs
@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
def test_small_parts_give_the_gradient_of_the_whole_batch(words, tokenizer):
    base = make_base(tokenizer, dtype=torch.float64)
    states = [
        tune(base, make_encoder(tokenizer, words), max_batch_tokens=budget, max_epochs=2)[0].state()
        for budget in (1, 100, 100_000)
    ]
    assert_same_weights(states[0], states[1], atol=1e-7)
    assert_same_weights(states[0], states[2], atol=1e-7)


def test_the_gradient_is_the_mean_over_the_rows_of_a_batch(tokenizer):
    """Rows given twice in a batch twice as large train the same adapter."""
    base = make_base(tokenizer, dtype=torch.float64)
    once, _ = tune(base, batch_size=6)
    twice, _ = tune(base, batch_size=12, texts=TEXTS * 2, labels=np.tile(LABELS, 2))
    assert_same_weights(once.state(), twice.state(), atol=1e-6)


@ignore_failed_runs
@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
def test_gradient_checkpointing_trains_the_same_adapter(words, tokenizer):
    base, encoder = make_base(tokenizer, dtype=torch.float64), make_encoder(tokenizer, words)
    without, with_checkpointing = (
        tune(base, encoder, gradient_checkpointing=wanted)[0].state() for wanted in (False, True)
    )
    assert_same_weights(without, with_checkpointing, atol=1e-7)


# Upper layers only

UPPER = dataclasses.replace(LORA, n_layers=1)


@ignore_failed_runs
def test_updates_are_in_the_upper_layers_only(tokenizer):
    adapter, _ = tune(make_base(tokenizer), adapter=UPPER)
    assert adapter.state()
    assert all(".layers.1." in name for name in adapter.state())


@ignore_failed_runs
@pytest.mark.parametrize("words", LABEL_SETS.values(), ids=LABEL_SETS)
def test_an_adapter_is_the_same_whether_frozen_layers_run_once_or_in_every_epoch(
    words, tokenizer, monkeypatch
):
    base, encoder = make_base(tokenizer, dtype=torch.float64), make_encoder(tokenizer, words)
    once, _ = tune(base, encoder, adapter=UPPER)
    monkeypatch.setattr("instructclf.engine.tuning.replay.free_memory", lambda _: 0)
    every_epoch, _ = tune(base, encoder, adapter=UPPER)
    assert_same_weights(once.state(), every_epoch.state(), atol=1e-7)


@ignore_failed_runs
def test_tuning_the_number_of_all_layers_tunes_all_layers(tokenizer):
    base = make_base(tokenizer)
    by_number, _ = tune(base, adapter=dataclasses.replace(LORA, n_layers=2))
    assert_same_weights(by_number.state(), tune(base)[0].state())


def test_more_tuned_layers_than_there_are_is_an_error_with_a_way_out(tokenizer):
    with pytest.raises(
        ValueError, match=r"LoRA\(n_layers=3\) asks for more than the 2 layers .* Set n_l"
    ):
        tune(make_base(tokenizer), adapter=dataclasses.replace(LORA, n_layers=3))


def test_prediction_after_tuning_uses_its_own_attention(tokenizer):
    base, encoder = make_base(tokenizer), make_encoder(tokenizer)
    adapter, _ = tune(base, encoder, max_epochs=10)
    scorer = LocalLabelScorer(adapter.model, encoder)
    scorer.score(TEXTS)
    assert list(scorer._shared._prefixes) == [PrefixAttention]


# Learning


def test_the_loss_falls(tokenizer):
    _, record = tune(make_base(tokenizer), max_epochs=8)
    assert record.loss_curve[-1] < 0.5 * record.loss_curve[0]
    assert record.label_loss_curve[-1] < 0.3


def test_the_base_model_does_not_change(tokenizer):
    base = make_base(tokenizer)
    before = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    tune(base, max_epochs=2, batch_size=2)
    assert_same_weights(base.model.state_dict(), before)
    assert not base.model.training
    assert all(weight.grad is None for weight in base.model.parameters())


@ignore_failed_runs
def test_training_stops_after_max_epochs(tokenizer):
    _, record = tune(make_base(tokenizer), max_epochs=2)
    assert record.stopped_by == "max_epochs"
    assert len(record.loss_curve) == 2


@ignore_failed_runs
def test_training_stops_when_the_loss_is_low_enough(tokenizer):
    _, record = tune(make_base(tokenizer), target_loss=100.0)
    assert record.stopped_by == "target_loss"
    assert len(record.loss_curve) == 1


def test_the_target_is_one_for_the_label_loss(tokenizer):
    _, record = tune(make_base(tokenizer), max_epochs=20, target_loss=0.3)
    assert record.stopped_by == "target_loss"
    assert record.label_loss_curve[-1] <= 0.3 < record.label_loss_curve[-2]


@ignore_failed_runs
@pytest.mark.parametrize("patience", [1, 2])
def test_training_stops_when_the_loss_stops_falling(patience, tokenizer):
    _, record = tune(make_base(tokenizer), tol=100.0, n_iter_no_change=patience, max_epochs=9)
    assert record.stopped_by == "n_iter_no_change"
    assert len(record.loss_curve) == patience + 1


# Random numbers


@ignore_failed_runs
def test_one_seed_gives_one_adapter(tokenizer):
    base = make_base(tokenizer)
    (one, first), (other, second) = tune(base, batch_size=2), tune(base, batch_size=2)
    assert_same_weights(one.state(), other.state())
    assert first.loss_curve == second.loss_curve


@ignore_failed_runs
def test_another_seed_gives_another_adapter(tokenizer):
    base = make_base(tokenizer)
    one, other = (tune(base, seeds=(seed, seed + 1))[0].state() for seed in (0, 5))
    assert not all(torch.equal(one[name], other[name]) for name in one)


@ignore_failed_runs
def test_one_seed_gives_one_adapter_with_dropout_too(tokenizer):
    base, lora = make_base(tokenizer), dataclasses.replace(LORA, dropout=0.3)
    one, other = (tune(base, adapter=lora)[0].state() for _ in range(2))
    assert_same_weights(one, other)


@ignore_failed_runs
def test_the_global_generator_is_not_advanced(tokenizer):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    tune(make_base(tokenizer), adapter=dataclasses.replace(LORA, dropout=0.3))
    assert torch.equal(torch.rand(3), expected)


# Failure


def test_a_run_that_learns_nothing_is_restarted_with_a_warning(tokenizer):
    match = (
        r"Tuning ended with a label loss of \d\.\d+, where guessing gives 0\.693\. .* started again"
    )
    with pytest.warns(FailedRunWarning, match=match) as seen:
        tune(make_base(tokenizer), **FROZEN)
    assert len(seen) == 1


def test_a_run_that_was_too_slow_is_told_to_take_larger_steps(tokenizer):
    """At this learning rate, two epochs lower the loss, but not enough."""
    match = r"still falling, from .* above 1e-05, such as 5e-05, or max_epochs above 2"
    with pytest.warns(FailedRunWarning, match=match):
        tune(make_base(tokenizer), learning_rate=1e-5, max_epochs=2)


def test_a_run_that_did_not_improve_is_told_to_change_other_settings(tokenizer):
    with pytest.warns(FailedRunWarning, match="more rows, more epochs or another learning_rate"):
        tune(make_base(tokenizer), **FROZEN)


def test_the_better_of_two_failed_runs_is_kept(tokenizer):
    """A first run that fails leaves no trace if the second one is better."""
    base = make_base(tokenizer)
    with pytest.warns(FailedRunWarning, match="another seed"):
        adapter, record = tune(base, learning_rate=0.003, max_epochs=1, seeds=(0, 1))
    candidates = []
    for seed in (0, 1):
        with pytest.warns(FailedRunWarning, match="another seed"):
            candidates.append(tune(base, learning_rate=0.003, max_epochs=1, seeds=(seed, seed)))
    best = min(candidates, key=lambda run: run[1].label_loss_curve[-1])
    assert record.loss_curve == best[1].loss_curve
    assert_same_weights(adapter.state(), best[0].state())


def test_guessing_depends_on_the_number_of_labels(tokenizer):
    words = ["a", "b", "c", "d"]
    labels = np.array([0, 1, 2, 3, 0, 1])
    with pytest.warns(FailedRunWarning, match=f"guessing gives {math.log(4):.3f}"):
        tune(make_base(tokenizer), make_encoder(tokenizer, words), labels=labels, **FROZEN)


def test_a_loss_that_is_not_finite_is_an_error_with_a_way_out(tokenizer):
    base = make_base(tokenizer)
    with torch.no_grad():
        base.model.get_output_embeddings().weight.fill_(float("nan"))
    match = r"loss became nan at step 1 of 6 with .* of 0\.01\. Use a lower learning_rate, or mod"
    with pytest.raises(TrainingDivergedError, match=match):
        tune(base)


def test_texts_too_long_are_cut_with_one_warning(tokenizer):
    encoder = make_encoder(tokenizer, max_length=120)
    texts = [*TEXTS[:-1], "long " * 200]
    match = r"1 text is longer than max_length=120 .*\(position 5\)"
    with pytest.warns(TruncationWarning, match=match) as seen:
        tune(make_base(tokenizer), encoder, texts=texts, max_epochs=6)
    assert len(seen) == 1


@pytest.mark.parametrize("limit", [70, 100])
def test_tuning_continues_in_smaller_parts_after_memory_ran_out(limit, tokenizer, monkeypatch):
    """With too many tokens, a forward pass raises the error of a device that is full."""
    base = make_base(tokenizer)
    expected, _ = tune(base, max_batch_tokens=10_000, batch_size=8)
    n_failures = 0
    forward = backpropagation.label_log_likelihoods

    def run_out(model, prompts, layout, prefix):
        nonlocal n_failures
        n_prefix = 0 if prefix is None else prefix.length
        scores = forward(model, prompts, layout, prefix)
        if sum(prompt.n_tokens - n_prefix for prompt in prompts) > limit:
            n_failures += 1
            scores.sum().backward()  # these gradients must be dropped
            msg = "CUDA out of memory."
            raise RuntimeError(msg)
        return scores

    monkeypatch.setattr(backpropagation, "label_log_likelihoods", run_out)
    found, _ = tune(base, max_batch_tokens=10_000, batch_size=8)
    assert 0 < n_failures < 10
    assert_same_weights(found.state(), expected.state(), atol=1e-4)


def test_memory_too_small_for_one_row_is_an_error_with_a_way_out(tokenizer, monkeypatch):
    def run_out(*_):
        msg = "CUDA out of memory."
        raise RuntimeError(msg)

    monkeypatch.setattr(backpropagation, "label_log_likelihoods", run_out)
    with pytest.raises(ScoringError, match="single text of .* tokens. Lower max_length"):
        tune(make_base(tokenizer))


class NotInHalf(torch.nn.Module):
    """An activation that needs a function of float16, which the CPU lacks."""

    def forward(self, x):
        return x * torch.special.ndtri(torch.full_like(x, 0.7, dtype=torch.float16))


@ignore_failed_runs
def test_a_model_in_half_precision_learns_with_a_scaled_loss(tokenizer):
    """The first scale is too large here, and no step may be skipped because of that."""
    _, scaled = tune(make_base(tokenizer, dtype=torch.float16), max_epochs=6)
    _, expected = tune(make_base(tokenizer), max_epochs=6)
    np.testing.assert_allclose(scaled.loss_curve, expected.loss_curve, rtol=0.05)
    assert scaled.loss_curve[-1] < 0.7 * scaled.loss_curve[0]


def test_a_device_that_cannot_tune_in_half_precision_is_an_error_with_a_way_out(tokenizer):
    base = make_base(tokenizer, dtype=torch.float16)
    for layer in base.model.model.layers:
        layer.mlp.act_fn = NotInHalf()
    match = r"cannot tune this model in float16\. Use dtype='bfloat16' or dtype='float32' in ModelO"
    with pytest.raises(ScoringError, match=match):
        tune(base)
