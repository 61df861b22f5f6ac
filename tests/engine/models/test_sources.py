"""Names, files and classes of models are checked before anything of them is read or run."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest

from instructclf.engine.models.sources import (
    TOKENIZER_FILES,
    check_all_fit,
    check_architecture,
    check_source,
    is_model_and_tokenizer,
    warn_of_remote_code,
)
from instructclf.exceptions import ModelLoadingError, RemoteCodeWarning
from tests.fixtures import make_model, make_tokenizer


def make_folder(folder, *names):
    """Make a folder with empty files of these names."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return str(folder)


# Folders


@pytest.mark.parametrize("tokenizer", TOKENIZER_FILES)
def test_a_folder_with_a_configuration_and_any_tokenizer_passes(tokenizer, tmp_path):
    check_source(make_folder(tmp_path / "model", "config.json", tokenizer))


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_folder(tmp_path / "model", "config.json", "tokenizer.json")
    check_source("~/model")
    with pytest.raises(ModelLoadingError, match="model folder '~/other' does not exist"):
        check_source("~/other")


@pytest.mark.parametrize("name", ["owner/name", "name", "owner/name@v1"])
def test_a_hub_id_passes(name):
    check_source(name)


@pytest.mark.parametrize("name", ["owner/name/weights.gguf", "owner/name/WEIGHTS.GGUF"])
def test_a_gguf_file_on_the_hub_passes(name):
    check_source(name)


def test_a_gguf_file_in_a_folder_needs_nothing_else(tmp_path):
    check_source(make_folder(tmp_path / "model", "weights.gguf") + "/weights.gguf")


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ([], r"has no config\.json\. Save a model there first"),
        (["tokenizer.json"], r"has no config\.json"),
        (
            ["config.json"],
            r"has no tokenizer: none of tokenizer\.json, .* Save the tokenizer there",
        ),
    ],
    ids=["nothing", "no configuration", "no tokenizer"],
)
def test_an_incomplete_folder_is_an_error_with_a_way_out(files, match, tmp_path):
    folder = make_folder(tmp_path / "model", *files)
    with pytest.raises(ModelLoadingError, match=f"The model folder '{folder}' {match}"):
        check_source(folder)


def test_a_folder_that_holds_a_gguf_file_is_an_error_that_gives_its_path(tmp_path):
    folder = make_folder(tmp_path / "model", "b.gguf", "A.GGUF")
    with pytest.raises(ModelLoadingError, match=rf"GGUF file: give its path, '{folder}/A\.GGUF'"):
        check_source(folder)


def test_a_file_is_an_error_that_asks_for_its_folder(tmp_path):
    make_folder(tmp_path / "model", "config.json")
    with pytest.raises(ModelLoadingError, match="is a file. Give the folder that holds it"):
        check_source(str(tmp_path / "model" / "config.json"))


def test_the_error_for_a_relative_path_shows_where_it_leads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelLoadingError, match=f"does not exist: it is '{tmp_path}/nowhere'"):
        check_source("./nowhere")


# What was loaded


def config(**entries):
    text = SimpleNamespace(num_hidden_layers=2, num_nextn_predict_layers=entries.pop("drafts", 0))
    return SimpleNamespace(
        model_type="tiny", is_encoder_decoder=False, get_text_config=lambda: text, **entries
    )


@pytest.mark.parametrize(
    "name",
    [
        "LlamaForSequenceClassification",
        "BertForTokenClassification",
        "QuietForAudioClassification",
        "LlamaForQuestionAnswering",
        "BertForMultipleChoice",
        "InternLM2ForRewardModel",
    ],
)
def test_models_for_other_tasks_are_an_error_that_names_their_architecture(name):
    match = rf"'tiny' \(tiny\) is a {name}, whose output layer does not score tokens"
    with pytest.raises(ModelLoadingError, match=match):
        check_architecture(config(), "tiny", [name])


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel", "Gemma3Model"])
def test_language_models_pass(name):
    check_architecture(config(), "tiny", [name])
    check_architecture(config(), "tiny", [])


