"""Names, files and classes of models are checked before anything of them is read or run."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from instructclf.engine.models.sources import (
    TOKENIZER_FILES,
    check_complete,
    check_safetensors,
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


def test_a_file_is_an_error_that_asks_for_its_folder(tmp_path):
    make_folder(tmp_path / "model", "config.json")
    with pytest.raises(ModelLoadingError, match="is a file. Give the folder that holds it"):
        check_source(str(tmp_path / "model" / "config.json"))


def test_the_error_for_a_relative_path_shows_where_it_leads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelLoadingError, match=f"does not exist: it is '{tmp_path}/nowhere'"):
        check_source("./nowhere")


# Weights


def test_a_folder_of_pickles_is_an_error_that_says_how_to_convert_them(tmp_path):
    folder = make_folder(tmp_path / "model", "pytorch_model-2.bin", "pytorch_model-1.bin")
    match = r"a pickle \(pytorch_model-1\.bin\), which can run code.*convert the model once"
    with pytest.raises(ModelLoadingError, match=match):
        check_safetensors(folder)


@pytest.mark.parametrize(
    "files",
    [["model.safetensors"], ["model.safetensors", "pytorch_model.bin"], ["readme.md"]],
    ids=["safetensors", "both", "neither"],
)
def test_other_folders_pass(files, tmp_path):
    check_safetensors(make_folder(tmp_path / "model", *files))


def test_pickles_in_the_current_folder_do_not_count_for_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("weights.bin").touch()
    check_safetensors("owner/name")


def test_missing_weights_are_an_error_that_counts_them_and_names_one():
    match = r"'tiny' lacks 2 of its weights, such as 'a\.weight'\. Save it again"
    with pytest.raises(ModelLoadingError, match=match):
        check_complete({"b.weight", "a.weight"}, "tiny")


def test_a_complete_model_passes():
    check_complete(set(), "tiny")


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
