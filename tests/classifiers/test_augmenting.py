"""Copies of rows that ask for another label, and keep their own."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.classifiers.augmenting import add_attacked_copies
from instructclf.prompts.attacks import REHEARSALS
from tests.fixtures import LABELS, TEXTS

WORDS = (("bad", "awful"), ("fine",), ("good",))
CODES = np.array([0, 1, 2, 0])
ROWS = ["one", "two", "three", "four"]


def augment(n_copies, seed=0, weights=None):
    rng = np.random.RandomState(seed)
    return add_attacked_copies(ROWS, CODES, weights, WORDS, n_copies=n_copies, rng=rng)


def test_rows_come_first_and_copies_keep_their_labels():
    texts, codes, weights = augment(3)
    assert texts[:4] == ROWS
    assert codes.tolist() == CODES.tolist() * 4
    assert weights is None
    assert all(row in text for row, text in zip(ROWS * 4, texts, strict=True))


def test_every_copy_is_an_attack_that_asks_for_the_first_word_of_another_label():
    texts, codes, _ = augment(20)
    for text, code, row in zip(texts[4:], codes[4:].tolist(), ROWS * 20, strict=True):
        others = [words[0] for other, words in enumerate(WORDS) if other != code]
        attacked = {attack.apply(row, own) for attack in REHEARSALS.values() for own in others}
        assert text in attacked


def test_all_attacks_and_all_other_labels_are_drawn():
    texts = augment(100)[0][4:]
    for attack in REHEARSALS.values():
        assert any(text == attack.apply("one", own) for text in texts for own in ("fine", "good"))
    for words in ("bad", "fine", "good"):
        assert any(words in text for text in texts)


def test_copies_weigh_what_their_row_weighs():
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    assert augment(2, weights=weights)[2].tolist() == weights.tolist() * 3


def test_a_seed_decides_the_copies():
    assert augment(2, seed=1)[0] == augment(2, seed=1)[0]
    assert augment(2, seed=1)[0] != augment(2, seed=2)[0]


def test_without_copies_nothing_is_drawn():
    rng = np.random.RandomState(0)
    texts, codes, _ = add_attacked_copies(ROWS, CODES, None, WORDS, n_copies=0, rng=rng)
    assert texts == ROWS
    assert codes.tolist() == CODES.tolist()
    assert rng.randint(10**6) == np.random.RandomState(0).randint(10**6)


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")  # one epoch is few
def test_a_classifier_is_trained_on_rows_and_copies(make_tuning):
    plain = make_tuning(n_shots=4, max_epochs=1).fit(TEXTS, LABELS)
    attacked = make_tuning(n_shots=4, max_epochs=1, adversarial_augment=2).fit(TEXTS, LABELS)
    assert attacked.shots_.tolist() == plain.shots_.tolist()
    assert attacked.prompt_ == plain.prompt_
    differ = [not np.allclose(attacked.adapter_[name], own) for name, own in plain.adapter_.items()]
    assert any(differ)
    again = make_tuning(n_shots=4, max_epochs=1, adversarial_augment=2).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), attacked.predict_proba(TEXTS))


@pytest.mark.parametrize("wrong", [-1, 0.5, None])
def test_a_wrong_number_of_copies_is_an_error(wrong, make_tuning):
    with pytest.raises(InvalidParameterError, match="'adversarial_augment' parameter .* Got"):
        make_tuning(adversarial_augment=wrong).fit(TEXTS, LABELS)
