"""Small models in GGUF files, as llama.cpp's converter writes them."""

from __future__ import annotations

import json

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

from tests.fixtures import CONTEXT

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


def write_gguf(path, model, tokenizer, kind, pre=None, **split):
    """Write a Llama as llama.cpp's converter does; return the weights that the file stands for.

    With ``split_max_tensors``, ``a.gguf`` becomes ``a-00001-of-0000N.gguf`` and so on.
    """
    writer = GGUFWriter(path, "llama", **split)
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
    if pre is not None:
        writer.add_tokenizer_pre(pre)
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


def write_encoder_decoder(path, tokenizer, n_tokens=600, width=32):
    """Write the header of a T5 as llama.cpp's converter does, with its embeddings alone."""
    writer = GGUFWriter(path, "t5")
    writer.add_context_length(CONTEXT)
    writer.add_block_count(2)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_key_length(width // 4)
    writer.add_value_length(width // 4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_relative_attn_buckets_count(32)
    writer.add_decoder_start_token_id(tokenizer.pad_token_id)
    writer.add_vocab_size(n_tokens)
    add_tokenizer(writer, tokenizer, n_tokens)
    writer.add_tensor("token_embd.weight", np.zeros((n_tokens, width), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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
