"""Labels as a tree: shared beginnings once, ends only where they tell labels apart."""

from __future__ import annotations

import random

import numpy as np
import pytest

from instructclf.engine.tokens.tries import (
    build_trie,
    few_labels,
    keep_labels,
    with_response_end,
)
from instructclf.exceptions import ScoringError

END = 9


def spelled(trie):
    """Return the tokens of each label, and check that each is read after the tokens before it."""
    path = {0: ()}
    for node in range(1, len(trie.tokens)):
        assert trie.parents[node] < node
        path[node] = (*path[trie.parents[node]], trie.tokens[node])
    labels = [[] for _ in range(trie.n_labels)]
    for label, node, token in trie.edges:
        assert path[node] == tuple(labels[label][: len(path[node])])
        labels[label].append(token)
    return labels


def test_labels_of_one_token_need_only_the_root():
    trie = build_trie([[1], [2], [3]], END)
    assert trie.tokens == (-1,)
    assert trie.edges == ((0, 0, 1), (1, 0, 2), (2, 0, 3))
    assert trie.paths == ((),)
    assert trie.depths == (0,)


def test_a_shared_beginning_is_one_node():
    trie = build_trie([[1, 2, 3], [1, 2, 4], [1, 5]], END)
    assert trie.tokens == (-1, 1, 2)
    assert trie.parents == (0, 0, 1)
    assert trie.depths == (0, 1, 2)
    assert trie.paths == ((1, 2),)
    assert spelled(trie) == [[1, 2, 3], [1, 2, 4], [1, 5]]


def test_paths_lead_to_every_node_without_children():
    trie = build_trie([[1, 2, 3], [1, 4, 5], [6, 7], [8]], END)
    assert [tuple(trie.tokens[node] for node in path) for path in trie.paths] == [
        (1, 2),
        (1, 4),
        (6,),
    ]


def test_a_node_sees_itself_and_its_ancestors():
    trie = build_trie([[1, 2, 3], [1, 4, 5]], END)
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
    np.testing.assert_array_equal(trie.ancestry, np.array(expected, dtype=bool))


def test_only_a_label_that_begins_another_gets_the_end_token():
    trie = build_trie([[1], [1, 2], [3]], END)
    assert spelled(trie) == [[1, END], [1, 2], [3]]


def test_the_beginning_of_a_beginning_gets_an_end_token_too():
    trie = build_trie([[1, 2, 3], [1, 2], [1]], END)
    assert spelled(trie) == [[1, 2, 3], [1, 2, END], [1, END]]


def test_no_end_token_is_required_if_no_label_needs_one():
    assert spelled(build_trie([[1, 2], [1, 3]], None)) == [[1, 2], [1, 3]]


def test_labels_that_need_a_missing_end_token_are_an_error():
    match = "One label is the beginning of another, .* no end token .* Set tokenizer.eos_token"
    with pytest.raises(ScoringError, match=match):
        build_trie([[1], [1, 2]], None)


def test_probabilities_of_any_labels_are_proper():
    """With one uniform distribution over tokens everywhere, probabilities never exceed one."""
    rng = random.Random(0)
    for _ in range(200):
        sequences = {
            tuple(rng.choices(range(3), k=rng.randint(1, 4))) for _ in range(rng.randint(2, 6))
        }
        labels = spelled(build_trie(sorted(sequences), END))
        assert [
            label[: len(tokens)] for label, tokens in zip(labels, sorted(sequences), strict=True)
        ] == [list(tokens) for tokens in sorted(sequences)]
        ends = [tuple(label) for label in labels]
        assert not any(one != other and other[: len(one)] == one for one in ends for other in ends)
        assert sum(4.0 ** -len(label) for label in labels) <= 1


def test_the_end_of_a_response_is_one_more_sequence_after_its_label():
    trie = build_trie([[1, 2], [1, 3]], END)
    ended = with_response_end(trie, 1, END)
    assert ended.n_labels == 3
    assert ended.edges[:-1] == trie.edges
    label, node, token = ended.edges[-1]
    assert (label, token) == (2, END)
    assert (ended.tokens[node], ended.tokens[ended.parents[node]]) == (3, 1)
    assert ended.depths[node] == 2


def test_the_end_after_a_label_of_one_token_is_read_after_that_token():
    ended = with_response_end(build_trie([[1], [2]], END), 0, END)
    assert ended.tokens == (-1, 1)
    assert ended.edges[-1] == (2, 1, END)


