"""An adapter that PEFT or TRL saved is a base model: for prompts, and for tuning on top of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from instructclf import PromptClassifier, load
from instructclf.engine.models.adapter_folders import read_base_name
from instructclf.engine.models.loading import load_base_model
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.exceptions import ModelLoadingError
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]

UNSEEN = ["good", "", "bad {input} </s>", "a film that is long and not so good"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
CONFIGS = {
    "LoRA": LoraConfig(**LORA),
    "DoRA": LoraConfig(**LORA, use_dora=True),
    "rsLoRA": LoraConfig(**LORA, use_rslora=True),
    "whole layers": LoraConfig(**LORA, modules_to_save=["lm_head"]),
    "IA3": IA3Config(task_type="CAUSAL_LM"),
}


def make_adapter(model_folder, folder, config):
    """Save an adapter as PEFT does after training, whose weights are all drawn at random."""
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    wrapped = get_peft_model(base, config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    wrapped.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def adapter(model_folder, tmp_path_factory):
    return make_adapter(
        model_folder, tmp_path_factory.mktemp("adapters") / "lora", LoraConfig(**LORA)
    )


def score_with_peft(model_folder, adapter, classifier, texts):
    """Score labels one by one, by forward passes through PEFT's own model."""
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    encoder = PromptEncoder(tokenizer, classifier.prompt_, classifier.label_words_, None)
    scores = []
    for text in texts:
        prompt = classifier.prompt_.render(text)
        start = encoder.encode([text])[0].ids
        assert tokenizer(prompt, split_special_tokens=True)["input_ids"][: len(start)] == start
        for (words,) in classifier.label_words_:
            whole = tokenizer(prompt + words, split_special_tokens=True)["input_ids"]
            with torch.no_grad():
                steps = model(input_ids=torch.tensor([whole])).logits[0].double().log_softmax(-1)
            of_label = range(len(start), len(whole))
            scores.append(sum(steps[i - 1, whole[i]].item() for i in of_label))
    return np.reshape(scores, (len(texts), -1))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_prompting_an_adapter_gives_the_scores_of_peft(config, model_folder, tmp_path):
    adapter = make_adapter(model_folder, tmp_path / "adapter", config)
    classifier = PromptClassifier(adapter, n_shots=2, random_state=0).fit(TEXTS, LABELS)
    expected = score_with_peft(model_folder, adapter, classifier, UNSEEN)
    np.testing.assert_allclose(classifier.label_log_likelihood(UNSEEN), expected, rtol=0, atol=2e-5)
    without = PromptClassifier(model_folder, n_shots=2, random_state=0).fit(TEXTS, LABELS)
    assert np.abs(without.label_log_likelihood(UNSEEN) - expected).max() > 0.01


def test_an_adapter_is_tuned_further_and_saved(adapter, make_tuning, tmp_path):
    prompted = PromptClassifier(adapter, n_shots=0).fit(TEXTS, LABELS)
    before = prompted.label_log_likelihood(UNSEEN)
    tuned = make_tuning().set_params(model=adapter).fit(TEXTS, LABELS)
    assert np.abs(tuned.label_log_likelihood(UNSEEN) - before).max() > 0.01
    np.testing.assert_array_equal(prompted.label_log_likelihood(UNSEEN), before)
    tuned.save(tmp_path / "saved")
    np.testing.assert_array_equal(
        load(tmp_path / "saved").predict_proba(UNSEEN), tuned.predict_proba(UNSEEN)
    )


def test_a_saved_classifier_is_a_base_model_too(make_tuning, tmp_path):
    tuned = make_tuning().fit(TEXTS, LABELS)
    tuned.save(tmp_path / "saved")
    prompted = PromptClassifier(str(tmp_path / "saved"), n_shots=0).fit(TEXTS, LABELS)
    np.testing.assert_allclose(
        prompted.label_log_likelihood(UNSEEN),
        tuned.label_log_likelihood(UNSEEN),
        rtol=0,
        atol=1e-5,
    )


def test_a_folder_that_was_saved_anew_is_loaded_anew(make_tuning, tmp_path):
    scores = []
    for seed in (0, 1):
        tuned = make_tuning(random_state=seed).fit(TEXTS, LABELS)
        tuned.save(tmp_path / "saved")
        prompted = PromptClassifier(str(tmp_path / "saved"), n_shots=0).fit(TEXTS, LABELS)
        scores.append(prompted.label_log_likelihood(UNSEEN))
        np.testing.assert_allclose(
            scores[-1], tuned.label_log_likelihood(UNSEEN), rtol=0, atol=1e-5
        )
    assert np.abs(scores[0] - scores[1]).max() > 0.01


def test_an_adapter_on_an_adapter_is_merged_into_both(make_tuning, adapter, tmp_path):
    tuned = make_tuning().set_params(model=adapter).fit(TEXTS, LABELS)
    tuned.save(tmp_path / "saved")
    prompted = PromptClassifier(str(tmp_path / "saved"), n_shots=0).fit(TEXTS, LABELS)
    np.testing.assert_allclose(
        prompted.label_log_likelihood(UNSEEN),
        tuned.label_log_likelihood(UNSEEN),
        rtol=0,
        atol=1e-5,
    )


