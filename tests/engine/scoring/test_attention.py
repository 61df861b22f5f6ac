"""Attention to rows and to a shared prefix equals one softmax, written out."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.running import cpu_attention
from instructclf.engine.running.cpu_attention import repeat_heads
from instructclf.engine.scoring import kernels
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.kernels import (
    additive_mask,
    attend_to_shared_keys,
    attend_with_normaliser,
)
from instructclf.engine.scoring.outputs import output_at
from instructclf.engine.scoring.shared_attention import (
    SharedAttention,
    WindowMasks,
    with_shared_prefix,
)
from instructclf.engine.scoring.windows import Window
from tests.fixtures import make_model

SCALING = 0.3
TOLERANCES = {torch.float32: 3e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@pytest.fixture(params=[True, False], ids=["with matrix units", "without"])
def _processor(request, monkeypatch):
    monkeypatch.setattr(cpu_attention, "has_matrix_units", lambda: request.param)


def make_inputs(dtype, device, *, length=37, n_keys=37, width=16):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4, length, width), (3, 4, n_keys, width), (3, 4, n_keys, width)]
    return [torch.randn(s, generator=generator).to(device=device, dtype=dtype) for s in shapes]


def attend_slowly(query, key, value, bias):
    scores = SCALING * query.double() @ key.double().transpose(-1, -2) + bias
    return scores.softmax(dim=-1) @ value.double(), scores.logsumexp(dim=-1)


def check(inputs, bias, mask, *, is_causal):
    with torch.inference_mode():
        output, normaliser = attend_with_normaliser(*inputs, mask, SCALING, is_causal=is_causal)
        expected, expected_normaliser = attend_slowly(*inputs, bias)
    tolerance = TOLERANCES[inputs[0].dtype]
    torch.testing.assert_close(output.double(), expected, atol=tolerance, rtol=tolerance)
    assert normaliser.dtype in {torch.float32, torch.float64}
    torch.testing.assert_close(
        normaliser.double(), expected_normaliser, atol=tolerance, rtol=tolerance
    )


def check_all_kinds(dtype, device, width=16):
    """Attend to all keys, to earlier keys only, and to the keys that a mask leaves."""
    check(make_inputs(dtype, device, n_keys=70, width=width), 0.0, None, is_causal=False)
    inputs = make_inputs(dtype, device, width=width)
    hidden = torch.ones(37, 37, dtype=torch.bool, device=device).triu(1)
    causal = torch.zeros(37, 37, device=device).masked_fill(hidden, -torch.inf)
    check(inputs, causal, None, is_causal=True)
    hidden = (torch.rand(3, 1, 37, 37, generator=torch.Generator().manual_seed(1)) < 0.5).to(device)
    hidden.diagonal(dim1=-2, dim2=-1).fill_(False)  # each sees itself
    mask = torch.zeros(hidden.shape, dtype=dtype, device=device)
    mask = mask.masked_fill(hidden, torch.finfo(dtype).min)
    check(inputs, mask.double(), mask, is_causal=False)


@pytest.mark.usefixtures("_processor")
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_attention_and_normaliser_are_those_of_a_softmax_written_out(dtype):
    check_all_kinds(dtype, "cpu")


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_long_rows_attend_as_short_ones_do(dtype, monkeypatch):
    monkeypatch.setattr(kernels, "_LONG_ROW", 1)
    check_all_kinds(dtype, "cpu")


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("n_key_heads", [1, 2, 4])
def test_long_rows_share_heads_of_keys_that_are_stored_side_by_side(
    n_key_heads, is_causal, monkeypatch
):
    query, key, value = make_inputs(torch.float32, "cpu")
    key, value = (
        heads[:, :n_key_heads].transpose(1, 2).contiguous().transpose(1, 2)
        for heads in (key, value)
    )
    with torch.inference_mode():
        short = attend_with_normaliser(query, key, value, None, SCALING, is_causal=is_causal)
        monkeypatch.setattr(kernels, "_LONG_ROW", 1)
        long = attend_with_normaliser(query, key, value, None, SCALING, is_causal=is_causal)
    for one, other in zip(long, short, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("_processor")
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("has_mask", [True, False])
def test_many_queries_attend_to_the_same_keys_block_by_block(dtype, softcap, has_mask, monkeypatch):
    monkeypatch.setattr(cpu_attention, "_SCORES_PER_BLOCK", 70 * 16)
    query, key, value = (t[:1] for t in make_inputs(dtype, "cpu", length=37, n_keys=70))
    value = value[..., :12]
    mask, hidden = None, torch.zeros(37, 70, dtype=torch.bool)
    if has_mask:
        hidden = torch.rand(37, 70, generator=torch.Generator().manual_seed(1)) < 0.5
        hidden[:, 0] = False
        mask = additive_mask(hidden, dtype)[None, None]
    with torch.inference_mode():
        found = attend_to_shared_keys(query, key, value, mask, SCALING, softcap=softcap)
    scores = SCALING * query.double() @ key.double().mT
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    scores = scores.masked_fill(hidden, -torch.inf)
    expected = scores.softmax(dim=-1) @ value.double(), scores.logsumexp(dim=-1)
    assert found[0].dtype == dtype
    for one, other in zip(found, expected, strict=True):
        tolerance = TOLERANCES[dtype]
        torch.testing.assert_close(one.double(), other, atol=tolerance, rtol=tolerance)


@pytest.mark.usefixtures("_processor")
@pytest.mark.parametrize("n_key_heads", [1, 2, 4])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_many_queries_attend_to_the_same_keys_at_once(dtype, n_key_heads):
    query, key, value = (t[:1] for t in make_inputs(dtype, "cpu", length=37, n_keys=70))
    query = query.transpose(1, 2).contiguous().transpose(1, 2)  # as models store it
    key, value = key[:, :n_key_heads], value[:, :n_key_heads]
    with torch.inference_mode():
        found = attend_to_shared_keys(query, key, value, None, SCALING)
    key, value = repeat_heads(key.double(), value.double(), query)
    scores = SCALING * query.double() @ key.mT
    expected = scores.softmax(dim=-1) @ value, scores.logsumexp(dim=-1)
    assert found[0].dtype == dtype
    assert found[1].dtype == torch.promote_types(dtype, torch.float32)
    for one, other in zip(found, expected, strict=True):
        tolerance = TOLERANCES[dtype]
        torch.testing.assert_close(one.double(), other, atol=tolerance, rtol=tolerance)


@pytest.mark.usefixtures("_processor")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.inference_mode()
def test_a_query_that_sees_no_shared_key_has_a_normaliser_without_weight(dtype):
    query, key, value = (t[:1] for t in make_inputs(dtype, "cpu", length=3, n_keys=5))
    mask = additive_mask(torch.ones(3, 5, dtype=torch.bool), torch.float32)[None, None]
    output, normaliser = attend_to_shared_keys(query, key, value, mask, SCALING)
    assert output.isfinite().all()
    assert (normaliser < -1e30).all()


def test_capped_scores_and_values_of_another_width_are_attended_to_by_products():
    query, key, value = make_inputs(torch.float32, "cpu")
    output, normaliser = attend_with_normaliser(
        query, key, value[..., :5], None, SCALING, is_causal=True, softcap=2.0
    )
    hidden = torch.ones(37, 37, dtype=torch.bool).triu(1)
    scores = 2.0 * (SCALING * query.double() @ key.double().mT / 2.0).tanh()
    scores = scores.masked_fill(hidden, -torch.inf)
    expected = scores.softmax(dim=-1) @ value[..., :5].double()
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(normaliser.double(), scores.logsumexp(dim=-1), atol=1e-5, rtol=1e-5)


# A shared prefix

N_ROWS, N_HEADS, LENGTH, N_PREFIX, WIDTH = 3, 4, 6, 11, 8


class Layer:
    """A module of attention, of which only the number matters."""

    def __init__(self, layer_idx):
        self.layer_idx = layer_idx


def make_prefix(layers, *, has_mask=False, windows=None):
    """Return the options of a forward pass after a prefix with these keys and values."""
    positions = torch.arange(N_PREFIX, N_PREFIX + LENGTH).expand(N_ROWS, -1)
    windows = windows or [None] * len(layers)
    masks = WindowMasks(windows, positions, n_prefix=N_PREFIX, has_mask=has_mask)
    return {"shared_prefix": SharedAttention(dict(enumerate(layers)), masks)}


def make_tensors(n_key_heads, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (N_ROWS, N_HEADS, LENGTH, WIDTH),
        *[(N_ROWS, n_key_heads, LENGTH, WIDTH)] * 2,
        *[(1, n_key_heads, N_PREFIX, WIDTH)] * 2,
    ]
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def attend_to_copies(query, key, value, prefix, bias):
    """Give each row its copy of the prefix, each query head its key head, and take one softmax."""
    keys, values = (
        torch.cat([far.expand(N_ROWS, -1, -1, -1), near], dim=2).repeat_interleave(
            N_HEADS // near.shape[1], dim=1
        )
        for far, near in zip(prefix, (key, value), strict=True)
    )
    if bias.shape[-1] == LENGTH:  # the whole prefix is visible
        bias = torch.cat([torch.zeros(*bias.shape[:-1], N_PREFIX), bias], dim=-1)
    output, _ = attend_slowly(query, keys, values, bias)
    return output.transpose(1, 2)


def causal_bias():
    is_later = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    return torch.zeros(LENGTH, LENGTH).masked_fill(is_later, -torch.inf)


def tree_bias():
    """Return a mask that differs from row to row, in which each position sees itself."""
    is_hidden = torch.rand(N_ROWS, 1, LENGTH, LENGTH, generator=torch.Generator().manual_seed(1))
    is_hidden = (is_hidden < 0.5) & ~torch.eye(LENGTH, dtype=torch.bool)
    return torch.zeros(is_hidden.shape).masked_fill(is_hidden, torch.finfo(torch.float32).min)


def never(*_, **__):
    pytest.fail("The attention function without a prefix was called.")


@pytest.mark.parametrize("n_key_heads", [4, 2, 1], ids="{} key heads".format)
@pytest.mark.parametrize("has_mask", [False, True], ids=["causal", "masked"])
def test_attention_to_a_shared_prefix_is_one_softmax_over_prefix_and_row(has_mask, n_key_heads):
    query, key, value, *prefix = make_tensors(n_key_heads)
    mask = tree_bias() if has_mask else None
    options = make_prefix([tuple(prefix)], has_mask=has_mask) | {"scaling": SCALING}
    output, _ = with_shared_prefix(never)(Layer(0), query, key, value, mask, **options)
    bias = causal_bias() if mask is None else mask
    expected = attend_to_copies(query, key, value, prefix, bias)
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1e-5)


def window_bias(window, bias):
    """Hide what is outside a window of 17 positions in all, or hidden already."""
    position = torch.arange(N_PREFIX + LENGTH)
    asking = position[N_PREFIX:, None]
    if window.is_chunked:
        outside = position // window.size < asking // window.size
    else:
        outside = position <= asking - window.size
    visible = torch.cat([torch.zeros(*bias.shape[:-1], N_PREFIX), bias], dim=-1)
    return visible.masked_fill(outside, -torch.inf)


WINDOWS = {
    "wider than all": Window(17, is_chunked=False),
    "within the prefix": Window(8, is_chunked=False),
    "within the row": Window(3, is_chunked=False),
    "one token": Window(1, is_chunked=False),
    "a chunk of both": Window(9, is_chunked=True),
    "chunks that end in the row": Window(7, is_chunked=True),
    "chunks that end with the prefix": Window(N_PREFIX, is_chunked=True),
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("has_mask", [False, True], ids=["causal", "masked"])
@pytest.mark.parametrize("is_read", [False, True], ids=["all positions", "some positions"])
def test_a_layer_with_a_window_attends_to_what_it_sees(is_read, has_mask, name, model):
    window = WINDOWS[name]
    query, key, value, *prefix = make_tensors(2)
    mask = tree_bias() if has_mask else None
    options = make_prefix([tuple(prefix)], has_mask=has_mask, windows=[window])
    rows = torch.arange(N_ROWS)[:, None].expand(-1, 2)
    columns = torch.tensor([[3, 5], [0, 1], [4, 2]])
    with output_at(shared_view(model), rows, columns, limits_last_layer=is_read):
        output, _ = with_shared_prefix(never)(
            Layer(0), query, key, value, mask, scaling=SCALING, **options
        )
    bias = causal_bias() if mask is None else mask
    expected = attend_to_copies(query, key, value, prefix, window_bias(window, bias))
    if is_read:
        output, expected = output[rows, columns], expected[rows, columns]
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("_processor")
@pytest.mark.parametrize("softcap", [None, 50.0])
@pytest.mark.parametrize("name", [None, *WINDOWS])
@pytest.mark.parametrize("has_mask", [False, True], ids=["causal", "masked"])
def test_a_prefix_in_bfloat16_is_attended_to_by_more_precise_rows(has_mask, name, softcap):
    query, key, value, *prefix = make_tensors(2)
    prefix = [heads.bfloat16() for heads in prefix]
    window, mask = WINDOWS.get(name), tree_bias() if has_mask else None
    options = make_prefix([tuple(prefix)], has_mask=has_mask, windows=[window])
    options |= {"scaling": SCALING, "softcap": softcap}
    output, _ = with_shared_prefix(never)(Layer(0), query, key, value, mask, **options)
    bias = causal_bias() if mask is None else mask
    bias = bias if window is None else window_bias(window, bias)
    expected = attend_to_copies(query, key, value, prefix, bias)
    assert output.dtype == query.dtype
    tolerance = TOLERANCES[torch.bfloat16]
    torch.testing.assert_close(output.double(), expected, atol=tolerance, rtol=tolerance)


def test_a_window_that_a_model_counts_from_the_beginning_of_a_row_is_not_used():
    query, key, value, *prefix = make_tensors(2)
    options = make_prefix([tuple(prefix)], windows=[WINDOWS["chunks that end in the row"]])
    attend = with_shared_prefix(never)
    expected, _ = attend(Layer(0), query, key, value, None, **options)
    found, _ = attend(Layer(0), query, key, value, tree_bias(), **options)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("window", [None, WINDOWS["chunks that end with the prefix"]])
def test_a_sink_takes_a_share_of_attention(window):
    query, key, value, *prefix = make_tensors(2)
    sinks = torch.tensor([-1.0, 0.0, 1.0, 20.0])
    options = make_prefix([tuple(prefix)], windows=[window]) | {"scaling": SCALING}
    output, _ = with_shared_prefix(never)(Layer(0), query, key, value, None, s_aux=sinks, **options)
    bias = causal_bias() if window is None else window_bias(window, causal_bias())
    if window is None:
        bias = torch.cat([torch.zeros(LENGTH, N_PREFIX), bias], dim=-1)
    # A sink is one more key with this score, whose value is 0.
    keys, values = (
        torch.cat([far.expand(N_ROWS, -1, -1, -1), near], dim=2).repeat_interleave(2, dim=1)
        for far, near in zip(prefix, (key, value), strict=True)
    )
    scores = SCALING * query @ keys.mT + bias
    scores = torch.cat([scores, sinks.view(1, -1, 1, 1).expand(N_ROWS, -1, LENGTH, 1)], dim=-1)
    expected = scores.softmax(dim=-1)[..., :-1] @ values
    torch.testing.assert_close(output, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("has_mask", [False, True], ids=["causal", "masked"])
def test_the_last_layer_attends_from_the_positions_that_are_read(has_mask, model):
    query, key, value, *prefix = make_tensors(2)
    mask = tree_bias() if has_mask else None
    options = make_prefix([tuple(prefix)] * 2, has_mask=has_mask) | {"scaling": SCALING}
    rows, columns = torch.tensor([[0, 0], [1, 1], [2, 2]]), torch.tensor([[3, 5], [0, 1], [4, 4]])
    attend = with_shared_prefix(never)
    with output_at(shared_view(model), rows, columns, limits_last_layer=True):
        first, last = (
            attend(Layer(i), query, key, value, mask, **dict(options))[0] for i in (0, 1)
        )
    torch.testing.assert_close(last[rows, columns], first[rows, columns], atol=1e-5, rtol=1e-5)
    is_read = torch.zeros(N_ROWS, LENGTH, dtype=torch.bool)
    is_read[rows, columns] = True
    assert not last[~is_read].any()
    assert first[~is_read].all()


def test_texts_of_several_rows_are_computed_whole(model):
    """With more rows than texts, the queries of a text would meet the keys of another one."""
    query, key, value, *prefix = make_tensors(2)
    options = make_prefix([tuple(prefix)]) | {"scaling": SCALING}
    rows, columns = torch.tensor([[0, 1], [2, 2]]), torch.tensor([[5, 5], [4, 4]])
    attend = with_shared_prefix(never)
    expected, _ = attend(Layer(0), query, key, value, None, **dict(options))
    with output_at(shared_view(model), rows, columns, limits_last_layer=True):
        found, _ = attend(Layer(0), query, key, value, None, **dict(options))
    assert torch.equal(found, expected)


def test_without_a_prefix_the_ordinary_attention_is_called():
    query, key, value, *_ = make_tensors(4)

    def ordinary(module, *inputs, **options):
        assert "shared_prefix" not in options
        return inputs[0] * options["factor"], None

    output, _ = with_shared_prefix(ordinary)(Layer(0), query, key, value, None, factor=2)
    assert torch.equal(output, query * 2)


def test_a_prefix_much_more_likely_than_the_row_does_not_overflow():
    query, key, value, *prefix = make_tensors(4)
    options = make_prefix([(prefix[0] * 1e3, prefix[1])]) | {"scaling": 1.0}
    output, _ = with_shared_prefix(never)(Layer(0), query * 1e3, key, value, None, **options)
    assert output.isfinite().all()


def test_a_view_with_extended_attention_still_runs_without_a_prefix():
    model = make_model()
    view = shared_view(model)
    PrefixAttention(view, [3, 4, 5])
    ids = torch.arange(3, 13).view(1, 10)
    with torch.inference_mode():
        torch.testing.assert_close(view(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)
