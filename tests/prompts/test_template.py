"""A template is fixed text, and leaves everything that is filled in unchanged."""

from __future__ import annotations

import dataclasses

import pytest

from instructclf.exceptions import InstructClfError, InvalidTemplateError
from instructclf.prompts import PromptTemplate

REVIEW = PromptTemplate("{instruction}\n\nReview: {input}\nVerdict: {response}")


def test_a_prompt_ends_with_the_cue():
    assert REVIEW.render("Good or bad?", "Fine.") == "Good or bad?\n\nReview: Fine.\nVerdict: "


def test_a_response_goes_right_after_the_cue():
    whole = REVIEW.render("Good or bad?", "Fine.", response="good")
    assert whole == REVIEW.render("Good or bad?", "Fine.") + "good"


def test_demonstrations_come_between_instruction_and_input():
    prompt = REVIEW.render("Good or bad?", "Fine.", [("Meh.", "bad"), ("Wow!", "good")])
    assert prompt == (
        "Good or bad?\n\nReview: Meh.\nVerdict: bad\n\nReview: Wow!\nVerdict: good"
        "\n\nReview: Fine.\nVerdict: "
    )


def test_an_empty_text_is_an_input():
    assert REVIEW.render("Good or bad?", "") == "Good or bad?\n\nReview: \nVerdict: "


def test_cue_and_separator_of_demonstrations_can_differ_from_those_of_the_input():
    template = PromptTemplate(
        "<user>{instruction} {input}</user><bot><think></think>{response}",
        demonstration_cue="</user><bot>",
        demonstration_separator="</bot><user>",
    )
    assert template.render("Task", "last", [("first", "yes")]) == (
        "<user>Task first</user><bot>yes</bot><user>last</user><bot><think></think>"
    )


def test_an_empty_cue_of_demonstrations_differs_from_none():
    template = PromptTemplate("{instruction}|{input}={response}", demonstration_cue="")
    assert template.render("T", "b", [("a", "x")]) == "T|ax|b="


@pytest.mark.parametrize(
    "data", ["{response}", "{input}", "{instruction}", "{0}", "{", "}", "%s", r"\1", "{{}}"]
)
def test_placeholders_inside_a_text_are_data(data):
    prompt = REVIEW.render(f"{data}i", f"{data}x", [(f"{data}d", f"{data}y")], response=f"{data}r")
    assert prompt == (
        f"{data}i\n\nReview: {data}d\nVerdict: {data}y\n\nReview: {data}x\nVerdict: {data}r"
    )


def test_other_braces_of_a_template_are_literal():
    template = PromptTemplate('{{"task": "{instruction}", {x}: "{input}"}} = {response}')
    assert template.render("T", "a") == '{{"task": "T", {x}: "a"}} = '


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("{instruction} {response}", r"Got {instruction}, {response} in"),
        ("{input} {response}", r"Got {input}, {response} in"),
        ("{instruction} {input}", r"Got {instruction}, {input} in"),
        ("{input} {instruction} {response}", r"Got {input}, {instruction}, {response} in"),
        (
            "{instruction} {input} {input} {response}",
            r"Got {instruction}, {input}, {input}, {response} in",
        ),
        ("nothing at all", "Got none in 'nothing at all'"),
        ("", "Got none in ''"),
    ],
    ids=["no input", "no instruction", "no response", "out of order", "repeated", "none", "empty"],
)
def test_placeholders_that_do_not_fit_are_an_error(text, got):
    match = rf"needs the placeholders {{instruction}}, {{input}}, {{response}}, each once.*{got}"
    with pytest.raises(InvalidTemplateError, match=match):
        PromptTemplate(text)


def test_text_after_the_response_is_an_error():
    with pytest.raises(InvalidTemplateError, match=r"ends with {response}\. Got '\\n' after it"):
        PromptTemplate("{instruction}\n{input}\n{response}\n")


def test_the_text_without_input_is_checked_too():
    with pytest.raises(InvalidTemplateError, match=r"needs the placeholders {instruction}, {resp"):
        PromptTemplate("{instruction}{input}{response}", "{instruction}{input}{response}")


def test_rendering_without_an_input_takes_the_text_without_input():
    template = PromptTemplate("{instruction} {input} {response}", "{instruction}! {response}")
    assert template.render("Speak", response="now") == "Speak! now"


def test_rendering_without_an_input_needs_a_text_without_input():
    with pytest.raises(InvalidTemplateError, match="no form without an input.*text_without_input"):
        REVIEW.render("Speak")


def test_markers_are_the_fixed_lines_around_placeholders():
    assert REVIEW.markers == ("Review:", "Verdict:")


def test_only_the_last_lines_of_the_preamble_are_markers():
    template = PromptTemplate("A preamble.\n\n# Task:\n{instruction}\n# Text:\n{input}\n{response}")
    assert template.markers == ("# Task:", "# Text:")


def test_the_cues_of_demonstrations_are_markers_too():
    template = PromptTemplate(
        "{instruction} {input}[cue]{response}",
        demonstration_cue="[solved]",
        demonstration_separator="[next]\n",
    )
    assert template.markers == ("[cue]", "[solved]", "[next]")


def test_a_role_in_the_middle_of_a_line_keeps_the_space_before_it():
    template = PromptTemplate("{instruction}\nUSER: {input} ASSISTANT: {response}")
    assert template.markers == ("USER:", " ASSISTANT:")


def test_ordinary_words_in_a_line_are_not_a_role():
    assert PromptTemplate("{instruction}\n{input} It was {response}").markers == ("It was",)


def test_tags_anywhere_are_markers():
    template = PromptTemplate(
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n{instruction} {input} [/INST]{response}"
    )
    assert template.markers == ("[/INST]", "<s>", "[INST]", "<<SYS>>", "<</SYS>>")


def test_templates_compare_by_value_and_are_frozen():
    assert PromptTemplate(REVIEW.text) == REVIEW
    assert hash(PromptTemplate(REVIEW.text)) == hash(REVIEW)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'text'"):
        REVIEW.text = "another"


def test_the_error_is_a_value_error_and_an_error_of_this_package():
    assert issubclass(InvalidTemplateError, ValueError)
    assert issubclass(InvalidTemplateError, InstructClfError)
