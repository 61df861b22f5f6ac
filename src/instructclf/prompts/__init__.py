"""Texts → prompts. Plain Python: no tensor, no tokenizer."""

from instructclf.prompts.instructions import write_instruction
from instructclf.prompts.named import CHAT, TEMPLATES, get_template
from instructclf.prompts.neutralising import neutralise
from instructclf.prompts.prompt import Prompt
from instructclf.prompts.template import PromptTemplate

__all__ = [
    "CHAT",
    "TEMPLATES",
    "Prompt",
    "PromptTemplate",
    "get_template",
    "neutralise",
    "write_instruction",
]
