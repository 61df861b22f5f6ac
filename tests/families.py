"""Every family of language models that transformers registers, with a few thousand random weights.

These are causal models, and encoder-decoder models of texts. The lists come from the registry.
Configurations are shrunk by the names of their entries, so a family that a later transformers adds
needs no line here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
)

from instructclf import PromptClassifier
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.encoder_decoder.forward import find_decoder_start
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tokens.tokenising import control_strings
from instructclf.engine.tuning.adapters import Adapter, LoraSettings
from instructclf.engine.tuning.encoder_decoder import EncoderDecoderBackpropagation
from instructclf.engine.tuning.examples import make_examples
from instructclf.exceptions import InstructClfError, MissingClassWarning
from instructclf.prompts import TEMPLATES, Prompt, write_instruction
from tests.encoder_decoders import make_framing_tokenizer, response_loss, score_with_labels
from tests.engine.scoring.test_label_scoring import score_naively
from tests.fixtures import CONTEXT, make_tokenizer

N_HIDDEN, N_HEADS, WIDTH = 32, 4, 8
N_VOCABULARY = 600

_SMALL = {
    r"(decoder_)?vocab_size.*|unpadded_vocab_size|ngram_vocab_size_base": N_VOCABULARY,
    r"hidden_size|d_model|n_embd|embedding_dim|embedding_size|emb_dim|lru_width|attention_hidden_size"
    r"|(in|out)put_embedding_size|word_embed_proj_dim|mamba_d_ssm": N_HIDDEN,
    r".*intermediate_size(_mlp)?|.*ffn_dim|.*ffn_hidden_size|n_inner|d_inner|d_ff|dff|dim_ff"
    r"|feed_forward_size|expert_ffn_hidden_size|intermediate_multiple_size": 48,
    r"(.*_)?num_attention_heads|(en|de)coder_attention_heads|n_heads?|num_heads|attention_heads"
    r"|linear_num_heads|num_(en|de)coder_attention_heads": N_HEADS,
    r"(.*_)?num_key_value_heads|num_kv_heads|num_query_groups|linear_num_key_heads": 2,
    r"linear_num_value_heads|index_n_heads": N_HEADS,
    r"mamba_n(um)?_heads|n_mamba_heads": 8,  # as wide as a head, and twice as wide as the rest
    r".*head_dim|dim_head|d_head|kv_channels|attention_head_size|linear_head_dim|rotary_dim"
    r"|mamba_d_head|mamba_headdim": WIDTH,
    r"qk_head_dim": 2 * WIDTH,  # a rotary half and another
    r"(q|kv|o)_lora_rank|hc_lowrank|laurel_rank|gated_norm_rank|adapter_rank": WIDTH,
    r"num_(local_)?experts|n_routed_experts|moe_num_experts": 4,
    r"num_experts_per_tok(en)?|moe_topk|moe_k": 2,
    r"n_groups?|topk_group|num_expert_group|n_shared_experts|moe_num_shared_experts": 1,
    r"max_position_embeddings|n_positions|n_ctx|max_seq_len|model_max_length|context_length"
    r"|max_target_positions": CONTEXT,
    r"(.*_)?sliding_window(_size)?|attention_chunk_size|attention_window_size|window_size"
    r"|local_attention(_window_len)?": 16,
    r"type_vocab_size|H_cycles|L_cycles": 2,
    r"hidden_size_per_layer_input|ple_embed_dim|altup_hidden_size": WIDTH,
    r"(ssm_)?state_size|mamba_d_state": 4,
    r"first_k_dense_replace|num_dense_layers|mamba_n_groups": 1,
    r"initializer_range|init_std|initializer_std": 0.2,  # large, so that log-likelihoods differ
    r"is_decoder": True,
    r"(bos|decoder_start|cls)_token_id": 0,
    r"(eos|sep|eod|forced_eos)_token_id": 1,
    r"pad_token_id": 2,
    r"(vision|audio|vq|image)_config": None,
}
"""Names of entries, as regular expressions, and their small values."""
_LAYERS = re.compile(
    r"num_hidden_layers|n_layers?|num_layers|(en|de)coder_layers|num_(en|de)coder_layers|num_blocks"
)
_STATED = ("head_dim", "num_key_value_heads")
"""Entries that may be missing and that some families do not fill in."""
_SAME_NUMBER = [
    (f"{of}num_attention_heads", f"{of}num_key_value_heads") for of in ("", "swa_", "mtp_")
]
"""Entries that stay equal if they were equal before shrinking."""
_EXTRA: dict[str, dict[str, Any]] = {
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
        "intermediate_size": [48] * 4,
        "num_kv_shared_layers": 2,
    },
    "deepseek_v2": {"n_routed_experts": 4, "num_experts_per_tok": 2, "topk_method": "greedy"},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "longcat_flash": {"qk_nope_head_dim": WIDTH, "qk_head_dim": 2 * WIDTH, "head_dim": 2 * WIDTH},
    "mamba2": {"num_heads": 8},
    "xmod": {"default_language": "en_XX"},
    "zamba2": {"attention_hidden_size": 64, "attention_head_dim": 16},
}
"""Further entries of a family, because they depend on each other."""


def list_families() -> list[str]:
    """Return the names of all families in the registry of causal language models."""
    return sorted({kind.model_type for kind in MODEL_FOR_CAUSAL_LM_MAPPING})


def make_family(name: str, *, dtype: torch.dtype = torch.float32) -> Any:
    """Make a model of a family, the same every time."""
    kind = CONFIG_MAPPING[name]
    config = kind(**(_shrink(kind()) | _EXTRA.get(name, {})))
    if dtype == torch.float64:
        config._experts_implementation = "eager"  # the fused one has none for this precision
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def list_encoder_decoders() -> list[str]:
    """Return the names of all families whose encoder reads texts and whose decoder writes them."""
    names = {kind.model_type for kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING}
    return sorted(name for name in names if CONFIG_MAPPING[name].is_encoder_decoder)


def make_encoder_decoder(name: str, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """Make an encoder-decoder model of a family, the same every time."""
    kind = CONFIG_MAPPING[name]
    entries = _shrink(kind()) | {"decoder_start_token_id": 2, "pad_token_id": 2} | changes
    entries.pop("is_decoder", None)
    if name == "encoder-decoder":
        entries["decoder_start_token_id"] = 0  # given labels, it masks padding in the decoder
        entries["decoder"] |= {"is_decoder": True, "add_cross_attention": True}
        entries["encoder"]["is_decoder"] = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForSeq2SeqLM.from_config(kind(**entries), dtype=dtype).eval()


@dataclass(frozen=True)
class Outcome:
    """The result for a family: scored exactly, refused with a message, or not built."""

    kind: Literal["exact", "refused", "wrong", "not built"]
    detail: str = ""


WORDS = {
    "single tokens": ["negative", "positive"],
    "shared beginnings": ["very positive", "very negative", "positive", "good", "good film"],
}
TEXTS = ["good", "", "x", "film " * 30, "I like {it} </s> very\n\n much" * 3]
SHOTS = ["text number one is here", "another one, which is longer than the first", "a third"]
TOLERANCE = 1e-5
GRADIENT_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Of gradients, relative to their norm. Some families compute a part in float32 in any case."""
_LEAST_SPREAD = 1e-3


