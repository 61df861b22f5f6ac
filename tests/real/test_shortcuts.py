"""Real models take the shortcuts that docs/scoring.md and docs/tuning.md describe.

A shortcut that is not exact is not taken, without an error. So whether it is taken has to be asked.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.tuning.test_backpropagation import (
    assert_close,
    make_adapter,
    make_backpropagation,
    naive_gradients,
    take_gradients,
)
from tests.real.rows import LABELS, LONG_ADVICE, TEXTS, UNSEEN, VERDICTS
from tests.real.shortcuts import (
    count_positions_read,
    counting,
    counting_distributions,
    counting_keys,
    last_projection,
    list_prefix,
    list_prompt,
    replays_frozen_layers,
    scorer_of,
    shares_prefix_in_tuning,
    shortcuts_of,
    tokenises_tails_alone,
)

WINDOW = 512
"""How many tokens most layers of Gemma 3 see. Layers of SmolLM2 see its whole context."""
LENGTHS = {"short": {}, "long": {"instruction": LONG_ADVICE}}


@pytest.fixture(params=LENGTHS)
def length(request):
    """Prompts below the window, then prompts whose shared beginning is longer than it."""
    return request.param


@pytest.fixture(scope="session")
def _fitted_before():
    return {}


@pytest.fixture
def get_scorer(real_model, _fitted_before):
    """Return a function that returns the scorer of a fitted classifier, the same one each time."""

    def get(length, labels=VERDICTS):
        key = real_model.name, length, labels[0]
        if key not in _fitted_before:
            classifier = real_model.prompting(**LENGTHS[length]).fit(TEXTS, labels)
            scorer_of(classifier).score(UNSEEN)  # tries strategies, and computes the prefix
            _fitted_before[key] = classifier
        return scorer_of(_fitted_before[key])

    return get


def test_the_prompts_are_on_both_sides_of_the_window(get_scorer):
    assert len(list_prompt(get_scorer("short"), UNSEEN[0])) < WINDOW
    assert len(list_prefix(get_scorer("long"))) > WINDOW


def test_long_prompts_get_the_scores_of_transformers(real_model, get_scorer):
    scorer = get_scorer("long")
    prompt = scorer.encoder.prompt.render(UNSEEN[0])
    expected = real_model.score_prompt(prompt, sorted(set(VERDICTS)))
    np.testing.assert_allclose(scorer.score(UNSEEN)[0], expected, rtol=0, atol=3e-4)


# The prefix


def test_prompts_share_a_prefix(length, get_scorer):
    scorer = get_scorer(length)
    assert shortcuts_of(scorer).shares_prefix
    with counting(scorer.model.get_input_embeddings()) as n_computed:
        scorer.score(UNSEEN)
    assert sum(n_computed) < len(list_prefix(scorer))


def test_no_row_copies_the_prefix(length, get_scorer):
    assert not shortcuts_of(get_scorer(length)).copies_prefix


def test_layers_attend_only_to_the_part_of_the_prefix_that_they_see(real_model, get_scorer):
    scorer = get_scorer("long")
    with counting_keys() as n_keys:
        scorer.score(UNSEEN[:1])
    n_prefix, config = len(list_prefix(scorer)), real_model.base.model.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    assert n_keys.count(n_prefix) == kinds.count("full_attention")
    assert len(n_keys) == len(kinds)
    assert all(n <= WINDOW for n in n_keys if n != n_prefix)


def test_only_the_characters_of_a_text_and_some_before_it_are_tokenised(length, get_scorer):
    assert tokenises_tails_alone(get_scorer(length), [*TEXTS, *UNSEEN])


def test_equal_texts_are_scored_once(get_scorer):
    scorer = get_scorer("short")
    n_positions = []
    for texts in (UNSEEN, UNSEEN * 3):
        with counting(scorer.model.get_input_embeddings()) as n_computed:
            scorer.score(texts)
        n_positions.append(sum(n_computed))
    assert n_positions[0] == n_positions[1]


def test_demonstrations_without_one_of_them_share_the_prefix_up_to_it(real_model):
    scorer = scorer_of(real_model.prompting(n_shots=4).fit(TEXTS, LABELS))
    scorer.score_demonstrations()
    with counting(scorer.model.get_input_embeddings()) as n_computed:
        scorer.score_demonstrations()
    assert sum(n_computed) < 4 * len(list_prefix(scorer)) / 2


def test_demonstrations_without_one_of_them_do_not_keep_texts_from_sharing_a_prefix(gemma3):
    scorer = scorer_of(gemma3.prompting(instruction=LONG_ADVICE).fit(TEXTS, LABELS))
    scorer.score_demonstrations()
    assert shortcuts_of(scorer).shares_prefix


# The tree of labels, and few outputs


def test_labels_that_share_a_beginning_take_one_row(length, get_scorer):
    assert shortcuts_of(get_scorer(length)).has_tree


def test_labels_of_one_token_add_no_token_to_a_text(get_scorer):
    scorer = get_scorer("short", LABELS)
    with counting(scorer.model.get_input_embeddings()) as n_computed:
        scorer.score(["x"])
    assert n_computed == [len(list_prompt(scorer, "x")) - len(list_prefix(scorer))]


def test_outputs_are_computed_only_where_they_are_read(length, get_scorer):
    scorer = get_scorer(length)
    with (
        counting(scorer.model.get_output_embeddings()) as n_logits,
        counting_distributions() as n_computed,
    ):
        scorer.score(UNSEEN)
    assert sum(n_computed) == len(UNSEEN) * count_positions_read(scorer)
    assert n_logits == []


def test_relative_scores_of_labels_of_one_token_take_no_sum_over_the_vocabulary(length, get_scorer):
    scorer = get_scorer(length, LABELS)
    with counting_distributions() as n_computed:
        scorer.score(UNSEEN, relative=True)
    assert n_computed == []


def test_the_last_layer_stops_at_the_positions_that_are_read(length, get_scorer):
    scorer = get_scorer(length)
    with counting(last_projection(scorer)) as n_computed:
        scorer.score(UNSEEN)
    assert sum(n_computed) == len(UNSEEN) * count_positions_read(scorer)


# Tuning


@pytest.fixture
def make_tuned(real_model, get_scorer):
    """Return a function that makes an adapter, its backpropagation and its examples."""

    def make(length):
        adapter = make_adapter(real_model.base.model, n_tuned=2)
        options = {"texts": TEXTS[:2], "labels": np.array([0, 1]), "n_tuned": 2, "n_epochs": 2}
        return adapter, *make_backpropagation(adapter, get_scorer(length).encoder, **options)

    return make


def test_tuning_shares_a_prefix_that_no_row_copies_and_replays_frozen_layers(length, make_tuned):
    _, backpropagate, examples = make_tuned(length)
    with backpropagate.prepared():
        assert shares_prefix_in_tuning(backpropagate, examples)
        assert replays_frozen_layers(backpropagate)


def test_gradients_of_tuning_are_those_of_full_prompts(make_tuned):
    adapter, backpropagate, examples = make_tuned("short")
    with backpropagate.prepared():
        backpropagate(examples)
    # The gradient of a large vocabulary's output layer cancels in sums, so float32 rounds visibly.
    assert_close(take_gradients(adapter), naive_gradients(adapter, examples), 5e-3)
