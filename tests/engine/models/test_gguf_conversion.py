"""A GGUF file is read once, and from then on the model that it was converted to is loaded."""

from __future__ import annotations

import os
import shutil
import threading
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType
from huggingface_hub.utils import are_progress_bars_disabled
from transformers import modeling_gguf_pytorch_utils
from transformers.utils import logging as transformers_logging

from instructclf import PromptClassifier, clear_models
from instructclf.engine.models.fingerprints import take_fingerprint
from instructclf.engine.models.gguf_conversion import reading_once, unpack_all
from instructclf.engine.models.loading import load_base_model
from instructclf.engine.models.pretrained import replaced
from instructclf.engine.models.registry import get_base_model
from instructclf.engine.running import progress
from instructclf.exceptions import ModelLoadingError
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer
from tests.gguf_writer import write_gguf

in_parts = pytest.mark.skipif(
    "torch_dtype" not in signature(modeling_gguf_pytorch_utils.load_gguf_checkpoint).parameters,
    reason="an older transformers unpacks nothing but whole files",
)
KIND = GGMLQuantizationType.Q8_0
STRANGE = ["", "don't 12, 345\n\n  of\tit", "</s> Naïve <s>", "a film that is long and not good"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def file(written, tmp_path):
    (tmp_path / "models").mkdir()
    return Path(shutil.copy(written, tmp_path / "models" / "tiny.gguf"))


def write(path, kind=KIND, pre=None, **changes):
    write_gguf(path, make_model(intermediate_size=64, **changes), make_tokenizer(), kind, pre=pre)
    return path


def load(path, dtype=torch.float32, verbose=False):
    return load_base_model(str(path), device=torch.device("cpu"), dtype=dtype, verbose=verbose)


def load_unconverted(path, dtype=torch.float32):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSTRUCTCLF_GGUF_CACHE", "0")
        return load(path, dtype)


def assert_same(found, expected):
    """Compare two base models: weights, configuration, name and tokenizer."""
    known = expected.model.state_dict()
    assert found.model.state_dict().keys() == known.keys()
    for name, weight in found.model.state_dict().items():
        assert weight.dtype == known[name].dtype
        assert torch.equal(weight, known[name])
    assert found.model.config.to_dict() == expected.model.config.to_dict()
    assert found.name == expected.name
    for part in ("model", "tokenizer"):
        assert getattr(found, part).name_or_path == getattr(expected, part).name_or_path
    assert take_fingerprint(found) == take_fingerprint(expected)
    assert_encode_equally(found.tokenizer, expected.tokenizer)


def assert_encode_equally(found, expected):
    assert found.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()
    for name in (
        *("special_tokens_map", "all_special_ids", "chat_template", "padding_side"),
        *("model_max_length", "model_input_names", "clean_up_tokenization_spaces"),
    ):
        assert getattr(found, name) == getattr(expected, name)
    assert found(STRANGE)["input_ids"] == expected(STRANGE)["input_ids"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_a_converted_model_is_what_transformers_loads_from_the_file(
    kind, dtype, gguf_cache, tmp_path
):
    path = write(tmp_path / "tiny.gguf", GGMLQuantizationType[kind])
    expected = load_unconverted(path, dtype)
    for _ in range(2):
        assert_same(load(path, dtype), expected)
    (folder,) = gguf_cache.iterdir()
    assert folder.name.endswith(f"-{str(dtype).removeprefix('torch.')}")


def test_a_model_whose_output_layer_is_its_embeddings_is_converted(gguf_cache, tmp_path):
    path = tmp_path / "tied.gguf"
    model = make_model(intermediate_size=64, tie_word_embeddings=True)
    weights = {name: w for name, w in model.state_dict().items() if name != "lm_head.weight"}
    model.state_dict = lambda: weights
    write_gguf(path, model, make_tokenizer(), KIND)
    found = load(path)
    assert_same(found, load_unconverted(path))
    assert found.model.lm_head.weight is found.model.model.embed_tokens.weight


@pytest.mark.parametrize("pre", ["smollm", "qwen2", "gpt-2"])
def test_the_tokenizer_splits_as_the_file_says(pre, gguf_cache, tmp_path):
    path = write(tmp_path / "tiny.gguf", pre=pre)
    expected = load_unconverted(path).tokenizer
    for _ in range(2):
        assert_encode_equally(load(path).tokenizer, expected)


def test_a_classifier_scores_the_same_from_the_file_and_from_what_it_was_converted_to(
    file, gguf_cache
):
    scores = []
    for switch in ("0", "1", "1"):
        clear_models()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("INSTRUCTCLF_GGUF_CACHE", switch)
            classifier = PromptClassifier(file, n_shots=2, random_state=0).fit(TEXTS, LABELS)
            scores.append(classifier.label_log_likelihood(TEXTS))
    np.testing.assert_array_equal(scores[1:], [scores[0]] * 2)


def test_without_a_way_to_unpack_a_part_the_whole_model_is_loaded_and_saved(
    file, gguf_cache, monkeypatch, capfd
):
    expected = load_unconverted(file)
    load_all = modeling_gguf_pytorch_utils.load_gguf_checkpoint

    def load_otherwise(path, *rest, **options):
        return load_all(path, *rest, **options)

    monkeypatch.setattr(modeling_gguf_pytorch_utils, "load_gguf_checkpoint", load_otherwise)
    for _ in range(2):
        assert_same(load(file), expected)
    assert len(list(gguf_cache.iterdir())) == 1
    assert capfd.readouterr() == ("", "")


def test_a_way_to_unpack_that_fails_is_not_taken(file, gguf_cache, monkeypatch):
    expected = load_unconverted(file)
    monkeypatch.setattr(
        gguf, "dequantize", lambda data, kind: gguf.quants.dequantize(data, kind)[:1]
    )
    with pytest.raises(ModelLoadingError, match="could not be loaded"):
        load(file)
    assert list(gguf_cache.iterdir()) == []
    monkeypatch.undo()
    assert_same(load_unconverted(file), expected)


def test_tensors_of_a_layer_are_unpacked_together_since_some_become_one_weight():
    names = ["token_embd.weight", "blk.0.a", "blk.1.a", "blk.0.b", "output_norm.weight", "blk.1.b"]
    tensors = [
        SimpleNamespace(name=name, n_elements=8 if name == names[0] else 99) for name in names
    ]
    found = [*unpack_all(tensors, lambda group: {one.name: None for one in group})]
    assert [[*group] for group in found] == [
        ["token_embd.weight", "output_norm.weight"],
        ["blk.0.a", "blk.0.b"],
        ["blk.1.a", "blk.1.b"],
    ]


@in_parts
def test_parts_that_hold_the_same_weight_are_not_put_together(file, gguf_cache, monkeypatch):
    expected = load_unconverted(file)
    unpack = modeling_gguf_pytorch_utils.load_gguf_checkpoint

    def unpack_too_much(path, return_tensors=False, model_to_load=None, torch_dtype=None):
        found = unpack(path, return_tensors, model_to_load, torch_dtype)
        if return_tensors:
            found["tensors"]["model.norm.weight"] = expected.model.model.norm.weight
        return found

    monkeypatch.setattr(modeling_gguf_pytorch_utils, "load_gguf_checkpoint", unpack_too_much)
    assert_same(load(file), expected)
    (folder,) = gguf_cache.iterdir()
    assert [path.name for path in folder.glob("*.safetensors")] == ["model.safetensors"]


# Several files


@pytest.fixture
def parts(tmp_path):
    """Return the paths of the files of one model."""
    model, tokenizer = make_model(intermediate_size=64), make_tokenizer()
    write_gguf(tmp_path / "tiny.gguf", model, tokenizer, KIND, split_max_tensors=8)
    return sorted(tmp_path.glob("tiny-0000?-of-00003.gguf"))


def test_a_model_in_several_files_is_the_one_in_a_single_file(parts, file, gguf_cache, readers):
    expected = load_unconverted(file)
    found = load_unconverted(parts[0])
    assert found.model.state_dict().keys() == expected.model.state_dict().keys()
    for name, weight in expected.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], weight)
    assert_encode_equally(found.tokenizer, expected.tokenizer)
    readers.clear()
    for _ in range(2):
        assert_same(load(parts[0]), found)
    assert readers == parts
    assert len(list(gguf_cache.iterdir())) == 1


