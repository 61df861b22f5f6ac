"""Template name → template: the exact texts of the Alpaca family.

``alpaca_legacy`` is the prompt of Taori et al., "Stanford Alpaca" (2023), which ends with the
response marker. The alpaca-lora project adds a newline (``alpaca``), and has a form without the
preamble (``alpaca_short``).
"""

from __future__ import annotations

from instructclf.exceptions import InvalidTemplateError
from instructclf.inputs.spelling import did_you_mean
from instructclf.prompts.template import PromptTemplate

_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n"
)
_BODY = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
_BODY_WITHOUT_INPUT = "### Instruction:\n{instruction}\n\n### Response:"

CHAT = "chat"
"""The name of the tokenizer's chat template, which only the tokenizer can render."""

TEMPLATES = {
    "alpaca": PromptTemplate(
        f"{_WITH_INPUT}{_BODY}\n{{response}}",
        f"{_WITHOUT_INPUT}{_BODY_WITHOUT_INPUT}\n{{response}}",
    ),
    "alpaca_legacy": PromptTemplate(
        f"{_WITH_INPUT}{_BODY}{{response}}",
        f"{_WITHOUT_INPUT}{_BODY_WITHOUT_INPUT}{{response}}",
    ),
    "alpaca_short": PromptTemplate(
        f"{_BODY}\n{{response}}",
        f"{_BODY_WITHOUT_INPUT}\n{{response}}",
    ),
}


def get_template(template: str | PromptTemplate) -> PromptTemplate:
    """Return the template with this name, or the given template itself.

    Parameters
    ----------
    template : str or PromptTemplate
        A name, or a template, which is returned unchanged.

    Returns
    -------
    PromptTemplate
        The template.

    Raises
    ------
    InvalidTemplateError
        If there is no template with this name.
    """
    if isinstance(template, PromptTemplate):
        return template
    try:
        return TEMPLATES[template]
    except (KeyError, TypeError):
        known = ", ".join(repr(name) for name in (*TEMPLATES, CHAT))
        msg = (
            f"The 'template' parameter must be one of {known} or a PromptTemplate. "
            f"Got {template!r} instead.{did_you_mean([template], [*TEMPLATES, CHAT])}"
        )
        if isinstance(template, str) and "{" in template:
            msg += f" To use this text as a template, wrap it: {PromptTemplate(template)!r}."
        raise InvalidTemplateError(msg) from None
