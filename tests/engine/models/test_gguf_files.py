"""A model in a GGUF file scores what the model itself scores."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

from instructclf import PromptClassifier, load
from instructclf.engine.models.names import Source, split_source
from instructclf.exceptions import MissingExtraError, ModelLoadingError
from tests.fixtures import CONTEXT, LABELS, TEXTS, make_model, make_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

UNSEEN = ["good", "", "bad {input} </s>", "a film that is long and not so good"]
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
}
TYPES = {
    "F32": (GGMLQuantizationType.F32, 1e-5),
    "F16": (GGMLQuantizationType.F16, 1e-5),
    "Q8_0": (GGMLQuantizationType.Q8_0, 1e-5),
}


def write_gguf(path, model, tokenizer, kind):
    """Write a Llama as llama.cpp's converter does; return the weights that the file stands for."""
    writer = GGUFWriter(path, "llama")
    config = model.config
    writer.add_context_length(CONTEXT)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    add_tokenizer(writer, tokenizer, config.vocab_size)
    kept = {}
    for name, weight in model.state_dict().items():
        values = weight.float().numpy()
        stored_as = GGMLQuantizationType.F32 if values.ndim == 1 else kind
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        n_heads = next((heads[part] for part in heads if part in name), None)
        stored = quants.quantize(values if n_heads is None else permute(values, n_heads), stored_as)
        writer.add_tensor(rename(name), stored, raw_dtype=stored_as)
        read = quants.dequantize(stored, stored_as)
        kept[name] = torch.tensor(read if n_heads is None else permute(read, n_heads, back=True))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def add_tokenizer(writer, tokenizer, n_tokens):
    vocabulary = {number: token for token, number in tokenizer.get_vocab().items()}
    tokens = [vocabulary.get(number, f"[unused{number}]") for number in range(n_tokens)]
    control = set(tokenizer.all_special_tokens)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [TokenType.CONTROL if token in control else TokenType.NORMAL for token in tokens]
    )
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(True)


def permute(weight, n_heads, *, back=False):
    """Change between the two orders of rotary dimensions."""
    halves = (n_heads, -1, 2, weight.shape[1]) if back else (n_heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(weight.reshape(halves).swapaxes(1, 2).reshape(weight.shape))


def rename(name):
    for in_transformers, in_gguf in NAMES.items():
        name = name.replace(in_transformers, in_gguf)
    return name


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


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("owner/name", Source("owner/name", None)),
        ("owner/name/tiny-Q8_0.gguf", Source("owner/name", "tiny-Q8_0.gguf")),
        ("owner/name/TINY.GGUF", Source("owner/name", "TINY.GGUF")),
    ],
)
def test_a_file_on_the_hub_is_named_after_its_repository(name, source):
    assert split_source(name) == source


def test_a_gguf_file_that_does_not_exist_is_an_error(model_folder):
    with pytest.raises(ModelLoadingError, match="has no file 'none.gguf'. Name one that it holds"):
        PromptClassifier(f"{model_folder}/none.gguf").fit(TEXTS, LABELS)


def test_a_file_that_is_not_gguf_is_an_error(tmp_path):
    Path(tmp_path, "a.gguf").write_text("no")
    with pytest.raises(ModelLoadingError, match=r"a\.gguf' is not a GGUF file: it does not begin"):
        PromptClassifier(f"{tmp_path}/a.gguf").fit(TEXTS, LABELS)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    match = r'needs gguf\. Install it with pip install "instructclf\[gguf\]"'
    with pytest.raises(MissingExtraError, match=match):
        PromptClassifier("owner/name/tiny.gguf").fit(TEXTS, LABELS)


def test_a_gguf_file_is_not_quantised_again(stored, make_prompting):
    pytest.importorskip("bitsandbytes", reason="4 bits take the quantization extra")
    classifier = make_prompting(model=stored[0], model_options__quantization="4bit")
    with pytest.raises(ModelLoadingError, match="could not be loaded"):
        classifier.fit(TEXTS, LABELS)
