"""An instruction states the task, every label, and the definition of each label."""

from __future__ import annotations

import pytest

from instructclf.prompts import write_instruction


def test_every_label_is_stated():
    assert write_instruction(None, ["bad", "so so", "good"]) == (
        "Classify the input. Answer with exactly one of these labels: bad, so so, good."
    )


def test_the_task_is_in_the_users_words():
    assert write_instruction("Is the writer glad?\n", ["no", "yes"]) == (
        "Is the writer glad? Answer with exactly one of these labels: no, yes."
    )


def test_each_definition_has_a_line_in_the_order_of_the_labels():
    instruction = write_instruction(None, ["no", "yes"], [" Not glad. ", "Glad."])
    assert instruction.splitlines()[1:] == ["no: Not glad.", "yes: Glad."]


def test_an_empty_task_leaves_only_the_labels():
    expected = "Answer with exactly one of these labels: a, b."
    assert write_instruction("  ", ["a", "b"]) == expected


def test_braces_in_a_task_or_definition_are_data():
    instruction = write_instruction("{task}", ["a", "b"], ["{0}", "{input}"])
    assert instruction.startswith("{task} Answer")
    assert instruction.endswith("a: {0}\nb: {input}")


def test_fewer_definitions_than_labels_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        write_instruction(None, ["a", "b"], ["only one"])
