"""Probes are short, pass the limits of a model, and tell rounding from mistakes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.layouts import row_layout, tree_layout
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.engine.scoring.probes import length_limits, make_probes
from instructclf.engine.scoring.strategies import FULL_PROMPTS, Strategies
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import build_trie
from tests.fixtures import make_model

TRIE = build_trie([[1, 2, 3], [4, 5, 6]], 9)


def make_prompt(n_prefix, n_tail):
    tokens = [3 + i % 590 for i in range(n_prefix + n_tail)]
    return EncodedPrompt(tokens[n_prefix:], TRIE, tokens[:n_prefix])


@pytest.mark.parametrize("limits", [[], ["sliding_window"]], ids=["below", "beyond"])
@pytest.mark.parametrize("n_tail", [1, 2, 7, 300])
@pytest.mark.parametrize("n_prefix", [0, 3, 25, 2000])
def test_probes_are_short_and_differ_in_length_after_what_they_share(n_prefix, n_tail, limits):
    view = shared_view(make_model("mistral", sliding_window=100))
    probes = make_probes(view, make_prompt(n_prefix, n_tail), n_prefix, limits)
    longer, shorter = probes.prompts
    assert shorter.n_tokens < longer.n_tokens <= 20
    assert longer.ids[: probes.n_shared] == shorter.ids[: probes.n_shared]
    assert (probes.n_shared > 0) is (n_prefix > 0 and n_prefix + n_tail > 2)


def test_probes_of_many_labels_read_three_of_them():
    trie = build_trie([[1, 2, n] for n in range(3, 50)] + [[n, 2] for n in range(50, 99)], 9)
    view = shared_view(make_model())
    probes = make_probes(view, replace(make_prompt(20, 8), trie=trie), 20, [])
    read = probes.prompts[0].trie
    assert read.n_labels == 3
    assert len(read.paths) == 2
    for kind, layout in product([PrefixAttention, PrefixCache], [row_layout, tree_layout]):
        assert probes.difference(layout, kind) <= 1


def test_probes_beyond_a_window_pass_it_in_the_prefix_and_in_the_row():
    view = shared_view(make_model("mistral", sliding_window=1000))
    probes = make_probes(view, make_prompt(900, 200), 900, ["sliding_window"])
    window = probes.model.config.sliding_window
    assert window < probes.n_shared
    assert window < probes.prompts[0].n_tokens - probes.n_shared
    assert view.config.sliding_window == 1000


def test_a_limit_that_is_not_read_from_the_configuration_gives_no_probes():
    """GPT Neo makes its masks when it is built."""
    view = shared_view(make_model("gpt_neo", window_size=16, attention_types=[[["local"], 2]]))
    assert make_probes(view, make_prompt(20, 8), 20, ["window_size"]) is None
    assert Strategies(view, n_prefix=20).choose(make_prompt(20, 8)) is FULL_PROMPTS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", [PrefixAttention, PrefixCache])
@pytest.mark.parametrize("limits", [[], ["sliding_window"]], ids=["below", "beyond"])
def test_exact_shortcuts_differ_by_rounding(kind, limits, dtype):
    view = shared_view(make_model("mistral", sliding_window=100, dtype=dtype))
    probes = make_probes(view, make_prompt(300, 9), 300, limits)
    assert probes.difference(row_layout, kind) <= 1


def one_position_later(batch, **options):
    layout = row_layout(batch, **options)
    return replace(layout, position_ids=layout.position_ids + 1)


def without_a_mask(batch, **options):
    return replace(tree_layout(batch, **options), mask=None)


class WiderWindow(PrefixAttention):
    """A prefix whose layers see one token too many."""

    def __init__(self, model, ids):
        super().__init__(model, ids)
        self._windows = [
            window and replace(window, size=window.size + 1) for window in self._windows
        ]


MISTAKES = {
    "positions": (one_position_later, PrefixAttention),
    "no mask": (without_a_mask, PrefixAttention),
    "a window": (row_layout, WiderWindow),
    "no window": (tree_layout, None),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_of_one_token_differ_by_more_than_rounding(name, dtype):
    # Random weights attend to all tokens nearly alike: with larger ones, positions matter.
    changes = {"initializer_range": 0.4, "num_hidden_layers": 4}
    view = shared_view(make_model("mistral", sliding_window=100, dtype=dtype, **changes))
    probes = make_probes(view, make_prompt(300, 9), 300, ["sliding_window"])
    layout, kind = MISTAKES[name]
    assert probes.difference(layout, kind) > 1


def test_a_verdict_on_one_prompt_does_not_depend_on_its_length():
    """The first prompt is one token past the window, and later ones reach far beyond."""
    view = shared_view(make_model("mistral", sliding_window=40))
    strategies = Strategies(view, n_prefix=30)
    (short, long) = make_prompt(30, 10), make_prompt(30, 200)
    assert strategies.choose(short) is strategies.choose(long)
    assert strategies.choose(short).prefix is PrefixAttention


LONGROPE = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}


@pytest.mark.parametrize(
    ("architecture", "changes", "expected"),
    [
        ("llama", {}, {}),
        ("mistral", {"sliding_window": 9}, {"sliding_window": 9}),
        ("mistral", {"sliding_window": None}, {}),
        (
            "phi3",
            {"rope_scaling": LONGROPE, "original_max_position_embeddings": 50},
            {"original_max_position_embeddings": 50},
        ),
        (
            "llama",
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 1e4,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            },
            {},  # these angles are the same for all lengths
        ),
    ],
)
def test_limits_are_the_lengths_from_which_a_model_is_different(architecture, changes, expected):
    assert length_limits(make_model(architecture, **changes).config) == expected
