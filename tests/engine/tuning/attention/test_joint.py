"""Attention to a shared prefix and to the row has the outputs and gradients of a single softmax."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from instructclf.engine.tuning.attention import joint as module
from instructclf.engine.tuning.attention.joint import joint_attention

N_ROWS, LENGTH, N_PREFIX, WIDTH, VALUE_WIDTH = 3, 5, 7, 8, 4
SCALING = 0.3
HEADS = {"each has keys": (4, 4), "three share keys": (6, 2), "all share keys": (4, 1)}


def make_inputs(
    n_heads, n_key_heads, dtype=torch.float64, *, n_prefix=N_PREFIX, value_width=VALUE_WIDTH
):
    generator = torch.Generator().manual_seed(0)

    def draw(n_rows, heads, length, width):
        # Models give heads as a transposed view.
        drawn = torch.randn(n_rows, length, heads, width, generator=generator, dtype=torch.float64)
        return drawn.to(dtype).transpose(1, 2).requires_grad_()

    return (
        draw(N_ROWS, n_heads, LENGTH, WIDTH),
        draw(N_ROWS, n_key_heads, LENGTH, WIDTH),
        draw(N_ROWS, n_key_heads, LENGTH, value_width),
        draw(1, n_key_heads, n_prefix, WIDTH),
        draw(1, n_key_heads, n_prefix, value_width),
    )


def make_mask(kind, dtype=torch.float64):
    """Return a mask of the tokens of a row that are visible to each other."""
    if kind == "causal":
        return None
    generator = torch.Generator().manual_seed(1)
    visible = torch.rand(N_ROWS, 1, LENGTH, LENGTH, generator=generator) > 0.4
    if kind == "boolean":
        return visible
    return torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, -1e30)


def make_prefix_mask(n_prefix=N_PREFIX, dtype=torch.float64):
    """Return a mask that hides other tokens of the prefix from each query, and all from one."""
    generator = torch.Generator().manual_seed(2)
    hidden = torch.rand(1, 1, N_ROWS * LENGTH, n_prefix, generator=generator) > 0.6
    hidden[..., -1, :] = True
    least = torch.finfo(dtype).min
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, least)


def attend_with_torch(inputs, mask, prefix_mask=None):
    """Copy the prefix for every row, and each key head for every query head."""
    query, key, value, far_key, far_value = inputs
    n_repeats = query.shape[1] // key.shape[1]
    keys = torch.cat([far_key.expand(N_ROWS, -1, -1, -1), key], dim=2)
    values = torch.cat([far_value.expand(N_ROWS, -1, -1, -1), value], dim=2)
    if mask is None:
        mask = torch.ones(N_ROWS, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    if mask.dtype != torch.bool:
        mask = mask == 0
    seen = torch.ones(N_ROWS, 1, LENGTH, far_key.shape[2], dtype=torch.bool)
    if prefix_mask is not None:
        seen = (prefix_mask == 0).view(seen.shape)
    return scaled_dot_product_attention(
        query,
        keys.repeat_interleave(n_repeats, dim=1),
        values.repeat_interleave(n_repeats, dim=1),
        attn_mask=torch.cat([seen, mask], dim=3),
        scale=SCALING,
    ).transpose(1, 2)


def gradients(output, inputs):
    sent = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad(output, inputs, sent)


def check_full_precision(device, heads, kind, *, is_windowed=False):
    """Compare outputs and gradients in float32 on a device with exact ones."""
    exact = make_inputs(*heads, value_width=WIDTH)
    mask = make_mask(kind, torch.float32)
    prefix_mask = make_prefix_mask(dtype=torch.float32) if is_windowed else None
    expected = attend_with_torch(exact, mask, prefix_mask)
    ours = [tensor.detach().float().to(device).requires_grad_() for tensor in exact]
    query, key, value, *prefix = ours
    mask, prefix_mask = (None if each is None else each.to(device) for each in (mask, prefix_mask))
    output = joint_attention(
        query, key, value, tuple(prefix), mask=mask, prefix_mask=prefix_mask, scaling=SCALING
    )
    sent = torch.linspace(-1, 1, output.numel()).view(output.shape).to(device)
    found = [output, *torch.autograd.grad(output, ours, sent)]
    for one, right in zip(found, [expected, *gradients(expected, exact)], strict=True):
        torch.testing.assert_close(one.cpu().double(), right, rtol=1e-4, atol=1e-5)


def check_half_precision(device, dtype, heads, *, is_masked):
    """Compare outputs and gradients on a device with exact ones, by what rounding alone changes.

    Scores of 20 and more have errors of 0.06 in bfloat16, which fused kernels avoid. Two of these
    round the part of each before they are merged.
    """
    most = 2.0
    exact = [
        tensor.detach().mul(3 if place in {0, 1, 3} else 1).requires_grad_()
        for place, tensor in enumerate(make_inputs(*heads, torch.float64, value_width=WIDTH))
    ]
    half = [tensor.detach().to(dtype) for tensor in exact]
    expected = attend_with_torch(exact, None)
    expected = [expected, *gradients(expected, exact)]

    def error(found):
        pairs = zip(found, expected, strict=True)
        return [(one.cpu().double() - right).square().mean().sqrt().item() for one, right in pairs]

    ours = [tensor.to(device).requires_grad_() for tensor in half]
    query, key, value, *prefix = ours
    mask = torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool).tril().to(device)
    mask = mask if is_masked else None
    output = joint_attention(query, key, value, tuple(prefix), mask=mask, scaling=SCALING)
    fused = [tensor.float().requires_grad_() for tensor in half]
    rounded = attend_with_torch(fused, None).to(dtype)
    limits = error([rounded, *(gradient.to(dtype) for gradient in gradients(rounded, fused))])
    sent = torch.linspace(-1, 1, output.numel(), dtype=dtype).view_as(rounded).to(device)
    found = error([output, *torch.autograd.grad(output, ours, sent)])
    pairs = zip(found, limits, strict=True)
    assert all(one <= most * limit for one, limit in pairs), (found, limits)


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("kind", ["causal", "boolean", "additive"])
@pytest.mark.parametrize("most_bytes", [2**26, 1], ids=["all heads at once", "heads in turn"])
@pytest.mark.parametrize("is_windowed", [False, True], ids=["whole prefix", "windows"])
def test_outputs_and_gradients_are_those_of_a_copied_prefix(
    heads, kind, most_bytes, is_windowed, monkeypatch
):
    monkeypatch.setattr(module, "_MOST_BYTES_ON_CPU", most_bytes)
    inputs = make_inputs(*heads)
    mask = make_mask(kind)
    prefix_mask = make_prefix_mask() if is_windowed else None
    query, key, value, *prefix = inputs
    output = joint_attention(
        query, key, value, tuple(prefix), mask=mask, prefix_mask=prefix_mask, scaling=SCALING
    )
    expected = attend_with_torch(inputs, mask, prefix_mask)
    torch.testing.assert_close(output, expected)
    for found, right in zip(gradients(output, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(found, right)


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("kind", ["causal", "boolean", "additive"])
@pytest.mark.parametrize("is_windowed", [False, True], ids=["whole prefix", "windows"])
def test_copies_of_the_prefix_give_the_same_outputs_and_gradients(
    heads, kind, is_windowed, monkeypatch
):
    monkeypatch.setattr(module, "_LEAST_COPIED", LENGTH)
    inputs = make_inputs(*heads, torch.float32, n_prefix=LENGTH, value_width=WIDTH)
    query, key, value, *prefix = inputs
    mask = make_mask(kind, torch.float32)
    prefix_mask = make_prefix_mask(LENGTH, torch.float32) if is_windowed else None
    output = joint_attention(
        query, key, value, tuple(prefix), mask=mask, prefix_mask=prefix_mask, scaling=SCALING
    )
    assert runs_in_torch(output)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = attend_with_torch(exact, mask, prefix_mask)
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    for found, right in zip(gradients(output, inputs), gradients(expected, exact), strict=True):
        torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "unlike",
    [
        {"n_prefix": LENGTH + 1, "value_width": WIDTH},
        {"n_prefix": LENGTH, "value_width": VALUE_WIDTH},
        {"n_prefix": LENGTH, "value_width": WIDTH, "dtype": torch.bfloat16},
    ],
    ids=["a prefix longer than rows", "values of another width", "half precision"],
)
def test_the_prefix_is_not_copied_if_that_would_be_slower(unlike, monkeypatch):
    monkeypatch.setattr(module, "_LEAST_COPIED", LENGTH)
    query, key, value, *prefix = make_inputs(4, 4, **({"dtype": torch.float32} | unlike))
    output = joint_attention(query, key, value, tuple(prefix), mask=None, scaling=SCALING)
    assert not runs_in_torch(output)


def runs_in_torch(output):
    """Say whether the history of a tensor has only operations of torch."""
    waiting, names = [output.grad_fn], set()
    while waiting:
        function = waiting.pop()
        names.add(type(function).__name__)
        waiting += [earlier for earlier, _ in function.next_functions if earlier is not None]
    return "_JointAttentionBackward" not in names


def test_half_precision_is_as_close_as_that_of_torch():
    halves = make_inputs(6, 2, torch.bfloat16)
    exact = [tensor.detach().double().requires_grad_() for tensor in halves]
    expected = attend_with_torch(exact, None)
    query, key, value, *prefix = halves
    output = joint_attention(query, key, value, tuple(prefix), mask=None, scaling=SCALING)
    assert output.dtype == torch.bfloat16
    ours = [output, *gradients(output, halves)]
    torchs = attend_with_torch(halves, None)
    theirs = [torchs, *gradients(torchs, halves)]
    for found, usual, right in zip(
        ours, theirs, [expected, *gradients(expected, exact)], strict=True
    ):
        error, usual_error = ((t.double() - right).norm().item() for t in (found, usual))
        assert error < 2 * usual_error + 1e-3 * right.norm().item()


def test_only_inputs_are_kept_for_the_backward_pass():
    inputs = make_inputs(6, 2)
    query, key, value, *prefix = inputs
    n_kept = 0

    def count(tensor):
        nonlocal n_kept
        n_kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        joint_attention(query, key, value, tuple(prefix), mask=None, scaling=SCALING)
    assert n_kept == sum(tensor.numel() for tensor in inputs) + LENGTH**2
