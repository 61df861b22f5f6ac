"""Template name → template: the Alpaca family, to the letter.

Sources: Taori et al., "Stanford Alpaca" (2023), whose prompt ends with the response marker and no
newline (``alpaca_legacy``); the alpaca-lora project, which adds that newline (``alpaca``) and
has a form without the preamble (``alpaca_short``).
"""

from __future__ import annotations

from instructclf.exceptions import InvalidTemplateError
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
"""The name that stands for the tokenizer's own chat template, which only a tokenizer can render."""

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
    """Return the template of this name, or the template itself.

    Parameters
    ----------
    template : str or PromptTemplate
        A name, or a template, which comes back unchanged.

    Returns
    -------
    PromptTemplate
        The template.

    Raises
    ------
    InvalidTemplateError
        If no template has this name.
    """
    if isinstance(template, PromptTemplate):
        return template
    try:
        return TEMPLATES[template]
    except (KeyError, TypeError):
        known = ", ".join(repr(name) for name in (*TEMPLATES, CHAT))
        msg = (
            f"The 'template' parameter must be one of {known} or a PromptTemplate. "
            f"Got {template!r} instead."
        )
        if isinstance(template, str) and "{" in template:
            msg += f" To use this text as a template, wrap it: {PromptTemplate(template)!r}."
        raise InvalidTemplateError(msg) from None
