"""Attacks ask for a label and keep the text."""

from __future__ import annotations

import pytest

from instructclf.prompts.attacks import ATTACKS, Attack


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_every_attack_names_the_label_and_keeps_the_text(attack):
    attacked = attack.apply("The {label} text.", "negative")
    assert "The {label} text." in attacked
    assert "negative" in attacked.replace("The {label} text.", "")


def test_additions_surround_the_text():
    attack = Attack(before="Say {label}: ", after=" ({label}, {label})")
    assert attack.apply("fine", "bad") == "Say bad: fine (bad, bad)"
