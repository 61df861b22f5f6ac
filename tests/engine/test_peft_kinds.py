"""Every kind of adapter that PEFT puts into layers can be tuned, and changes no base weight."""

from __future__ import annotations

import copy

import numpy as np
import peft
import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.label_scoring import LocalLabelScorer
from instructclf.engine.tuning.adapters import Adapter, PeftSettings, check_peft_config
from tests.engine.tuning.test_training import (
    FROZEN,
    LABEL_SETS,
    TEXTS,
    assert_same_weights,
    ignore_failed_runs,
    make_base,
    make_encoder,
    tune,
)
from tests.fixtures import make_model

TARGETS = ["q_proj", "v_proj", "gate_proj"]
RATE = 0.01
KINDS = {
    "LoRA": peft.LoraConfig(r=4, target_modules=TARGETS),
    "DoRA": peft.LoraConfig(r=4, use_dora=True, target_modules=TARGETS),
    "DoRA with dropout": peft.LoraConfig(
        r=4, use_dora=True, lora_dropout=0.3, target_modules=TARGETS
    ),
    "rsLoRA": peft.LoraConfig(r=4, use_rslora=True, target_modules=TARGETS),
    "LoRA with a rank for each layer": peft.LoraConfig(
        r=4, target_modules=TARGETS, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 32}
    ),
    "LoRA of the embeddings": peft.LoraConfig(r=4, target_modules=["embed_tokens", "v_proj"]),
    "LoRA with the output layer": peft.LoraConfig(
        r=4, target_modules=TARGETS, modules_to_save=["lm_head"]
    ),
    "LoRA in one layer": peft.LoraConfig(
        r=4, target_modules=TARGETS, layers_to_transform=[1], init_lora_weights="orthogonal"
    ),
    "IA3": peft.IA3Config(target_modules=TARGETS, feedforward_modules=["gate_proj"]),
    "LoHa": peft.LoHaConfig(r=4, target_modules=TARGETS, rank_dropout=0.2),
    "OFT": peft.OFTConfig(oft_block_size=4, target_modules=TARGETS),
    "VeRA": peft.VeraConfig(r=4, target_modules=["q_proj"]),
    "layer norms": peft.LNTuningConfig(target_modules=["input_layernorm"]),
}
pytestmark = [
    ignore_failed_runs,
    # Warnings of PEFT about some of its kinds.
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*lora_bias=True:peft.utils.warning.PeftWarning"),
]
each_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)


def naive_scores(adapted, tokenizer, encoder, text):
    """Full prompts through PEFT's model, one label at a time."""
    scores = []
    for words in encoder.verbalizer.answers:
        prompt = tokenizer(encoder.prompt.render(text))["input_ids"]
        whole = tokenizer(encoder.prompt.render(text, words))["input_ids"]
        with torch.no_grad():
            logits = adapted(input_ids=torch.tensor([whole]), use_cache=False).logits[0]
        steps = logits.double().log_softmax(-1)[len(prompt) - 1 : -1]
        scores.append(steps[range(len(steps)), whole[len(prompt) :]].sum().item())
    return scores


@each_kind
def test_scores_after_tuning_are_those_of_peft(config, tokenizer):
    base, encoder = make_base(tokenizer), make_encoder(tokenizer, LABEL_SETS["shared beginnings"])
    adapter, _ = tune(base, encoder, adapter=PeftSettings(config), learning_rate=RATE)
    scores = LocalLabelScorer(adapter.model, encoder).score(TEXTS)
    untuned = LocalLabelScorer(shared_view(base.model), encoder).score(TEXTS)
    assert np.abs(scores - untuned).max() > 1e-3
    by_peft = peft.get_peft_model(copy.deepcopy(base.model), copy.deepcopy(config)).eval()
    peft.set_peft_model_state_dict(by_peft, adapter.state())
    expected = [naive_scores(by_peft, tokenizer, encoder, text) for text in TEXTS]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)


@each_kind
def test_the_base_model_keeps_every_bit(config, tokenizer):
    base = make_base(tokenizer)
    base.model.requires_grad_(requires_grad=False)
    before = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    adapter, _ = tune(base, adapter=PeftSettings(config))
    assert_same_weights(base.model.state_dict(), before)
    assert not any(weight.requires_grad for weight in base.model.parameters())
    assert not base.model.training
    shared = {weight.untyped_storage().data_ptr() for weight in base.model.parameters()}
    assert not shared & {weight.untyped_storage().data_ptr() for weight in adapter.parameters}


@each_kind
def test_the_state_restores_the_scores(config, tokenizer):
    base, encoder = make_base(tokenizer), make_encoder(tokenizer)
    adapter, _ = tune(base, encoder, adapter=PeftSettings(config))
    restored = Adapter(shared_view(base.model), PeftSettings(config), seed=77)
    restored.load(adapter.state())
    expected = LocalLabelScorer(adapter.model, encoder).score(TEXTS)
    np.testing.assert_array_equal(LocalLabelScorer(restored.model, encoder).score(TEXTS), expected)


@each_kind
def test_the_given_configuration_is_not_changed(config, tokenizer):
    before = copy.deepcopy(config)
    tune(make_base(tokenizer), adapter=PeftSettings(config), **FROZEN)
    assert config == before
    assert config.task_type is None


