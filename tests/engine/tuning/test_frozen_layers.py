"""Frozen layers are skipped, and everything above them gives the same."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models.decoder_layers import named_decoder_layers
from instructclf.engine.models.views import shared_view
from instructclf.engine.tuning.frozen_layers import FrozenLayers
from tests.fixtures import ARCHITECTURES, make_model

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])


def make_frozen(architecture="llama", n_frozen=2, n_layers=3):
    changes = {"num_hidden_layers": n_layers}
    if architecture == "gpt2":
        changes["n_layer"] = n_layers
    view = shared_view(make_model(architecture, **changes))
    return view, FrozenLayers(view, n_frozen)


def run(view):
    with torch.no_grad():
        return view(IDS, use_cache=False).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_recorded_is_the_input_of_the_first_tuned_layer(architecture):
    view, frozen = make_frozen(architecture)
    seen = []
    *_, last = named_decoder_layers(view).values()
    handle = last.register_forward_hook(
        lambda _, args, kwargs, output: seen.append(args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True,
    )
    run(view)
    handle.remove()
    assert torch.equal(frozen.record(lambda: run(view)), seen[0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("n_frozen", [1, 2])
def test_a_replayed_forward_pass_gives_the_same_logits(architecture, n_frozen):
    view, frozen = make_frozen(architecture, n_frozen)
    expected = run(view)
    hidden = frozen.record(lambda: run(view))
    with frozen.replaying(lambda: hidden):
        found = run(view)
    assert torch.equal(found, expected)


def test_a_recorded_forward_pass_ends_before_the_tuned_layers():
    view, frozen = make_frozen()
    n_runs = []
    for layer in named_decoder_layers(view).values():
        layer.register_forward_hook(lambda *_: n_runs.append(1))
    frozen.record(lambda: run(view))
    assert len(n_runs) == 2


def test_frozen_layers_compute_nothing_while_they_are_replayed():
    view, frozen = make_frozen()
    hidden = frozen.record(lambda: run(view))
    computed = []
    for layer in named_decoder_layers(view).values():
        layer.self_attn.register_forward_hook(lambda *_: computed.append(1))
    with frozen.replaying(lambda: hidden):
        run(view)
    assert len(computed) == 1


def test_other_hidden_states_give_other_logits():
    view, frozen = make_frozen()
    hidden = frozen.record(lambda: run(view))
    expected = run(view)
    with frozen.replaying(lambda: 2 * hidden):
        assert not torch.allclose(run(view), expected)


def test_hidden_states_are_asked_for_in_each_forward_pass():
    view, frozen = make_frozen()
    hidden = frozen.record(lambda: run(view))
    n_asked = []

    def take():
        n_asked.append(1)
        return hidden

    with frozen.replaying(take):
        assert not n_asked
        run(view)
        run(view)
    assert len(n_asked) == 2


def test_gradients_end_at_the_first_tuned_layer():
    view, frozen = make_frozen()
    view.requires_grad_(requires_grad=True)
    hidden = frozen.record(lambda: view(IDS, use_cache=False))
    assert not hidden.requires_grad
    with frozen.replaying(lambda: hidden):
        view(IDS, use_cache=False).logits.sum().backward()
    lower, _, upper = named_decoder_layers(view).values()
    assert all(weight.grad is None for weight in lower.parameters())
    assert all(weight.grad is not None for weight in upper.parameters())


def test_all_layers_run_again_afterwards_even_after_an_error():
    view, frozen = make_frozen()
    expected = run(view)
    hidden = frozen.record(lambda: run(view))
    with pytest.raises(ZeroDivisionError), frozen.replaying(lambda: hidden):
        1 / 0  # noqa: B018  (raises what leaves the block)
    assert torch.equal(run(view), expected)
    with pytest.raises(ZeroDivisionError):
        frozen.record(lambda: 1 / 0)
    assert torch.equal(run(view), expected)


def test_a_model_whose_tuned_layers_do_not_run_is_an_error():
    view, frozen = make_frozen()
    with pytest.raises(RuntimeError, match="The first tuned layer did not run"):
        frozen.record(lambda: view.get_input_embeddings()(IDS))