def report(**names):
    return {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()} | names


@pytest.mark.parametrize(
    ("found", "match"),
    [
        (
            report(missing_keys={"b", "a"}),
            r"'tiny' lacks 2 of its weights, such as 'a', 'b'\. Save",
        ),
        (
            report(unexpected_keys=set("dcba")),
            "has 4 weights that its .*, such as 'a', 'b', 'c'. S",
        ),
        (report(mismatched_keys={("a", (1,), (2,))}), "has 1 weights of other shapes .* as 'a'"),
        (report(unexpected_keys={"score.weight"}), "no place for, such as 'score.weight'"),
        (report(unexpected_keys={"model.layers.2.mlp.weight"}), "such as 'model.layers.2.mlp"),
        (report(unexpected_keys={"layers.0.q.lora_A.weight"}), "such as 'layers.0.q.lora_A"),
        (report(unexpected_keys={"layers.0.q_proj.bias"}), "such as 'layers.0.q_proj.bias'"),
    ],
)
def test_weights_that_do_not_fit_are_an_error_that_counts_and_names_them(found, match):
    with pytest.raises(ModelLoadingError, match=match):
        check_all_fit(found, config(), "tiny")


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "transformer.h.0.attn.bias",
        "gpt_neox.layers.0.attention.masked_bias",
        "vision_tower.encoder.layers.0.weight",
        "model.multi_modal_projector.linear.bias",
        "visual.blocks.0.weight",
        "mtp.layers.0.weight",
        "v_head.summary.weight",
    ],
)
def test_buffers_and_parts_for_other_senses_may_be_dropped(name):
    check_all_fit(report(unexpected_keys={name}), config(), "tiny")


def test_layers_that_draft_tokens_may_be_dropped():
    found = report(unexpected_keys={"model.layers.2.mlp.weight"})
    check_all_fit(found, config(drafts=1), "tiny")


def test_scales_of_quantised_weights_may_be_dropped():
    found = report(unexpected_keys={"model.layers.0.q_proj.weight_scale"})
    check_all_fit(found, config(quantization_config={}), "tiny")


# Objects


def remote(kind, module="transformers_modules.somebody.modeling_mine"):
    """Return a class as transformers downloads it with ``trust_remote_code=True``."""
    return type(kind.__name__, (kind,), {"__module__": module})


class Model:
    pass


class Tokenizer:
    pass


def test_objects_of_this_machine_are_no_reason_for_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_remote_code(Model(), Tokenizer())


def test_the_warning_names_each_class_that_came_with_a_model():
    with pytest.warns(RemoteCodeWarning, match="Model and Tokenizer run code that came with"):
        warn_of_remote_code(remote(Model)(), remote(Tokenizer)())
    with pytest.warns(RemoteCodeWarning, match="^Tokenizer run code"):
        warn_of_remote_code(Model(), remote(Tokenizer)())


def test_a_class_on_top_of_one_that_came_with_a_model_is_named_too():
    with pytest.warns(RemoteCodeWarning, match="Model run code"):
        warn_of_remote_code(remote(remote(Model), module="my_project")())


def test_a_pair_is_recognised_by_what_it_can_do(model, tokenizer):
    assert is_model_and_tokenizer(model, tokenizer)


@pytest.mark.parametrize("n_objects", [0, 1, 3])
def test_another_number_of_objects_is_not_a_pair(n_objects):
    assert not is_model_and_tokenizer(*[make_model()] * n_objects)


def test_objects_in_the_wrong_order_or_of_other_kinds_are_not_a_pair(model, tokenizer):
    assert not is_model_and_tokenizer(tokenizer, model)
    assert not is_model_and_tokenizer(model, "tokenizer")
    assert not is_model_and_tokenizer(model.model.layers[0], make_tokenizer())
