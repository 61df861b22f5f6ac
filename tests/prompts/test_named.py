"""The named templates are exactly the published ones."""

from __future__ import annotations

import pytest

from instructclf.exceptions import InvalidTemplateError
from instructclf.prompts import CHAT, TEMPLATES, PromptTemplate, get_template

WITH_INPUT = """\
Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.

### Instruction:
Name the colour.

### Input:
A lemon.

### Response:"""

WITHOUT_INPUT = """\
Below is an instruction that describes a task. Write a response that appropriately completes the \
request.

### Instruction:
Name a colour.

### Response:"""

SHORT_WITH_INPUT = """\
### Instruction:
Name the colour.

### Input:
A lemon.

### Response:
"""

SHORT_WITHOUT_INPUT = """\
### Instruction:
Name a colour.

### Response:
"""

WITH_DEMONSTRATIONS = """\
### Instruction:
Name the colour.

### Input:
Grass.

### Response:
green

### Input:
A lemon.

### Response:
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alpaca", f"{WITH_INPUT}\n"),
        ("alpaca_legacy", WITH_INPUT),
        ("alpaca_short", SHORT_WITH_INPUT),
    ],
)
def test_an_instruction_with_an_input(name, expected):
    assert get_template(name).render("Name the colour.", "A lemon.") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alpaca", f"{WITHOUT_INPUT}\n"),
        ("alpaca_legacy", WITHOUT_INPUT),
        ("alpaca_short", SHORT_WITHOUT_INPUT),
    ],
)
def test_an_instruction_without_an_input(name, expected):
    assert get_template(name).render("Name a colour.") == expected


def test_solved_examples_are_inputs_with_responses():
    prompt = get_template("alpaca_short").render(
        "Name the colour.", "A lemon.", [("Grass.", "green")]
    )
    assert prompt == WITH_DEMONSTRATIONS


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_headings_are_markers(name):
    assert TEMPLATES[name].markers == ("### Instruction:", "### Input:", "### Response:")


def test_a_template_is_returned_unchanged():
    template = PromptTemplate("{instruction}{input}{response}")
    assert get_template(template) is template


@pytest.mark.parametrize("unknown", ["alpacca", "", "Alpaca", 3, None, ["alpaca"]], ids=repr)
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(unknown):
    match = r"must be one of 'alpaca', 'alpaca_legacy', 'alpaca_short', 'chat' or a PromptTemplate"
    with pytest.raises(InvalidTemplateError, match=match) as caught:
        get_template(unknown)
    assert f"Got {unknown!r} instead." in str(caught.value)
    is_misspelt = unknown in ("alpacca", "Alpaca", ["alpaca"])
    assert ("Did you mean 'alpaca' instead of" in str(caught.value)) == is_misspelt


def test_the_chat_template_is_not_among_the_named_templates():
    assert CHAT not in TEMPLATES
