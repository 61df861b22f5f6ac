"""Texts → prompts. Plain Python: no tensor, no tokenizer."""

from instructclf.prompts.instructions import define_labels, write_instruction
from instructclf.prompts.named import CHAT, TEMPLATES, get_template
from instructclf.prompts.neutralising import neutralise
from instructclf.prompts.parts import PromptPart
from instructclf.prompts.prompt import Prompt
from instructclf.prompts.template import PromptTemplate

__all__ = [
    "CHAT",
    "TEMPLATES",
    "Prompt",
    "PromptPart",
    "PromptTemplate",
    "define_labels",
    "get_template",
    "neutralise",
    "write_instruction",
]
