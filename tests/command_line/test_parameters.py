"""NAME=VALUE is converted to the types that the parameters of estimators accept."""

from __future__ import annotations

import pytest

from instructclf.command_line.estimators import CLASSES
from instructclf.command_line.parameters import has_parameter, read_parameters


@pytest.mark.parametrize(
    ("kind", "written", "expected"),
    [
        ("prompting", "n_shots=8", 8),
        ("prompting", "n_shots=none", None),
        ("prompting", "calibration=None", None),
        ("prompting", "calibration=auto", "auto"),
        ("prompting", "instruction=12", "12"),
        ("prompting", "instruction=a = b", "a = b"),
        ("prompting", 'verbalizer={"a": ["x", "y"]}', {"a": ["x", "y"]}),
        ("prompting", "model_options__dtype=bfloat16", "bfloat16"),
        ("prompting", "model_options__max_batch_tokens=auto", "auto"),
        ("prompting", "model_options__max_batch_tokens=64", 64),
        ("tuning", "model_options__max_length=none", None),
        ("tuning", "learning_rate=1e-3", 1e-3),
        ("tuning", "adapter__rank=8", 8),
        ("tuning", "adapter__dropout=.5", 0.5),
        ("tuning", 'adapter__target_modules=["q_proj"]', ["q_proj"]),
        ("tuning", "adapter__target_modules=q_proj", "q_proj"),
        ("tuning", "training_options__tol=0", 0),
        ("tuning", "training_options__gradient_checkpointing=true", True),
        ("tuning", "training_options__warm_start=False", False),
        ("tuning", 'class_weight={"a": 2}', {"a": 2}),
    ],
)
def test_values_are_converted_to_the_types_of_the_parameters(kind, written, expected):
    name, _, text = written.partition("=")
    value = read_parameters(CLASSES[kind], [(name, text)])[name]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("approach", "name", "expected"),
    [
        ("prompting", "n_shots", True),
        ("prompting", "model_options__device", True),
        ("prompting", "adapter__rank", False),
        ("tuning", "adapter__rank", True),
        ("tuning", "training_options__tol", True),
        ("tuning", "training_options__rank", False),
        ("tuning", "rank", False),
    ],
)
def test_nested_names_belong_to_the_classes_that_have_them(approach, name, expected):
    assert has_parameter(CLASSES[approach], name) is expected


def test_the_last_value_of_a_name_counts():
    assignments = [("n_shots", "4"), ("n_shots", "8")]
    assert read_parameters(CLASSES["prompting"], assignments) == {"n_shots": 8}