def test_every_part_decides_which_conversion_is_taken(parts, gguf_cache):
    before = load(parts[0])
    content = bytearray(parts[2].read_bytes())
    content[-64:] = bytes(64)
    parts[2].write_bytes(content)
    after = load(parts[0])
    assert len(list(gguf_cache.iterdir())) == 2
    assert take_fingerprint(after) != take_fingerprint(before)


def test_the_registry_loads_a_model_anew_if_a_later_part_has_changed(parts, gguf_cache):
    base = get_base_model(parts[0], device="cpu")
    assert get_base_model(parts[0], device="cpu") is base
    os.utime(parts[2], (0, 0))
    assert get_base_model(parts[0], device="cpu") is not base


# Read once


@pytest.fixture
def readers(monkeypatch):
    """Return a list that gets the path of each file which the gguf package reads."""
    opened = []

    class Counting(gguf.GGUFReader):
        def __init__(self, path, *rest, **options):
            opened.append(path)
            super().__init__(path, *rest, **options)

    monkeypatch.setattr(gguf, "GGUFReader", Counting)
    return opened


def test_a_file_is_read_once_and_then_never_again(file, gguf_cache, readers):
    load(file)
    assert len(readers) == 1
    load(file)
    assert len(readers) == 1


def test_a_file_that_is_not_converted_is_read_once_too(file, readers):
    load_unconverted(file)
    assert len(readers) == 1


