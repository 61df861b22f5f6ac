"""Log-probabilities of a few tokens equal a log-softmax over all logits of the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring import vocabulary
from instructclf.engine.scoring.outputs import output_at
from instructclf.engine.scoring.vocabulary import find_vocabulary
from tests.fixtures import ARCHITECTURES, make_model

IDS = torch.arange(3, 33).view(3, 10)
ROWS = torch.tensor([[0], [2], [1]])
COLUMNS = torch.tensor([[3], [9], [4]])
STATES = torch.tensor([0, 0, 2, 1])
TOKENS = torch.tensor([5, 599, 7, 5])
ALL = [True] * 4


def read(view, normalised=ALL):
    """Return what is read of tokens, and a log-softmax over all of the model's logits."""
    with output_at(view, ROWS, COLUMNS, stops=True) as positions:
        view(IDS)
    states = positions.states[:, 0]
    places = STATES.numpy(), TOKENS.numpy(), np.array(normalised)
    found = find_vocabulary(view).log_probabilities(states, *places)
    logits = view(IDS).logits[ROWS, COLUMNS][:, 0]
    return found, logits.double().log_softmax(dim=-1)[STATES, TOKENS].float()


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gemma2", "cohere", "granite", "phi"])
@torch.inference_mode()
def test_they_are_those_of_all_logits_whatever_the_architecture_does_to_these(
    architecture, monkeypatch
):
    changes = {"logits_scaling": 8.0} if architecture == "granite" else {}
    view = shared_view(make_model(architecture, **changes))
    torch.testing.assert_close(*read(view), atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(vocabulary, "_NUMBERS_AT_ONCE", 7 * 32)  # blocks of seven tokens
    torch.testing.assert_close(*read(view), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "cohere", "phi"])
def test_gradients_are_those_of_all_logits(architecture, monkeypatch):
    monkeypatch.setattr(vocabulary, "_NUMBERS_AT_ONCE", 7 * 32)
    view = shared_view(make_model(architecture, dtype=torch.float64)).requires_grad_(False)
    embeddings = view.get_input_embeddings()(IDS).detach().requires_grad_()

    def run():
        return view(inputs_embeds=embeddings).logits

    with output_at(view, ROWS, COLUMNS, stops=True) as positions:
        run()
    places = STATES.numpy(), TOKENS.numpy(), np.array(ALL)
    found = find_vocabulary(view).log_probabilities(positions.states[:, 0], *places)
    expected = run()[ROWS, COLUMNS][:, 0].log_softmax(dim=-1)[STATES, TOKENS]
    torch.testing.assert_close(found, expected)
    sent = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(
        *(torch.autograd.grad(each @ sent, embeddings) for each in (found, expected))
    )


def test_of_a_block_of_logits_nothing_is_kept_for_the_backward_pass():
    view = shared_view(make_model()).requires_grad_(False)
    states = torch.randn(4, view.config.hidden_size).requires_grad_()
    shapes = []

    def note(tensor):
        shapes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        find_vocabulary(view).log_probabilities(
            states, STATES.numpy(), TOKENS.numpy(), np.array(ALL)
        )
    assert shapes
    assert all(view.config.vocab_size not in shape for shape in shapes)


def test_in_half_precision_gradients_are_as_close_as_those_of_the_models_logits():
    view = shared_view(make_model(dtype=torch.bfloat16)).requires_grad_(False)
    weight = view.get_output_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    states = 10 * torch.randn(3, view.config.hidden_size, generator=generator)
    states = states.bfloat16().float().requires_grad_()
    places = STATES.numpy(), TOKENS.numpy(), np.array(ALL)
    found = find_vocabulary(view).log_probabilities(states, *places)
    rounded = (states.bfloat16() @ weight.T).float().log_softmax(dim=-1)[STATES, TOKENS]
    exact = (states.double() @ weight.double().T).log_softmax(dim=-1)[STATES, TOKENS]
    (ours,), (usual,), (right,) = (
        torch.autograd.grad(each.sum(), states) for each in (found, rounded, exact)
    )
    assert (ours - right).norm() <= 1.5 * (usual - right).norm()
    assert (ours - right).norm() <= 0.05 * right.norm()


