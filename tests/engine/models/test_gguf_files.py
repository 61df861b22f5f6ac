"""A model in a GGUF file scores what the model itself scores."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType
from packaging.version import Version

from instructclf import InstructionTunedClassifier, PromptClassifier, load
from instructclf.engine.models.gguf_files import (
    Header,
    check_all_used,
    check_gguf_file,
    find_splitting,
)
from instructclf.engine.models.registry import get_base_model
from instructclf.exceptions import ModelLoadingError
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer
from tests.gguf_writer import write_encoder_decoder, write_gguf

pytestmark = [
    pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning"),
    pytest.mark.usefixtures("gguf_cache"),
]

UNSEEN = ["good", "", "bad {input} </s>", "a film that is long and not so good"]
IS_OLD = Version(transformers.__version__) < Version("5.23")
TYPES = {
    "F32": (GGMLQuantizationType.F32, 1e-5),
    "F16": (GGMLQuantizationType.F16, 1e-5),
    "Q8_0": (GGMLQuantizationType.Q8_0, 1e-5),
}


@pytest.fixture(scope="module", params=TYPES.values(), ids=TYPES)
def stored(request, tmp_path_factory):
    """Return a GGUF file, a folder with the very weights it stands for, and a tolerance."""
    kind, tolerance = request.param
    folder = tmp_path_factory.mktemp("gguf")
    model, tokenizer = make_model(intermediate_size=64), make_tokenizer()
    path = folder / f"tiny-{kind.name}.gguf"
    model.load_state_dict(write_gguf(path, model, tokenizer, kind))
    model.save_pretrained(folder / "folder")
    tokenizer.save_pretrained(folder / "folder")
    return str(path), str(folder / "folder"), tolerance


def test_a_gguf_file_scores_what_its_weights_score(stored):
    path, folder, tolerance = stored
    found = PromptClassifier(path, n_shots=2, random_state=0).fit(TEXTS, LABELS)
    expected = PromptClassifier(folder, n_shots=2, random_state=0).fit(TEXTS, LABELS)
    np.testing.assert_allclose(
        found.label_log_likelihood(UNSEEN),
        expected.label_log_likelihood(UNSEEN),
        rtol=0,
        atol=tolerance,
    )


def test_a_gguf_file_is_tuned_and_saved_like_any_model(stored, make_tuning, tmp_path):
    path, *_ = stored
    tuned = make_tuning().set_params(model=path).fit(TEXTS, LABELS)
    tuned.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.model == path
    np.testing.assert_array_equal(loaded.predict_proba(UNSEEN), tuned.predict_proba(UNSEEN))


# Damage


@pytest.fixture
def file(stored, tmp_path):
    """Return a copy of a GGUF file for a test to damage."""
    return Path(shutil.copy(stored[0], tmp_path / "tiny.gguf"))


def assert_refused(file, match):
    for name in (str(file), file):
        with pytest.raises(ModelLoadingError, match=match) as caught:
            PromptClassifier(name).fit(TEXTS, LABELS)
        assert "\n" not in str(caught.value)


def test_the_header_says_how_long_the_file_is(stored):
    header = check_gguf_file(Path(stored[0]))
    assert header.length <= Path(stored[0]).stat().st_size < header.length + 32  # padding
    assert header.values["general.architecture"] == "llama"
    assert header.values["tokenizer.ggml.tokens"] is None  # arrays are skipped


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_file_that_was_cut_is_an_error_that_says_how_long_it_should_be(share, file):
    content, length = file.read_bytes(), check_gguf_file(file).length
    size = int(share * len(content))
    file.write_bytes(content[:size])
    assert_refused(file, rf"is incomplete: it has {size:,} of {length:,} bytes\. Download")


@pytest.mark.parametrize("size", [4, 10, 24, 100, 5000])
def test_a_file_that_was_cut_in_its_header_is_damaged(size, file):
    file.write_bytes(file.read_bytes()[:size])
    assert_refused(file, rf"damaged or incomplete: .* in its header, and has {size:,} bytes\. Do")


def test_an_empty_file_is_damaged(file):
    file.write_bytes(b"")
    assert_refused(file, r"damaged or incomplete: .* has 0 bytes\. Download")


@pytest.mark.parametrize("position", range(16, 120, 8))
def test_a_header_with_wrong_bytes_is_damaged(position, file):
    content = bytearray(file.read_bytes())
    content[position : position + 8] = b"\xff" * 8
    file.write_bytes(content)
    assert_refused(file, "damaged or incomplete|could not be loaded")


def test_a_file_of_another_kind_is_an_error(file):
    file.write_text("<html>Not found</html>")
    assert_refused(file, r"tiny\.gguf' is not a GGUF file: it does not begin with 'GGUF'")


def test_a_version_that_is_not_read_is_an_error(file):
    content = bytearray(file.read_bytes())
    content[4:8] = (1).to_bytes(4, "little")
    file.write_bytes(content)
    assert_refused(file, r"has version 1, and versions \(2, 3\) are read\. Convert")


def test_a_pointer_of_git_is_an_error(file):
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n")
    assert_refused(file, "pointer of Git LFS, .* Run `git lfs pull`")


# Several files


def write_parts(folder, n_tensors=8, name="big", **changes):
    """Write a model in several files, and return their paths."""
    model, tokenizer = make_model(intermediate_size=64, **changes), make_tokenizer()
    kind = GGMLQuantizationType.F32
    write_gguf(folder / f"{name}.gguf", model, tokenizer, kind, split_max_tensors=n_tensors)
    return sorted(folder.glob(f"{name}-*.gguf"))


def test_the_header_of_several_files_is_that_of_the_whole(tmp_path):
    whole = tmp_path / "whole.gguf"
    write_gguf(whole, make_model(intermediate_size=64), make_tokenizer(), TYPES["F32"][0])
    found = check_gguf_file(*write_parts(tmp_path))
    assert found.shapes == check_gguf_file(whole).shapes
    assert found.values["general.architecture"] == "llama"


def test_a_later_part_is_an_error_that_names_the_first(tmp_path):
    second = write_parts(tmp_path)[1]
    match = (
        r"part of a model that was split into 3 files\. Name .*, big-00001-of-00003\.gguf; the oth"
    )
    assert_refused(second, match)


@pytest.mark.parametrize("number", [2, 3])
def test_a_missing_part_is_an_error_that_names_it(number, tmp_path):
    parts = write_parts(tmp_path)
    parts[number - 1].unlink()
    assert_refused(parts[0], rf"big-0000{number}-of-00003\.gguf' is missing: the model has 3 files")


def test_a_part_that_was_cut_is_an_error_that_names_it(tmp_path):
    parts = write_parts(tmp_path)
    parts[2].write_bytes(parts[2].read_bytes()[:-100])
    assert_refused(parts[0], r"big-00003-of-00003\.gguf' is incomplete: it has ")


def test_parts_in_another_order_are_an_error_that_names_one(tmp_path):
    first, second, third = write_parts(tmp_path)
    content = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(content)
    match = r"big-00002-of-00003\.gguf' is part 3 of 3 by its header, and part 2 of 3 by its name"
    assert_refused(first, match)


def test_a_part_that_was_renamed_is_an_error(tmp_path):
    renamed = write_parts(tmp_path)[1].rename(tmp_path / "model.gguf")
    assert_refused(
        renamed, r"part 2 of 3 by its header, and part 1 of 1 by its name.*00002-of-00003"
    )


@pytest.mark.parametrize("change", ["another division", "another depth"])
def test_parts_of_different_models_are_an_error_that_names_both(change, tmp_path):
    (tmp_path / "other").mkdir()
    first, second, _ = write_parts(tmp_path)
    changes = {"num_hidden_layers": 3, "n_tensors": 11} if "depth" in change else {"n_tensors": 7}
    others = write_parts(tmp_path / "other", **changes)
    shutil.copy(others[1], second)
    assert len(others) == 3
    match = (
        r"big-00001-of-00003\.gguf' and .*big-00002-of-00003\.gguf' are parts of different models"
    )
    assert_refused(first, match)


def test_parts_that_lack_tensors_are_an_error(tmp_path):
    (tmp_path / "other").mkdir()
    parts = write_parts(tmp_path, n_tensors=7)
    shutil.copy(write_parts(tmp_path / "other", n_tensors=8)[2], parts[2])
    assert_refused(parts[0], r"hold 19 of the 21 tensors that it counts")


def test_a_model_in_one_part_is_whole(file):
    check_gguf_file(file.rename(file.with_name("small-00001-of-00001.gguf")))


# Weights that transformers drops


def with_tensors(file, names, n_values=32):
    """Write a copy of a GGUF file's model with further tensors."""
    model, tokenizer = make_model(intermediate_size=64), make_tokenizer()
    weights = model.state_dict()
    model.state_dict = lambda: weights | {name: torch.ones(n_values) for name in names}
    write_gguf(file, model, tokenizer, GGMLQuantizationType.F32)
    return file