def test_the_shared_reader_finds_what_the_one_of_gguf_finds(file):
    expected = gguf.GGUFReader(file)
    with reading_once(file) as found:
        assert list(found.fields) == list(expected.fields)
        for name, field in expected.fields.items():
            assert found.fields[name].types == field.types
            assert found.fields[name].contents() == field.contents()
        for one, other in zip(found.tensors, expected.tensors, strict=True):
            assert one.name == other.name
            np.testing.assert_array_equal(one.data, other.data)


def test_other_files_and_other_threads_have_readers_of_their_own(file, tmp_path):
    other = write(tmp_path / "other.gguf")
    found = []
    with reading_once(file) as shared:
        assert gguf.GGUFReader(str(file)) is shared
        assert gguf.GGUFReader(str(other)) is not shared
        thread = threading.Thread(target=lambda: found.append(gguf.GGUFReader(str(file))))
        thread.start()
        thread.join()
        assert found[0] is not shared
    assert gguf.GGUFReader(str(file)) is not shared


def test_nothing_stays_replaced_after_an_error(file):
    before = gguf.GGUFReader, gguf.get_tensor_name_map, modeling_gguf_pytorch_utils.tqdm
    with pytest.raises(KeyError, match="whale"), reading_once(file):
        raise KeyError("whale")
    assert before == (gguf.GGUFReader, gguf.get_tensor_name_map, modeling_gguf_pytorch_utils.tqdm)


def test_a_module_without_the_name_stays_as_it_is():
    module = SimpleNamespace()
    with replaced(module, "name", str):
        assert vars(module) == {}


# Where it is kept


def test_the_same_contents_are_converted_once_and_others_anew(file, gguf_cache, tmp_path):
    load(file)
    load(shutil.copy(file, tmp_path / "renamed.gguf"))
    assert len(list(gguf_cache.iterdir())) == 1
    write(file, hidden_size=64)
    assert load(file).model.config.hidden_size == 64
    assert len(list(gguf_cache.iterdir())) == 2