def check_family(name: str) -> Outcome:
    """Compare a classifier's scores on a family with ordinary forward passes, one per label."""
    try:
        model = make_family(name)
        with torch.no_grad():
            model(input_ids=torch.tensor([[3, 4, 5]]))
    except Exception as error:  # configurations fail with errors of any type
        return Outcome("not built", f"{type(error).__name__}: {error}")
    outcome = _compare(model)
    if outcome.kind == "wrong":  # perhaps by rounding alone, which float64 rules out
        return _compare(make_family(name, dtype=torch.float64))
    return outcome


def check_encoder_decoder(name: str) -> Outcome:
    """Compare a classifier's scores on such a family with transformers' passes with labels."""
    try:
        model = make_encoder_decoder(name)
    except Exception as error:  # configurations fail with errors of any type
        return Outcome("not built", f"{type(error).__name__}: {error}")
    outcome = _compare(model)
    if outcome.kind == "wrong":  # perhaps by rounding alone, which float64 rules out
        return _compare(make_encoder_decoder(name, dtype=torch.float64))
    return outcome


def check_encoder_decoder_tuning(name: str) -> Outcome:
    """Compare gradients of an adapter with those of transformers' passes with labels.

    They are those of a batch of texts of several lengths, for labels that share their beginnings.
    """
    try:
        model = make_encoder_decoder(name, dtype=torch.float64)
    except Exception as error:  # configurations fail with errors of any type
        return Outcome("not built", f"{type(error).__name__}: {error}")
    try:
        found, expected = _compute_gradients(model)
        if expected.isnan().any():  # transformers' own: LED's masks overflow in float64
            model = make_encoder_decoder(name)
            found, expected = _compute_gradients(model)
    except InstructClfError as error:
        return Outcome("refused", str(error))
    difference = ((found - expected).norm() / expected.norm()).item()
    kind = "exact" if difference <= GRADIENT_TOLERANCES[model.dtype] else "wrong"
    return Outcome(kind, f"{difference:.0e} in {str(model.dtype).removeprefix('torch.')}")


