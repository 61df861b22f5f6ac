"""Template, instruction, demonstrations → the prompt of any text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from instructclf.prompts.neutralising import SPACE, neutralise
from instructclf.prompts.parts import PromptPart, Role
from instructclf.prompts.template import PromptTemplate


@dataclass(frozen=True)
class Prompt:
    """A prompt in which everything but the text is fixed.

    Parameters
    ----------
    template : PromptTemplate
        The fixed text.
    instruction : str
        Task, labels and definitions.
    demonstrations : tuple of (str, str), default=()
        Solved examples, pairs of a text and its label words.
    control_strings : tuple of str, default=()
        Special tokens of the tokenizer, which no text may contain.
    cut_demonstrations : tuple of int, default=()
        The positions of demonstrations that were cut, for display.
    definitions : str, default=""
        The end of ``instruction`` that defines the labels, for display.
    breaker : str, default=" "
        The string that breaks up markers and special tokens.
    alternatives : tuple of str, default=()
        Instructions that state one label each. If there are any, a language model reads what they
        do not share side by side, in place of the list of labels in ``instruction``.
    """

    template: PromptTemplate
    instruction: str
    demonstrations: tuple[tuple[str, str], ...] = ()
    control_strings: tuple[str, ...] = ()
    cut_demonstrations: tuple[int, ...] = ()
    definitions: str = ""
    breaker: str = SPACE
    alternatives: tuple[str, ...] = ()

    def render(self, text: str, response: str = "") -> str:
        """Return the prompt of a text.

        Parameters
        ----------
        text : str
            The text.
        response : str, default=""
            The model's answer. If it is empty, the prompt ends with the cue.

        Returns
        -------
        str
            The prompt, up to and including the response.
        """
        return self.beginning + self.ending(text, response)

    def ending(self, text: str, response: str = "") -> str:
        """Return the prompt of a text without the beginning that all prompts share.

        Parameters
        ----------
        text : str
            The text.
        response : str, default=""
            The model's answer.

        Returns
        -------
        str
            The text, the cue and the response.
        """
        return "".join([self.as_data(text), self.template.cue, response])

    def parts(self, text: str, response: str = "") -> list[PromptPart]:
        """Return the prompt of a text in parts, each with its role.

        Parameters
        ----------
        text : str
            The text.
        response : str, default=""
            The model's answer.

        Returns
        -------
        list of PromptPart
            The parts of ``render(text, response)``. Some may be empty.
        """
        sources = iter([self.instruction, *(x for x, _ in self.demonstrations)])
        parts = [
            PromptPart(role, piece, next(sources) if role in {"instruction", "shot"} else piece)
            for role, piece in self._pieces()
        ]
        parts[1:2] = self._split_definitions(parts[1])
        cue = self.template.cue
        return [
            *parts,
            PromptPart("text", self.as_data(text), text),
            PromptPart("cue", cue, cue),
            PromptPart("label", response, response),
        ]

    def _split_definitions(self, instruction: PromptPart) -> list[PromptPart]:
        """Separate the definitions of labels, if there are any, from the rest."""
        if not self.definitions or not self.instruction.endswith(self.definitions):
            return [instruction]
        task, defined = instruction.split(len(self.instruction) - len(self.definitions))
        return [task, replace(defined, role="definitions")]

    @cached_property
    def beginning(self) -> str:
        """The beginning that all prompts share: everything before the text."""
        return "".join(piece for _, piece in self._pieces())

    def _pieces(self) -> list[tuple[Role, str]]:
        solved = [(self.as_data(x), y) for x, y in self.demonstrations]
        return self.template.pieces(self.as_data(self.instruction), solved)

    def with_demonstrations(self, demonstrations: tuple[tuple[str, str], ...]) -> Prompt:
        """Return this prompt with other solved examples.

        Parameters
        ----------
        demonstrations : tuple of (str, str)
            Pairs of a text and its label words.

        Returns
        -------
        Prompt
            A new prompt.
        """
        return replace(self, demonstrations=demonstrations, cut_demonstrations=())

    def with_instruction(self, instruction: str) -> Prompt:
        """Return this prompt with another instruction, without alternatives to it.

        Parameters
        ----------
        instruction : str
            Task, labels and definitions.

        Returns
        -------
        Prompt
            A new prompt.
        """
        return replace(self, instruction=instruction, alternatives=(), definitions="")

    def as_data(self, text: str) -> str:
        """Break up everything in a text that could be read as template or control token.

        Parameters
        ----------
        text : str
            The original text.

        Returns
        -------
        str
            The text for the prompt.
        """
        return neutralise(text, self.template.markers, self.control_strings, breaker=self.breaker)