def test_a_tokenizer_next_to_the_file_counts_and_other_files_do_not(file, gguf_cache):
    load(file)
    (file.parent / "notes.json").write_text("{}")
    load(file)
    assert len(list(gguf_cache.iterdir())) == 1
    (file.parent / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    expected = load_unconverted(file)
    for _ in range(2):
        assert_same(load(file), expected)
    assert len(list(gguf_cache.iterdir())) == 2


@pytest.mark.parametrize("value", ["0", "off", "No", "FALSE"])
def test_nothing_is_kept_if_that_is_switched_off(value, file, gguf_cache, monkeypatch):
    monkeypatch.setenv("INSTRUCTCLF_GGUF_CACHE", value)
    load(file)
    assert not gguf_cache.exists()


def test_a_folder_that_cannot_be_written_is_no_obstacle(file, gguf_cache, caplog):
    gguf_cache.parent.parent.write_text("no folder")
    assert_same(load(file), load_unconverted(file))
    assert "gguf cannot keep a converted model for the next time" in caplog.text


def spoil_weights(folder):
    path = max(folder.glob("*.safetensors"), key=lambda one: one.stat().st_size)
    content = path.read_bytes()
    path.write_bytes(b"\xff" * 64 + content[64:])


def cut_weights(folder):
    path = min(folder.glob("*.safetensors"), key=lambda one: one.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])


def empty_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")


def remove_record(folder):
    (folder / "conversion.json").unlink()


@pytest.mark.parametrize("damage", [spoil_weights, cut_weights, empty_tokenizer, remove_record])
def test_what_is_damaged_is_converted_anew(damage, file, gguf_cache, readers, caplog):
    load(file)
    (folder,) = gguf_cache.iterdir()
    damage(folder)
    assert_same(load(file), load_unconverted(file))
    assert "is damaged and made anew" in caplog.text
    readers.clear()
    load(file)
    assert readers == []


def test_a_file_that_fails_a_check_is_not_kept(file, gguf_cache):
    file.write_bytes(file.read_bytes()[:-100])
    for _ in range(2):
        with pytest.raises(ModelLoadingError, match="is incomplete"):
            load(file)
    assert list(gguf_cache.iterdir()) == []


def test_the_registry_knows_a_model_by_its_file(file, gguf_cache):
    base = get_base_model(file, device="cpu")
    assert get_base_model(file, device="cpu") is base
    assert base.name == str(file)
    shutil.rmtree(gguf_cache)
    assert get_base_model(file, device="cpu") is base
    os.utime(file, (0, 0))
    assert get_base_model(file, device="cpu") is not base


# What is said


@pytest.fixture
def hasty(monkeypatch):
    """Announce work at once."""
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)


CONVERTING = "Converting tiny.gguf to safetensors, this time only\n"


def test_a_line_says_that_a_file_is_converted(file, gguf_cache, hasty, capfd):
    load(file, verbose=1)
    assert capfd.readouterr() == ("", CONVERTING)
    load(file, verbose=1)
    assert capfd.readouterr() == ("", "")


def test_estimators_say_it_if_they_are_verbose(file, gguf_cache, hasty, capsys):
    PromptClassifier(file, verbose=1).open_model()
    assert CONVERTING in capsys.readouterr().err


@pytest.mark.parametrize("load_it", [load, load_unconverted])
def test_nothing_is_drawn_unless_asked_for(load_it, file, gguf_cache, hasty, capfd):
    load_it(file)
    assert capfd.readouterr() == ("", "")


def test_the_switch_of_transformers_silences_the_line(file, gguf_cache, hasty, capfd):
    transformers_logging.disable_progress_bar()
    try:
        load(file, verbose=1)
        assert not transformers_logging.is_progress_bar_enabled()
        assert are_progress_bars_disabled()
    finally:
        transformers_logging.enable_progress_bar()
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()