def _compute_gradients(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return those of a batch, and those of one pass for each text and label."""
    tokenizer, words = make_framing_tokenizer(), WORDS["shared beginnings"]
    adapter, encoder = make_adapter(model), make_prompt_encoder(tokenizer, words)
    codes = np.arange(len(TEXTS)) % len(words)
    examples = make_examples(encoder, TEXTS, codes, loss="lm+label")
    backpropagate = EncoderDecoderBackpropagation(
        adapter.model,
        examples,
        find_decoder_start(model, *encoder.framed_label),
        max_batch_tokens=4096,
        gradient_checkpointing=False,
    )
    with backpropagate.prepared():
        backpropagate(examples)
    found = take_gradients(adapter)
    for text, code in zip(TEXTS, codes.tolist(), strict=True):
        prompt = encoder.prompt.render(text)
        loss = response_loss(adapter.model, tokenizer, prompt, words, label=code, loss="lm+label")
        (loss / len(TEXTS)).backward()
    return found, take_gradients(adapter)


def make_adapter(model: Any, **changes: Any) -> Adapter:
    """Put LoRA into all linear layers of a view, with weights that all have a gradient."""
    options = {"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"} | changes
    adapter = Adapter(shared_view(model), LoraSettings(**options), seed=0)
    with torch.no_grad():  # B is 0 at first, where A has no gradient
        for parameter in adapter.parameters:
            parameter.add_(torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter))
    return adapter


def make_prompt_encoder(tokenizer: Any, words: Sequence[str]) -> PromptEncoder:
    """Make what encodes prompts that ask for one of these words."""
    controls = control_strings(tokenizer)
    prompt = Prompt(TEMPLATES["alpaca_short"], write_instruction(None, words), (), controls)
    return PromptEncoder(tokenizer, prompt, words, None, has_decoder=True)


def take_gradients(adapter: Adapter) -> torch.Tensor:
    """Return the gradients of all weights, in one vector, and drop them. Some layers have none."""
    found = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in adapter.parameters
    ]
    for parameter in adapter.parameters:
        parameter.grad = None
    return torch.cat([gradient.flatten() for gradient in found])


def _compare(model: Any) -> Outcome:
    try:
        worst = max(_difference(model, words) for words in WORDS.values())
    except InstructClfError as error:
        return Outcome("refused", str(error))
    precision = str(model.dtype).removeprefix("torch.")
    return Outcome("exact" if worst <= TOLERANCE else "wrong", f"{worst:.0e} in {precision}")


def _difference(model: Any, words: list[str]) -> float:
    """Return the largest difference between scores and ordinary forward passes."""
    has_decoder = model.config.is_encoder_decoder
    tokenizer = make_framing_tokenizer() if has_decoder else make_tokenizer()
    classifier = PromptClassifier((model, tokenizer), n_shots=None, calibration=None)
    if has_decoder:
        classifier.set_params(model_options__max_batch_tokens=4096)
    labels = (words * len(SHOTS))[: len(SHOTS)]
    definitions = {word: f"It says {word}." for word in words}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingClassWarning)
        classifier.set_params(label_definitions=definitions).fit(SHOTS, labels)
    if has_decoder:
        # Enough texts for batches, in which short prompts are padded up to long ones.
        texts = [*TEXTS, *(" good" * n for n in range(12))]
        scores = classifier.label_log_likelihood(texts)
        expected = score_with_labels(model, tokenizer, classifier, texts)
    else:
        scores = classifier.label_log_likelihood(TEXTS)
        question = classifier.labeller_.question
        encoder = PromptEncoder(
            tokenizer, question.prompt, question.label_words, question.max_length
        )
        expected = score_naively(model, tokenizer, encoder, TEXTS)
    if np.ptp(expected, axis=0).max() < _LEAST_SPREAD:
        msg = f"All texts score {expected[0]}: this would compare nothing."
        raise AssertionError(msg)
    return float(np.abs(scores - expected).max())


def _shrink(config: Any) -> dict[str, Any]:
    """Return the entries that make a configuration of this kind small."""
    entries = config.to_dict()
    layers = _representative_layers(entries)
    small: dict[str, Any] = {}
    for name, value in entries.items():
        if isinstance(value, dict) and hasattr(getattr(config, name, None), "to_dict"):
            small[name] = _shrink(getattr(config, name))
        elif _LAYERS.fullmatch(name):
            small[name] = len(layers)
        elif isinstance(value, list) and len(value) == _n_layers(entries):
            small[name] = [value[layer] for layer in layers]
        else:
            found = next((new for old, new in _SMALL.items() if re.fullmatch(old, name)), None)
            if type(value) is type(found) or name in _STATED:
                is_size = isinstance(value, int) and value and not name.endswith("token_id")
                small[name] = min(found, value) if is_size and found != CONTEXT else found
    for heads, groups in _SAME_NUMBER:
        if entries.get(groups) is not None and entries[groups] == entries.get(heads):
            small[groups] = small[heads]
    return small


def _n_layers(entries: dict[str, Any]) -> int:
    return next((value for name, value in entries.items() if _LAYERS.fullmatch(name)), 0)


def _representative_layers(entries: dict[str, Any]) -> list[int]:
    """Return which layers to keep: one of each kind, and at least two."""
    n_layers = _n_layers(entries)
    lists = [v for v in entries.values() if isinstance(v, list) and len(v) == n_layers]
    kinds: dict[str, int] = {}
    for layer in range(n_layers):
        kinds.setdefault(repr([entry[layer] for entry in lists]), layer)
    kept = sorted(kinds.values())
    return kept if len(kept) > 1 else [0, 0]
