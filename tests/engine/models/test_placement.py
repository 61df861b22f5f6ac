"""A model spread over devices gives the same scores, shares its weights, and refuses adapters if it
is offloaded.

Without a GPU, weights on the disk stand for all offloaded ones: accelerate's hooks are the same.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from instructclf import load
from instructclf.engine.models.fingerprints import take_fingerprint
from instructclf.engine.models.placement import input_device, is_offloaded, offloaded_parts
from instructclf.engine.models.registry import get_base_model
from instructclf.engine.models.views import shared_view
from instructclf.exceptions import ModelLoadingError
from tests.fixtures import LABELS, TEXTS

SPREAD = {
    "model.embed_tokens": "disk",
    "model.layers.0": "disk",
    "model.layers.1": "cpu",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def spread(model_folder):
    return get_base_model(model_folder, device_map=SPREAD)


@pytest.fixture
def whole(model_folder):
    return get_base_model(model_folder)


def test_a_spread_model_is_loaded_once_and_not_taken_for_the_whole_one(spread, whole, model_folder):
    turned = dict(reversed(SPREAD.items()))
    assert get_base_model(model_folder, device_map=turned) is spread
    assert spread is not whole
    assert is_offloaded(spread.model)
    assert not is_offloaded(whole.model)


def test_inputs_go_where_the_embeddings_are_computed(spread, whole):
    assert spread.model.get_input_embeddings().weight.is_meta
    assert input_device(spread.model) == spread.device == input_device(whole.model)


@torch.no_grad()
def test_a_view_has_its_own_hooks_over_the_same_weights(spread, whole):
    view = shared_view(spread.model)
    expected = whole.model(IDS).logits
    assert torch.equal(view(IDS).logits, expected)
    held = [set(map(id, offloaded_parts(model))) for model in (view, spread.model)]
    assert held[0] == held[1] != set()
    weights = dict(spread.model.named_parameters())
    for name, weight in view.named_parameters():
        assert weight.is_meta == weights[name].is_meta
        assert weight.is_meta or weight.data_ptr() == weights[name].data_ptr()
    modules = set(view.modules())
    assert all(m.forward.args[0] in modules for m in modules if _is_hooked(m))
    assert torch.equal(spread.model(IDS).logits, expected)


def _is_hooked(module):
    return hasattr(module, "_hf_hook")


def test_a_spread_model_has_the_fingerprint_of_the_whole_one(spread, whole):
    assert take_fingerprint(spread) == take_fingerprint(whole)


@pytest.mark.parametrize("words", [("bad", "good"), ("very bad", "very good")])
def test_prompting_gives_the_scores_of_the_whole_model(words, make_prompting, tmp_path):
    verbalizer = dict(zip(LABELS[::8], words, strict=True))
    whole = make_prompting(verbalizer=verbalizer).fit(TEXTS, LABELS)
    expected = whole.predict_proba(TEXTS)
    spread = make_prompting(verbalizer=verbalizer, model_options__device_map=SPREAD)
    spread.fit(TEXTS, LABELS)
    np.testing.assert_allclose(spread.predict_proba(TEXTS), expected, rtol=0, atol=1e-6)
    spread.save(tmp_path / "saved")
    restored = load(tmp_path / "saved", model_options__device_map=None)
    np.testing.assert_allclose(restored.predict_proba(TEXTS), expected, rtol=0, atol=1e-6)


def test_threads_take_turns_with_offloaded_weights(make_prompting):
    one, other = (
        make_prompting(model_options__device_map=SPREAD).fit(TEXTS, LABELS) for _ in range(2)
    )
    expected = one.predict_proba(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(classifier.predict_proba, TEXTS) for classifier in [one, other] * 4]
    for call in calls:
        np.testing.assert_allclose(call.result(), expected, rtol=0, atol=1e-6)


def test_auto_takes_one_device_where_all_fits_and_tunes_there(make_tuning):
    expected = make_tuning().fit(TEXTS, LABELS).predict_proba(TEXTS)
    found = make_tuning(model_options__device_map="auto").fit(TEXTS, LABELS).predict_proba(TEXTS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_tuning_a_model_with_offloaded_weights_is_an_error_with_a_way_out(make_tuning):
    message = r"a part of the model is offloaded.*no adapter.*quantization='4bit'.*PromptClassifier"
    with pytest.raises(ValueError, match=message):
        make_tuning(model_options__device_map=SPREAD).fit(TEXTS, LABELS)


def test_a_device_and_a_device_map_together_are_an_error(model_folder):
    with pytest.raises(
        ValueError, match=r"device='cpu' puts the whole model on one device.*default"
    ):
        get_base_model(model_folder, device="cpu", device_map="auto")


def test_a_loaded_model_cannot_be_spread(model, tokenizer):
    with pytest.raises(
        ModelLoadingError, match=r"device_map='auto'\) is for models.*loaded by name"
    ):
        get_base_model((model, tokenizer), device_map="auto")