def test_in_half_precision_rounding_cancels_where_a_token_is_nearly_certain():
    view = shared_view(make_model(dtype=torch.bfloat16)).requires_grad_(False)
    weight = view.get_output_embeddings().weight
    direction = weight[7].float() / weight[7].float().square().sum()
    rival = weight[9].float() / weight[9].float().square().sum()
    states = torch.stack([30.3 * direction, 30.3 * direction + 24.0 * rival]).requires_grad_()
    place = np.array([0, 1]), np.array([7, 7]), np.array([True, True])
    found = find_vocabulary(view).log_probabilities(states, *place)
    rounded = (states.bfloat16() @ weight.T).float().log_softmax(dim=-1)[:, 7]
    exact = (states.double() @ weight.double().T).log_softmax(dim=-1)[:, 7]
    assert (found <= 0).all()
    (ours,), (usual,), (right,) = (
        torch.autograd.grad(each.sum(), states) for each in (found, rounded, exact)
    )
    assert (ours - right).norm() <= 1.5 * (usual - right).norm() + 1e-3 * right.norm()


def test_a_token_that_several_labels_share_gets_the_gradients_of_each():
    view = shared_view(make_model(dtype=torch.float64)).requires_grad_(False)
    states = torch.randn(2, view.config.hidden_size, dtype=torch.float64).requires_grad_()
    place = np.array([0, 1, 0, 0]), np.array([5, 5, 5, 8]), np.array([True, True, True, False])

    def read(states):
        return find_vocabulary(view).log_probabilities(states, *place)

    assert torch.autograd.gradcheck(read, states)


def test_tokens_that_can_never_follow_change_no_gradient():
    view = shared_view(make_model("phi", dtype=torch.float64)).requires_grad_(False)
    with torch.no_grad():
        view.get_output_embeddings().bias[:20] = -torch.inf
    states = torch.randn(2, view.config.hidden_size, dtype=torch.float64).requires_grad_()
    place = np.array([0, 1]), np.array([500, 501]), np.array([True, True])
    found = find_vocabulary(view).log_probabilities(states, *place)
    layer = view.get_output_embeddings()
    expected = layer(states).log_softmax(dim=-1)[[0, 1], [500, 501]]
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(each.sum(), states)[0] for each in (found, expected))
    torch.testing.assert_close(*gradients)


def test_an_output_layer_that_is_trained_is_left_to_the_model():
    view = shared_view(make_model(tie_word_embeddings=False)).requires_grad_(False)
    assert find_vocabulary(view) is not None
    view.lm_head.weight.requires_grad_()
    assert find_vocabulary(view) is None
    with torch.no_grad():
        assert find_vocabulary(view) is not None


@torch.inference_mode()
def test_tokens_that_need_no_normaliser_get_their_logits():
    view = shared_view(make_model())
    found, expected = read(view, [False, False, True, False])
    torch.testing.assert_close(found[2], expected[2], atol=1e-5, rtol=1e-5)
    difference = (found[0] - found[1]) - (expected[0] - expected[1])  # both follow one state
    assert abs(difference) < 1e-5
    assert abs(found[0] - expected[0]) > 0.1
    found, expected = read(view, [False] * 4)
    assert abs((found[0] - found[1]) - (expected[0] - expected[1])) < 1e-5


@torch.inference_mode()
def test_in_half_precision_they_are_more_precise_than_the_models_logits():
    view = shared_view(make_model(dtype=torch.bfloat16))
    found, of_logits = read(view)
    with output_at(view, ROWS, COLUMNS, stops=True) as positions:
        view(IDS)
    weight = view.get_output_embeddings().weight.double()
    exact = (positions.states[:, 0].double() @ weight.T).log_softmax(dim=-1)[STATES, TOKENS]
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-5 < (of_logits - exact).abs().max()


@torch.inference_mode()
def test_logits_that_an_architecture_changes_in_another_way_are_left_to_the_model():
    view = shared_view(make_model())

    class Cubes(type(view)):
        def forward(self, *inputs, **options):
            output = super().forward(*inputs, **options)
            output.logits = output.logits**3
            return output

    view.__class__ = Cubes
    assert find_vocabulary(view) is None


@torch.inference_mode()
def test_an_output_layer_with_an_adapter_is_left_to_the_model():
    view = shared_view(make_model(tie_word_embeddings=False))

    class Louder(torch.nn.Linear):
        def forward(self, states):
            return 2 * super().forward(states)

    view.lm_head.__class__ = Louder
    assert find_vocabulary(view) is None
