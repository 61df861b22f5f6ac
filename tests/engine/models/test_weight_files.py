"""Folders whose weights are missing, cut or pickles are found before transformers reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from instructclf.engine.models.weight_files import (
    check_not_pointer,
    check_weights,
    holds_weights,
    list_read_files,
)
from instructclf.exceptions import ModelLoadingError
from tests.fixtures import make_model

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 4512345678\n"


@pytest.fixture
def folder(model_folder, tmp_path):
    """Return a copy of the model for a test to damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


@pytest.fixture
def sharded(tmp_path):
    """Return a model whose weights are in several files, with an index."""
    make_model().save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    return tmp_path / "sharded"


def assert_refused(folder, match):
    with pytest.raises(ModelLoadingError, match=match):
        check_weights(folder)


def test_whole_models_pass(folder, sharded):
    assert len(list(sharded.glob("*.safetensors"))) > 1
    for whole in (folder, sharded):
        assert holds_weights(whole)
        check_weights(whole)


def test_pickles_next_to_safetensors_do_not_matter(folder):
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    check_weights(folder)


# Nothing to read


def empty(folder, *names):
    for path in folder.glob("model*"):
        path.unlink()
    for name in names:
        (folder / name).touch()


def test_pickles_alone_are_an_error_that_says_how_to_convert_them(folder):
    empty(folder, "pytorch_model-2.bin", "pytorch_model-1.bin")
    match = r"a pickle \(pytorch_model-1\.bin\), which can run code.*convert the model once"
    assert_refused(folder, match)


def test_what_a_trainer_leaves_is_not_taken_for_weights(folder):
    empty(folder, "training_args.bin", "optimizer.bin")
    assert_refused(folder, r"has no weights: there is no file named model\.safetensors or model\.s")


def test_files_that_no_index_names_are_named(folder):
    empty(folder, "consolidated.safetensors", "model.fp16.safetensors")
    assert_refused(folder, "holds consolidated.safetensors, model.fp16.safetensors, which no index")


def test_a_gguf_file_next_to_a_configuration_is_to_be_named(folder):
    empty(folder, "tiny.gguf")
    assert_refused(folder, f"It holds a GGUF file: give its path, '{folder}/tiny.gguf'")


# Part of it


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_is_an_error_that_says_how_to_fetch_the_file(folder, name):
    (folder / name).write_bytes(POINTER)
    assert_refused(folder, rf"{name}' is a pointer of Git LFS, .* Run `git lfs pull`")


def test_an_ordinary_file_is_no_pointer(folder):
    check_not_pointer(folder / "config.json")


def test_missing_shards_are_counted_and_one_is_named(sharded):
    shards = sorted(sharded.glob("*.safetensors"))
    shards[1].unlink()
    assert_refused(sharded, f"lacks 1 of its {len(shards)} files of weights, such as .*00002-of-")


def test_a_weight_file_that_was_cut_is_an_error_that_says_how_long_it_should_be(folder):
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1000])
    match = f"is incomplete: it has {len(content) - 1000:,} of {len(content):,} bytes. Download"
    assert_refused(folder, match)


@pytest.mark.parametrize("content", [b"", b"\x00", b"<html>Not found</html>", b"\x02" + bytes(9)])
def test_a_weight_file_without_a_header_is_damaged(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert_refused(folder, rf"damaged or incomplete: .* it has {len(content)} bytes\. Download")


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', "{"])
def test_an_index_that_cannot_be_read_is_damaged(sharded, text):
    (sharded / "model.safetensors.index.json").write_text(text)
    assert_refused(sharded, "lists the files of weights, is damaged or incomplete")


# What is read


def test_the_files_that_are_read_are_weights_configuration_tokenizer_and_templates(folder):
    (folder / "README.md").touch()
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").touch()
    names = {path.name for path in list_read_files(folder)}
    assert {"model.safetensors", "config.json", "tokenizer.json", "tools.jinja"} <= names
    assert "README.md" not in names


def test_of_a_gguf_file_its_configuration_is_read_and_no_other_model(folder):
    for name in ("one.gguf", "other.gguf"):
        (folder / name).write_text(json.dumps(name))
    names = {path.name for path in list_read_files(folder / "one.gguf")}
    assert {"one.gguf", "tokenizer_config.json"} <= names
    assert not names & {"other.gguf", "model.safetensors"}
