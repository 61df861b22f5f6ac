"""Both layouts hold the tokens of every label's path, and what each token may see."""

from __future__ import annotations

import pytest
import torch

from instructclf.engine.scoring.layouts import row_layout, tree_layout
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import build_trie

PREFIX = [40, 41, 42]
TRIES = {
    "one token": build_trie([[1], [2], [3]], 9),
    "a chain": build_trie([[1, 2, 3], [1, 2, 4]], 9),
    "branches": build_trie([[1, 2, 3], [1, 4, 5], [6, 7], [8]], 9),
}
LAYOUTS = {"rows": row_layout, "tree": tree_layout}


def make_batch(trie, prefix=PREFIX):
    return [EncodedPrompt(tail, trie, prefix) for tail in ([20, 21, 22, 23], [30], [50, 51])]


def lay_out(layout, batch, *, n_prefix=0, n_masked=0, dtype=torch.float32):
    device = torch.device("cpu")
    return layout(batch, n_prefix=n_prefix, n_masked=n_masked, dtype=dtype, device=device)


def visible_ids(inputs, row, column):
    """Return the token ids, without the prefix, that a token sees, itself included."""
    if inputs.mask is None:
        return inputs.input_ids[row, : column + 1].tolist()
    n_masked = inputs.mask.shape[-1] - inputs.input_ids.shape[1]
    is_visible = inputs.mask[row, 0, column] == 0
    assert is_visible[:n_masked].all()
    return inputs.input_ids[row][is_visible[n_masked:]].tolist()


def path_to(trie, node):
    return [] if node == 0 else [*path_to(trie, trie.parents[node]), trie.tokens[node]]


@pytest.mark.parametrize("n_prefix", [0, 2, 3])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("trie", TRIES.values(), ids=TRIES)
def test_each_node_is_read_after_its_text_and_its_path_and_nothing_else(trie, layout, n_prefix):
    batch = make_batch(trie)
    inputs = lay_out(layout, batch, n_prefix=n_prefix, n_masked=n_prefix)
    assert inputs.rows.shape == inputs.columns.shape == (len(batch), len(trie.tokens))
    for text, prompt in enumerate(batch):
        for node in range(len(trie.tokens)):
            row, column = inputs.rows[text, node].item(), inputs.columns[text, node].item()
            expected = prompt.ids[n_prefix:] + path_to(trie, node)
            assert visible_ids(inputs, row, column) == expected
            assert inputs.position_ids[row, column] == n_prefix + len(expected) - 1
            assert inputs.is_real[row, column]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("trie", TRIES.values(), ids=TRIES)
def test_everything_that_is_not_real_is_padding(trie, layout):
    batch = make_batch(trie)
    inputs = lay_out(layout, batch)
    assert not inputs.input_ids[~inputs.is_real].any()
    assert inputs.input_ids[inputs.is_real].all()  # no token of these prompts is 0
    assert inputs.input_ids.shape == inputs.position_ids.shape == inputs.is_real.shape


def test_row_layout_repeats_a_text_for_each_path():
    inputs = lay_out(row_layout, make_batch(TRIES["branches"])[1:2])
    assert inputs.mask is None
    assert inputs.input_ids.tolist() == [
        [*PREFIX, 30, 1, 2],
        [*PREFIX, 30, 1, 4],
        [*PREFIX, 30, 6, 0],
    ]


def test_the_rows_of_a_text_follow_each_other_and_its_root_is_in_the_first():
    inputs = lay_out(row_layout, make_batch(TRIES["branches"]))
    assert inputs.rows[:, 0].tolist() == [0, 3, 6]


def test_tree_layout_has_one_row_for_each_text_and_one_column_for_each_node():
    batch = make_batch(TRIES["branches"])
    inputs = lay_out(tree_layout, batch, n_prefix=3)
    n_nodes = len(TRIES["branches"].tokens) - 1
    assert inputs.input_ids.shape == (len(batch), 4 + n_nodes)
    assert inputs.input_ids[:, 4:].tolist() == [list(TRIES["branches"].tokens[1:])] * len(batch)


def test_with_labels_of_one_token_the_layouts_are_equal():
    batch = make_batch(TRIES["one token"])
    rows, tree = (lay_out(layout, batch, n_prefix=3) for layout in LAYOUTS.values())
    assert tree.mask is None
    for name in ("input_ids", "position_ids", "rows", "columns", "is_real"):
        assert torch.equal(getattr(rows, name), getattr(tree, name)), name


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_text_with_fewer_nodes_repeats_its_root(layout):
    batch = [
        EncodedPrompt([20, 21], TRIES["branches"], PREFIX),
        EncodedPrompt([30], TRIES["one token"], PREFIX),
    ]
    inputs = lay_out(layout, batch)
    assert len(set(zip(inputs.rows[1].tolist(), inputs.columns[1].tolist(), strict=True))) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_mask_has_the_models_data_type_and_is_finite(dtype):
    inputs = lay_out(tree_layout, make_batch(TRIES["branches"]), dtype=dtype)
    assert inputs.mask.dtype == dtype
    assert inputs.mask.isfinite().all()


def test_every_row_of_a_mask_sees_something():
    """A softmax over nothing would be NaN, and spread through what is multiplied by zero."""
    inputs = lay_out(tree_layout, make_batch(TRIES["branches"]), n_prefix=3)
    assert (inputs.mask == 0).any(dim=-1).all()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_moves_to_a_device_as_a_whole(layout):
    inputs = lay_out(layout, make_batch(TRIES["branches"])).to(torch.device("meta"))
    devices = {name: value.device.type for name, value in vars(inputs).items() if value is not None}
    assert devices.pop("is_real") == "cpu"  # no model reads it
    assert set(devices.values()) == {"meta"}