@each_kind
def test_one_seed_gives_one_adapter_of_each_kind(config, tokenizer):
    base = make_base(tokenizer)
    one, other = (tune(base, adapter=PeftSettings(config))[0].state() for _ in range(2))
    assert_same_weights(one, other)


def test_a_configuration_for_inference_can_be_trained(tokenizer):
    config = peft.LoraConfig(r=2, target_modules=TARGETS, inference_mode=True)
    assert Adapter(shared_view(make_model()), PeftSettings(config)).parameters
    assert config.inference_mode


# Fused updates


def fused(config):
    adapter = Adapter(shared_view(make_model()), PeftSettings(config))
    layers = [m for m in adapter.model.modules() if hasattr(m, "lora_A")]
    return {"forward" in vars(layer) for layer in layers}


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}], ids=["LoRA", "rsLoRA"])
def test_updates_of_lora_are_fused(options):
    assert fused(peft.LoraConfig(target_modules=TARGETS, **options)) == {True}


@pytest.mark.parametrize(
    "options", [{"use_dora": True}, {"lora_dropout": 0.1}, {"lora_bias": True}], ids=str
)
def test_updates_of_variants_are_computed_by_peft(options):
    assert fused(peft.LoraConfig(target_modules=TARGETS, **options)) == {False}


# Weights of the base model


def test_trained_biases_are_copies_of_those_of_the_base_model(tokenizer):
    base = make_base(tokenizer, architecture="gpt2")
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], bias="all")
    before = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    adapter, _ = tune(base, adapter=PeftSettings(config))
    assert_same_weights(base.model.state_dict(), before)
    biases = {name: bias for name, bias in adapter.state().items() if name.endswith("ln_1.bias")}
    assert len(biases) == 2
    assert all(bias.any() for bias in biases.values())  # 0 in the base model


@pytest.mark.parametrize("how", ["olora", "pissa"])
def test_an_initialisation_that_would_change_the_base_model_is_an_error(how):
    """One of them writes into the weights in place, the other one exchanges them."""
    model = make_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=how)
    match = rf"changes weights of the base model.*init_lora_weights='{how}'.*init_lora_weights=Tru"
    with pytest.raises(ValueError, match=match):
        Adapter(shared_view(model), PeftSettings(config))
    assert_same_weights(model.state_dict(), before)


def test_weights_trained_in_half_precision_are_an_error_with_a_way_out():
    model = make_model(dtype=torch.bfloat16)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    with pytest.raises(ValueError, match=r"itself, in bfloat16, .* Use .*dtype='float32'\), or le"):
        Adapter(shared_view(model), PeftSettings(config))
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True)
    adapter = Adapter(shared_view(model), PeftSettings(config))
    assert {weight.dtype for weight in adapter.parameters} == {torch.float32}


# Kinds that cannot be scored


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ("lora", "an instance of peft.PeftConfig, .* Got 'lora'"),
        (peft.LoraConfig, "an instance of peft.PeftConfig"),
        (peft.PeftConfig(), "puts into the layers"),
        (
            peft.PromptTuningConfig(num_virtual_tokens=2),
            "puts into the layers .* Got PromptTuningC",
        ),
        (peft.PrefixTuningConfig(num_virtual_tokens=2), "puts into the layers"),
        (peft.AdaptionPromptConfig(adapter_len=2, adapter_layers=1), "puts into the layers"),
        (peft.AdaLoraConfig(total_step=9), "by gradients alone, .* Got AdaLoraConfig"),
        (peft.LoraConfig(task_type="SEQ_CLS"), 'task_type="CAUSAL_LM", "SEQ_2_SEQ_LM", or without'),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", str(value)),
)
def test_kinds_that_cannot_be_tuned_are_refused_without_a_model(config, match):
    with pytest.raises(ValueError, match=match):
        check_peft_config(config)


@each_kind
def test_kinds_that_can_be_tuned_are_accepted(config):
    check_peft_config(config)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (
            peft.LoraConfig(
                target_modules=TARGETS, alora_invocation_tokens=[1, 2], task_type="CAUSAL_LM"
            ),
            r"part of its work outside the model's layers.*alora_invocation_tokens=\[1, 2\]",
        ),
        (
            peft.PolyConfig(target_modules=TARGETS),
            "cannot be scored with this adapter: PolyConfig.*PEFT says: ",
        ),
    ],
    ids=["a wrapper that marks tokens", "a wrapper that wants more"],
)
def test_kinds_that_do_not_work_in_layers_are_an_error(config, match):
    with pytest.raises(ValueError, match=match):
        Adapter(shared_view(make_model()), PeftSettings(config))


@pytest.mark.skipif(not hasattr(peft, "LilyConfig"), reason="an older PEFT has no such kind")
def test_layers_that_look_ahead_are_an_error():
    config = peft.LilyConfig(target_modules=TARGETS)
    with pytest.raises(ValueError, match="depends on the tokens after it.*LilyConfig"):
        Adapter(shared_view(make_model()), PeftSettings(config))


def test_checks_restore_the_initial_weights(tokenizer):
    adapter = Adapter(shared_view(make_model()), PeftSettings(KINDS["LoRA"]), seed=3)
    assert not any(weight.any() for name, weight in adapter.state().items() if ".lora_B." in name)
