"""Models load from folders and hub ids, or fail with a reason and a remedy."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    WhisperConfig,
)
from transformers.utils.logging import is_progress_bar_enabled

from instructclf.engine.models.loading import BaseModel, load_base_model, wrap_loaded_model
from instructclf.exceptions import ModelLoadingError, RemoteCodeWarning
from tests.families import make_encoder_decoder
from tests.fixtures import CONTEXT, make_model, make_tokenizer


@pytest.fixture
def folder(model_folder, tmp_path):
    """Return a copy of the model for a test to damage."""
    return shutil.copytree(model_folder, tmp_path / "copy")


def load(name, dtype=torch.float32):
    return load_base_model(str(name), device=torch.device("cpu"), dtype=dtype)


def change_config(folder, **changes):
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What loads


def test_a_folder_loads_frozen_and_in_evaluation_mode(folder, model):
    base = load(folder)
    assert base.name == str(folder)
    assert not base.model.training
    assert not any(weight.requires_grad for weight in base.model.parameters())
    for name, weight in model.state_dict().items():
        assert torch.equal(base.model.state_dict()[name], weight)
    assert base.tokenizer("good")["input_ids"] == make_tokenizer()("good")["input_ids"]


def test_weights_are_converted_to_the_data_type(folder):
    assert load(folder, torch.bfloat16).model.dtype == torch.bfloat16


def test_loading_draws_no_bar(folder, capfd):
    load(folder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("is_off", [True, False])
def test_bars_of_the_hub_stay_as_a_user_has_set_them(is_off, folder):
    try:
        (disable_progress_bars if is_off else enable_progress_bars)()
        load(folder)
        assert are_progress_bars_disabled() == is_off
        assert is_progress_bar_enabled()
    finally:
        enable_progress_bars()


def test_the_context_is_that_of_the_model_or_the_tokenizer_whichever_is_shorter(model):
    tokenizer = make_tokenizer()
    assert BaseModel("a", model, tokenizer).context_length == CONTEXT
    tokenizer.model_max_length = 100
    assert BaseModel("a", model, tokenizer).context_length == 100


def test_a_model_that_states_no_context_length_has_no_limit(tokenizer):
    model = make_model("mamba", state_size=4, max_position_embeddings=None)
    assert BaseModel("a", model, tokenizer).context_length is None


# What is missing


def test_a_folder_without_a_tokenizer_is_an_error(folder):
    (folder / "tokenizer.json").unlink()
    match = "has no tokenizer: none of tokenizer.json, .*tokenizer.save_pretrained"
    with pytest.raises(ModelLoadingError, match=match):
        load(folder)


def test_a_folder_without_a_configuration_is_an_error(folder):
    (folder / "config.json").unlink()
    with pytest.raises(ModelLoadingError, match=r"model folder '.*copy' has no config\.json"):
        load(folder)


def test_a_file_is_an_error_that_asks_for_its_folder(folder):
    match = r"'.*model\.safetensors' is a file\. Give the folder that holds it"
    with pytest.raises(ModelLoadingError, match=match):
        load(folder / "model.safetensors")


@pytest.mark.parametrize("name", ["no-such-model", "nobody/no-such-model"])
def test_an_unknown_name_is_an_error_that_says_what_a_name_can_be(name):
    match = rf"The model '{name}' could not be loaded: it must be 'bundled', a folder .* hub"
    with pytest.raises(ModelLoadingError, match=match):
        load(name)


@pytest.mark.parametrize(
    "name", ["./nowhere", "../nowhere", "~/nowhere", "/nowhere/at/all", "no/such/folder"]
)
def test_a_path_that_does_not_exist_is_not_looked_up_on_the_hub(name):
    with pytest.raises(ModelLoadingError, match=rf"model folder '{name}' does not exist: it is '/"):
        load(name)


def test_the_error_is_an_os_error_like_that_of_transformers():
    with pytest.raises(OSError, match="no-such-model"):
        load("no-such-model")


def test_weights_that_are_a_pickle_are_not_read(folder, model):
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    match = (
        r"are a pickle \(pytorch_model.bin\), which can run code .* convert the model once: AutoMod"
    )
    with pytest.raises(ModelLoadingError, match=match):
        load(folder)


def test_a_pickle_is_converted_as_the_error_says(folder, model):
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    AutoModelForCausalLM.from_pretrained(folder, use_safetensors=False).save_pretrained(folder)
    for name, weight in load(folder).model.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])


def test_a_pickle_beside_safetensors_is_not_opened(folder):
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    assert load(folder).model.dtype == torch.float32


def test_no_weights_at_all_are_an_error(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ModelLoadingError, match="has no weights: there is no file named model.safe"
    ):
        load(folder)


# What is broken


def test_a_configuration_that_is_not_json_is_an_error(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelLoadingError, match="not a valid JSON file"):
        load(folder)


def test_a_tokenizer_that_is_broken_is_an_error(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelLoadingError, match="The tokenizer of '.*copy' could not be loaded"):
        load(folder)


def test_weights_of_another_shape_are_an_error(folder):
    change_config(folder, vocab_size=700)
    match = r"has \d weights of other shapes than its config\.json says, such as 'lm_head\.weight'"
    with pytest.raises(ModelLoadingError, match=match):
        load(folder)


def test_weights_that_are_missing_are_an_error_and_never_random(folder):
    change_config(folder, num_hidden_layers=3)
    with pytest.raises(ModelLoadingError, match="layers.2"):
        load(folder)


# Other models than decoder-only language models


def test_an_encoder_decoder_of_other_inputs_than_texts_is_an_error(folder):
    WhisperConfig(vocab_size=600, d_model=8).save_pretrained(folder)
    match = r"'.*copy' \(whisper\) is an encoder-decoder that transformers does not load with"
    with pytest.raises(ModelLoadingError, match=match):
        load(folder)


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_is_an_error(folder):
    config = BertConfig(
        vocab_size=600,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    with pytest.raises(ModelLoadingError, match="decoder-only"):
        load(folder)


def test_code_that_comes_with_a_model_is_not_run_even_if_someone_says_yes(folder, monkeypatch):
    change_config(folder, model_type="mine", auto_map={"AutoConfig": "configuration_mine.Mine"})
    (folder / "configuration_mine.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(folder)!r}, 'it-ran').touch()\n"
        "from transformers import PretrainedConfig\n"
        "class Mine(PretrainedConfig):\n    model_type = 'mine'\n"
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\ny\ny\n"))
    with pytest.raises(ModelLoadingError, match="could not be loaded"):
        load(folder)
    assert not (folder / "it-ran").exists()


def test_objects_that_run_code_of_their_own_are_taken_with_a_warning(tokenizer):
    model = make_model()
    stranger = type(type(model).__name__, (type(model),), {"__module__": REMOTE})
    model.__class__ = stranger
    with pytest.warns(RemoteCodeWarning, match="LlamaForCausalLM run code that came with the mod"):
        assert wrap_loaded_model((model, tokenizer)).model is model


REMOTE = "transformers_modules.somebody.modeling_mine"
"""The module of a class that transformers downloads with ``trust_remote_code=True``."""


# Objects


def test_a_pair_stays_the_same_objects(model, tokenizer):
    base = wrap_loaded_model((model, tokenizer))
    assert base.model is model
    assert base.tokenizer is tokenizer
    assert base.name == "LlamaForCausalLM"


def test_a_pair_the_wrong_way_round_is_an_error(model, tokenizer):
    match = r"must be \(model, tokenizer\), .* Got \(\w+, LlamaForCausalLM\)"
    with pytest.raises(ModelLoadingError, match=match):
        wrap_loaded_model((tokenizer, model))


@pytest.mark.parametrize("stranger", [None, "gpt2", 3])
def test_a_pair_without_a_tokenizer_is_an_error(stranger, model):
    match = rf"Got \(LlamaForCausalLM, {type(stranger).__name__}\)"
    with pytest.raises(ModelLoadingError, match=match):
        wrap_loaded_model((model, stranger))


def test_a_pair_of_two_models_is_an_error(model):
    with pytest.raises(ModelLoadingError, match="Got .LlamaForCausalLM, LlamaForCausalLM"):
        wrap_loaded_model((model, model))


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_tuple_of_another_length_is_an_error(length, model):
    with pytest.raises(ModelLoadingError, match=r"must be \(model, tokenizer\)"):
        wrap_loaded_model((model,) * length)


def test_a_sequence_classifier_is_an_error_as_an_object_and_in_a_folder(folder, tokenizer):
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder))
    with pytest.raises(
        ModelLoadingError, match="is a LlamaForSequenceClassification, whose output"
    ):
        wrap_loaded_model((model, tokenizer))
    model.save_pretrained(folder)
    with pytest.raises(
        ModelLoadingError, match="is a LlamaForSequenceClassification, whose output"
    ):
        load(folder)
    change_config(folder, architectures=None)
    with pytest.raises(ModelLoadingError, match="no place for, such as 'score.weight'|lacks 1 of"):
        load(folder)


def test_a_part_of_an_encoder_decoder_is_an_error_as_an_object(tokenizer):
    model = make_encoder_decoder("bart").model  # without its output layer
    with pytest.raises(ModelLoadingError, match="BartModel is a part of an encoder-decoder .* lac"):
        wrap_loaded_model((model, tokenizer))


def test_an_encoder_decoder_that_classifies_is_an_error(tokenizer):
    config = make_encoder_decoder("bart").config
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ModelLoadingError, match="is a BartForSequenceClassification, whose output"):
        wrap_loaded_model((model, tokenizer))
