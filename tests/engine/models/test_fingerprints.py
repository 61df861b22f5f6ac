"""A fingerprint is the same for one model in every form, and another one for another model."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import AddedToken

from instructclf.engine.models.fingerprints import find_difference, take_fingerprint
from instructclf.engine.models.loading import BaseModel, load_base_model
from instructclf.engine.models.views import shared_view
from tests.fixtures import ARCHITECTURES, make_model, make_tokenizer


def fingerprint(model=None, tokenizer=None, name="tiny"):
    model = make_model() if model is None else model
    return take_fingerprint(BaseModel(name, model, tokenizer or make_tokenizer()))


@pytest.fixture(scope="module")
def known():
    return fingerprint()


def difference_after(known, change):
    """Return how the fingerprint differs once a function has changed a model's weights."""
    model = make_model()
    with torch.no_grad():
        change(model)
    return find_difference(known, fingerprint(model))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equal_models_have_equal_fingerprints(architecture):
    one, other = (fingerprint(make_model(architecture)) for _ in range(2))
    assert one == other
    assert find_difference(one, other) is None


def test_fingerprints_are_what_json_can_hold(known):
    assert json.loads(json.dumps(known)) == known


def test_the_name_of_a_model_does_not_count(known):
    assert fingerprint(name="elsewhere") == known


def test_a_view_and_a_saved_model_have_the_fingerprint_of_the_model(known, tmp_path):
    model, tokenizer = make_model(), make_tokenizer()
    assert fingerprint(shared_view(model)) == known
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    cpu = torch.device("cpu")
    assert (
        take_fingerprint(load_base_model(str(tmp_path), device=cpu, dtype=torch.float32)) == known
    )


# Weights


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.get_input_embeddings().weight.mul_(1.001),
        lambda model: model.model.layers[1].mlp.down_proj.weight.add_(1e-4),
        lambda model: model.model.norm.weight.neg_(),
        lambda model: model.lm_head.weight.copy_(model.lm_head.weight.flip(0)),
    ],
    ids=["embeddings", "a layer", "a norm", "the output layer"],
)
def test_other_weights_are_a_difference(change, known):
    assert difference_after(known, change) == "weights"


def test_a_chat_model_of_the_same_family_is_another_model(known):
    """A fine-tuned model, whose weights differ a little nearly everywhere."""
    generator = torch.Generator().manual_seed(0)

    def tune(model):
        for weight in model.parameters():
            weight.add_(1e-3 * torch.randn(weight.shape, generator=generator))

    assert difference_after(known, tune) == "weights"


@pytest.mark.parametrize(
    "changes",
    [{"num_hidden_layers": 3}, {"vocab_size": 601}, {"intermediate_size": 40}],
    ids=["layers", "vocabulary", "width"],
)
def test_another_shape_is_a_difference(changes, known):
    assert find_difference(known, fingerprint(make_model(**changes))) == "shape"


# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_same_weights_in_another_precision_are_the_same_model(dtype, known):
    found = fingerprint(make_model().to(dtype))
    assert found["dtype"] != known["dtype"]
    assert find_difference(known, found) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_weights_in_another_precision_are_a_difference(dtype, known):
    other = make_model(initializer_range=0.1).to(dtype)
    assert find_difference(known, fingerprint(other)) == "weights"


# Tokenizers


def test_another_vocabulary_is_a_difference(known):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["unheard"])
    assert find_difference(known, fingerprint(tokenizer=tokenizer)) == "tokenizer"


def test_another_start_token_is_a_difference(known):
    tokenizer = make_tokenizer(adds_start=False)
    assert find_difference(known, fingerprint(tokenizer=tokenizer)) == "tokenizer"


def test_another_special_token_is_a_difference(known):
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"unk_token": AddedToken("good", special=True)})
    assert find_difference(known, fingerprint(tokenizer=tokenizer)) == "tokenizer"


def test_a_chat_template_does_not_count(known):
    """Prompts hold the template that they were written with."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ messages }}"
    assert fingerprint(tokenizer=tokenizer) == known


def test_the_tokenizer_is_named_before_the_weights(known):
    found = fingerprint(make_model(initializer_range=0.1), make_tokenizer(adds_start=False))
    assert find_difference(known, found) == "tokenizer"