def test_a_bias_that_the_architecture_does_not_have_is_an_error(file):
    names = [f"model.layers.{layer}.self_attn.o_proj.bias" for layer in range(2)]
    match = r"no place for in its architecture, such as 'blk\.0\.attn_output\.bias', 'blk\.1\.attn"
    assert_refused(with_tensors(file, names), match)


def test_a_layer_more_than_the_header_says_is_an_error(file):
    assert_refused(with_tensors(file, ["model.layers.2.input_layernorm"]), "such as 'blk.2.attn_no")


@pytest.mark.parametrize("name", ["rope_freqs.weight", "model.layers.2.nextn.enorm.weight"])
def test_angles_and_layers_that_draft_tokens_may_be_dropped(name, file):
    header = check_gguf_file(with_tensors(file, [name]))
    shapes = [weight.shape for weight in make_model(intermediate_size=64).state_dict().values()]
    check_all_used(header, shapes, "a")


# Splitting


def header_of(pre, model="gpt2"):
    return Header({"tokenizer.ggml.model": model, "tokenizer.ggml.pre": pre}, 0, {})


def pieces(splitting, text="don't 12, 345\n\n  of\tit"):
    return [text[slice(*span)] for _, span in splitting.pre_tokenize_str(text)]


QWEN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {"qwen2": QWEN, "llama-bpe": QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")}


@pytest.mark.parametrize(
    ("pre", "numbers"), [("stablelm2", ["1", "2", "3", "4", "5"]), ("glm4", ["12", "345"])]
)
def test_other_names_for_a_known_splitting_are_understood(pre, numbers):
    found = pieces(find_splitting(header_of(pre), SPLITS, "a"))
    assert [piece for piece in found if piece.strip().isdigit()] == numbers
    assert "\n\n" in found


@pytest.mark.parametrize("pre", ["smollm", "starcoder", "command-r"])
def test_single_digits_are_split_before_all_else(pre):
    found = pieces(find_splitting(header_of(pre), SPLITS, "a"))
    assert found == [
        *("don", "'t", " ", "1", "2", ",", " ", "3", "4", "5", "\n\n ", " of", "\t", "it")
    ]


@pytest.mark.parametrize("pre", ["qwen2", "gpt-2", "olmo", "default", None])
def test_what_transformers_knows_stays_as_it_is(pre):
    assert find_splitting(header_of(pre), SPLITS, "a") is None


def test_other_kinds_of_tokenizers_do_not_split():
    assert find_splitting(header_of("nonsense", "llama"), SPLITS, "a") is None


@pytest.mark.parametrize("pre", ["nonsense", "deepseek-llm", ""])
def test_an_unknown_splitting_is_an_error_that_names_it(pre):
    match = rf"transformers does not know, .*: tokenizer\.ggml\.pre is '{pre}'\. Use the original"
    with pytest.raises(ModelLoadingError, match=match):
        find_splitting(header_of(pre), SPLITS, "a")


def write_with_splitting(folder, pre):
    model, tokenizer = make_model(intermediate_size=64), make_tokenizer()
    path = folder / f"{pre}.gguf"
    write_gguf(path, model, tokenizer, GGMLQuantizationType.F32, pre=pre)
    return str(path)


@pytest.mark.skipif(IS_OLD, reason="an older transformers chooses by the architecture")
def test_models_are_read_with_the_splitting_that_their_file_names(tmp_path):
    tokenizers = {
        pre: get_base_model(write_with_splitting(tmp_path, pre)).tokenizer
        for pre in ("qwen2", "stablelm2", "gpt-2")
    }
    found = {
        pre: pieces(tokenizer.backend_tokenizer.pre_tokenizer)
        for pre, tokenizer in tokenizers.items()
    }
    assert found["stablelm2"] == found["qwen2"] != found["gpt-2"]
    with pytest.raises(ModelLoadingError, match="pre is 'nonsense'"):
        PromptClassifier(write_with_splitting(tmp_path, "nonsense")).fit(TEXTS, LABELS)


def test_a_gguf_file_is_not_quantised_again(stored, make_prompting):
    pytest.importorskip("bitsandbytes", reason="4 bits take the quantization extra")
    classifier = make_prompting(model=stored[0], model_options__quantization="4bit")
    with pytest.raises(ModelLoadingError, match="could not be loaded"):
        classifier.fit(TEXTS, LABELS)


@pytest.mark.parametrize("kind", [PromptClassifier, InstructionTunedClassifier])
def test_an_encoder_decoder_in_a_gguf_file_is_an_error_that_names_the_remedy(kind, tmp_path):
    write_encoder_decoder(tmp_path / "tiny.gguf", make_tokenizer())
    match = r"holds an encoder-decoder model \(t5\)\. .* give the folder or hub id of the original"
    with pytest.raises(ModelLoadingError, match=match):
        kind(str(tmp_path / "tiny.gguf")).fit(TEXTS, LABELS)