def test_a_label_that_ends_already_is_not_ended_twice():
    trie = build_trie([[1], [1, 2]], END)
    ended = with_response_end(trie, 0, END)
    assert ended.n_labels == 3
    assert ended.edges == trie.edges
    assert ended.tokens == trie.tokens


def test_a_label_is_ended_although_another_one_ends_already():
    ended = with_response_end(build_trie([[1], [1, 2]], END), 1, END)
    label, node, token = ended.edges[-1]
    assert (label, token) == (2, END)
    assert (ended.tokens[node], ended.depths[node]) == (2, 2)


@pytest.mark.parametrize("label", range(4))
def test_a_trie_of_one_label_has_only_its_path(label):
    trie = build_trie([[1, 2, 3], [1, 4], [1], [5]], END)
    path = keep_labels(trie, [label])
    assert spelled(path) == [spelled(trie)[label]]
    assert len(path.tokens) == len(spelled(path)[0])
    assert len(path.paths) == 1


def test_a_trie_of_some_labels_has_their_tokens_in_their_order():
    words = [[1, 2, 3], [1, 4], [7, 8], [1, 2, 5, 6]]
    kept = keep_labels(build_trie(words, END), [3, 0])
    assert kept.n_labels == 2
    assert spelled(kept) == [words[3], words[0]]
    assert len(kept.tokens) == 1 + len({(1,), (1, 2), (1, 2, 5)})


def test_a_kept_end_of_a_response_keeps_the_path_before_it():
    ended = with_response_end(build_trie([[1, 2], [3]], END), 0, END)
    kept = keep_labels(ended, [0, 2])
    ((_, node, token),) = [edge for edge in kept.edges if edge[0] == 1]
    assert (token, kept.depths[node]) == (END, 2)


def test_few_labels_are_the_longest_and_those_that_part_from_it_late_and_early():
    words = [[1, 2, 0], [1, 3, 4, 5, 0], [8, 9], [1, 3, 6, 0], [7], [1, 3, 4, 9, 2]]
    assert few_labels(build_trie(words, END)) == [1, 5, 2]


def test_few_labels_are_three_if_there_are_so_many():
    assert few_labels(build_trie([[1], [2]], END)) == [0, 1]
    assert few_labels(build_trie([[1], [2], [3], [4]], END)) == [0, 1, 2]
    assert few_labels(build_trie([[1], [2], [3], [4], [5, 6]], END)) == [4, 0, 1]


@pytest.mark.parametrize(
    "words",
    [
        [[7], [8], [9], [1, 2], [1, 3]],
        [[7], [8], [9], [1, 2, 3], [4]],
        [[7], [8], [9], [1, 2], [3, 4]],
        [[7], [8], [1], [1, 2]],
    ],
)
def test_few_labels_have_branches_if_all_labels_have_some(words):
    trie = build_trie(words, END)
    kept = keep_labels(trie, few_labels(trie))
    assert (len(kept.paths) > 1) == (len(trie.paths) > 1)


def test_in_groups_only_what_tells_their_labels_apart_is_compared():
    trie = build_trie([[1, 2, 3], [1, 2, 4], [5, 6], [5, 7, 8]], END, (2, 2))
    compared = [(label, token) for label, _, token in trie.compared]
    assert compared == [(0, 3), (1, 4), (2, 6), (3, 7), (3, 8)]
    partings = {node for label, node, token in trie.edges if token in {3, 4, 6, 7}}
    assert trie.normalised.isdisjoint(partings)
    assert len(trie.normalised) == 1  # before token 8, which no other label of the group has


def test_a_relative_trie_compares_all_labels_with_each_other_alone():
    trie = build_trie([[7, 1], [7, 2, 3], [7, 2, 4]], None)
    expected = build_trie([[7, 1], [7, 2, 3], [7, 2, 4]], None, groups=(3,))
    assert trie.relative.compared == expected.compared
    assert trie.relative.normalised == expected.normalised == {2}
    assert trie.relative is trie.relative
    assert expected.relative is expected


def test_without_groups_everything_is_compared():
    trie = build_trie([[1, 2, 3], [1, 2, 4]], END)
    assert trie.compared == trie.edges
    assert trie.normalised == {0, 1, 2}


def test_a_label_gets_an_end_only_where_it_begins_another_of_its_group():
    trie = build_trie([[1], [2], [1, 3], [1, 4]], END, (2, 2))
    assert spelled(trie) == [[1], [2], [1, 3], [1, 4]]
    together = build_trie([[1], [2], [1, 3], [1, 4]], END)
    assert spelled(together)[0] == [1, END]