def test_a_tokenizer_that_was_saved_with_the_adapter_is_used(adapter, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(folder)
    base = load_base_model(str(folder), device=torch.device("cpu"), dtype=torch.float32)
    assert base.tokenizer.chat_template == "{{ messages }}"
    assert base.name == str(folder)


def score(model, texts=UNSEEN):
    classifier = PromptClassifier(model, n_shots=2, random_state=0, calibration=None)
    return classifier.fit(TEXTS, LABELS).label_log_likelihood(texts)


def test_a_configuration_next_to_an_adapter_makes_no_whole_model(adapter, model_folder, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    AutoConfig.from_pretrained(model_folder).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    np.testing.assert_array_equal(score(str(folder)), score(adapter))


def test_whole_weights_next_to_an_adapter_are_its_model(adapter, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "both")
    change(adapter, tmp_path, base_model_name_or_path="/no/such/folder")
    shutil.copytree(tmp_path / "changed", folder, dirs_exist_ok=True)
    np.testing.assert_allclose(score(str(folder)), score(adapter), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Model has .* and a tied layer:UserWarning")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_of_tied_layers_gives_the_scores_of_peft(target, tmp_path):
    make_model(tie_word_embeddings=True).save_pretrained(tmp_path / "tied")
    make_tokenizer().save_pretrained(tmp_path / "tied")
    config = LoraConfig(**LORA | {"target_modules": [target]})
    adapter = make_adapter(tmp_path / "tied", tmp_path / "adapter", config)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tied")
    pair = PeftModel.from_pretrained(model, adapter).eval(), make_tokenizer()
    np.testing.assert_allclose(score(adapter), score(pair), rtol=0, atol=2e-5)


def test_an_adapter_on_weights_in_4_bits_is_merged_into_unpacked_ones(model_folder, tmp_path):
    pytest.importorskip("bitsandbytes", reason="4 bits take the quantization extra")
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    small = AutoModelForCausalLM.from_pretrained(model_folder, quantization_config=config)
    small.save_pretrained(tmp_path / "small")
    make_tokenizer().save_pretrained(tmp_path / "small")
    adapter = make_adapter(tmp_path / "small", tmp_path / "adapter", LoraConfig(**LORA))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    pair = PeftModel.from_pretrained(model, adapter).eval(), make_tokenizer()
    np.testing.assert_allclose(score(adapter), score(pair), rtol=0, atol=1e-3)


# Which model it was trained on


def test_the_revision_that_an_adapter_states_is_part_of_the_name(adapter, tmp_path):
    folder = change(adapter, tmp_path, base_model_name_or_path="owner/name", revision="v1")
    assert read_base_name(folder, "a") == "owner/name@v1"


@pytest.mark.parametrize("revision", [None, "", "main"])
def test_without_a_revision_it_is_the_main_branch(revision, adapter, tmp_path):
    folder = change(adapter, tmp_path, base_model_name_or_path="owner/name", revision=revision)
    assert read_base_name(folder, "a") == "owner/name"


def test_a_folder_has_no_revision(adapter, model_folder, tmp_path):
    folder = change(adapter, tmp_path, revision="v1")
    assert read_base_name(folder, "a") == model_folder


def test_a_relative_path_may_begin_at_the_adapter(adapter, model_folder, tmp_path):
    folder = change(adapter, tmp_path, base_model_name_or_path="tiny/base")
    shutil.copytree(model_folder, folder / "tiny" / "base")
    np.testing.assert_array_equal(score(str(folder)), score(adapter))


def test_the_pinned_model_of_a_classifier_is_written_as_peft_reads_it(make_tuning, tmp_path):
    tuned = make_tuning(max_epochs=1).fit(TEXTS, LABELS)
    model = tuned.open_model()
    for name, expected in (("owner/name@v1", ("owner/name", "v1")), ("a", ("a", None))):
        model.write_adapter(tuned.labeller_.adapter, tmp_path, name)
        written = json.loads((tmp_path / "adapter_config.json").read_text())
        assert (written["base_model_name_or_path"], written["revision"]) == expected


# Tuning a model that has an adapter


@pytest.mark.parametrize("loaded_by", ["peft", "transformers"])
def test_an_adapter_of_a_given_model_is_kept_when_another_is_tuned(
    loaded_by, adapter, model_folder, make_tuning
):
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    if loaded_by == "peft":
        model = PeftModel.from_pretrained(model, adapter).eval()
    else:
        model.load_adapter(adapter)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    pair = model, make_tokenizer()
    still = {"max_epochs": 1, "learning_rate": 1e-12, "calibration": None, "n_shots": 4}
    tuned = make_tuning(model=pair, **still).fit(TEXTS, LABELS)
    prompted = PromptClassifier(pair, n_shots=0, calibration=None).fit(TEXTS, LABELS)
    expected = prompted.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(tuned.label_log_likelihood(UNSEEN), expected, rtol=0, atol=1e-4)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_an_adapter_on_quantised_weights_cannot_be_tuned_further(model_folder, make_tuning):
    pytest.importorskip("bitsandbytes", reason="4 bits take the quantization extra")
    config = BitsAndBytesConfig(load_in_4bit=True)
    model = AutoModelForCausalLM.from_pretrained(model_folder, quantization_config=config)
    pair = get_peft_model(model, LoraConfig(**LORA)).eval(), make_tokenizer()
    with pytest.raises(ModelLoadingError, match="cannot be merged, because its weights are quant"):
        make_tuning(model=pair).fit(TEXTS, LABELS)


# What goes wrong


def change(adapter, tmp_path, **changes):
    folder = Path(shutil.copytree(adapter, tmp_path / "changed"))
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_weights_in_another_format_are_not_read(adapter, tmp_path):
    folder = change(adapter, tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(
        ModelLoadingError, match="has no safetensors weights: it lacks the file adapter_m"
    ):
        PromptClassifier(str(folder)).fit(TEXTS, LABELS)


@pytest.mark.parametrize("name", [None, "", 3])
def test_a_base_model_that_is_not_named_is_an_error(name, adapter, tmp_path):
    folder = change(adapter, tmp_path, base_model_name_or_path=name)
    match = "does not say which model it was trained on: base_model_name_or_path .* is .* Write"
    with pytest.raises(ModelLoadingError, match=match):
        PromptClassifier(str(folder)).fit(TEXTS, LABELS)


def test_an_adapter_that_names_itself_is_an_error(adapter, tmp_path):
    folder = change(adapter, tmp_path, base_model_name_or_path=str(tmp_path / "changed"))
    with pytest.raises(ModelLoadingError, match="does not say which model it was trained on"):
        PromptClassifier(str(folder)).fit(TEXTS, LABELS)


def test_a_base_model_that_is_not_there_is_named_with_its_adapter(adapter, tmp_path):
    folder = change(adapter, tmp_path, base_model_name_or_path="/no/such/folder")
    with pytest.raises(
        ModelLoadingError, match="model folder '/no/such/folder' does not exist"
    ) as caught:
        PromptClassifier(str(folder)).fit(TEXTS, LABELS)
    (note,) = caught.value.__notes__
    assert note == f"The adapter {str(folder)!r} names it as the model that it was trained on."


def test_another_base_model_is_an_error(adapter, tmp_path):
    folder = change(adapter, tmp_path, base_model_name_or_path="bundled")
    match = "not be merged into the model that it names: the two do not fit, .* size mismatch"
    with pytest.raises(ModelLoadingError, match=match) as caught:
        PromptClassifier(str(folder)).fit(TEXTS, LABELS)
    assert len(str(caught.value)) < 600


def test_weights_that_are_missing_are_an_error_and_never_random(adapter, tmp_path):
    folder = change(adapter, tmp_path)
    weights = load_file(folder / "adapter_model.safetensors")
    del weights[min(weights)]
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(ModelLoadingError, match="weights are missing. PEFT said: Found missing ad"):
        PromptClassifier(str(folder)).fit(TEXTS, LABELS)


def test_a_layer_that_was_to_be_saved_whole_and_is_missing_is_an_error(adapter, tmp_path):
    folder = change(adapter, tmp_path, modules_to_save=["lm_head"])
    with pytest.raises(
        ModelLoadingError, match=r"weights are missing. PEFT said: .*lm_head\.weight"
    ):
        PromptClassifier(str(folder)).fit(TEXTS, LABELS)


def test_a_broken_configuration_is_an_error(adapter, tmp_path):
    folder = change(adapter, tmp_path)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ModelLoadingError, match="adapter_config.json of .* is not a JSON object"):
        PromptClassifier(str(folder)).fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (LoraConfig(**(LORA | {"task_type": TaskType.SEQ_CLS})), "made for the task SEQ_CLS"),
        (PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"), "kind PROMPT_TUNING"),
    ],
    ids=["another task", "outside the layers"],
)
def test_an_adapter_that_cannot_be_merged_is_an_error(config, said, adapter, tmp_path):
    folder = change(adapter, tmp_path)
    config.base_model_name_or_path = json.loads(
        (Path(adapter) / "adapter_config.json").read_text()
    )["base_model_name_or_path"]
    config.save_pretrained(str(folder))
    with pytest.raises(
        ModelLoadingError, match=f"{said}, and cannot be merged into a language mod"
    ):
        PromptClassifier(str(folder)).fit(TEXTS, LABELS)


def test_an_adapter_is_not_merged_into_weights_in_4_bits(adapter, make_prompting):
    pytest.importorskip("bitsandbytes", reason="4 bits take the quantization extra")
    match = r"is an adapter\. .* impossible in weights stored in 4bit\. Use .*\(quantization=None\)"
    classifier = make_prompting(model=adapter, model_options__quantization="4bit")
    with pytest.raises(ModelLoadingError, match=match):
        classifier.fit(TEXTS, LABELS)
