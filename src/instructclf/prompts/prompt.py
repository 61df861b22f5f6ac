"""Template, instruction, demonstrations → prompt of each text: everything but the text is fixed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from instructclf.prompts.neutralising import SPACE, neutralise
from instructclf.prompts.parts import PromptPart
from instructclf.prompts.template import PromptTemplate


@dataclass(frozen=True)
class Prompt:
    """What a fitted classifier says to the model, waiting for a text.

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
        Which of the demonstrations were cut in their middle, so that it can be shown.
    definitions : str, default=""
        The end of ``instruction`` that says what the labels mean, so that it can be shown apart.
    breaker : str, default=" "
        What is put into markers and special tokens to break them up.
    """

    template: PromptTemplate
    instruction: str
    demonstrations: tuple[tuple[str, str], ...] = ()
    control_strings: tuple[str, ...] = ()
    cut_demonstrations: tuple[int, ...] = ()
    definitions: str = ""
    breaker: str = SPACE

    def render(self, text: str, response: str = "") -> str:
        """Return what the model reads for a text.

        Parameters
        ----------
        text : str
            The text.
        response : str, default=""
            What the model answers. Empty, the prompt ends where it begins to.

        Returns
        -------
        str
            The prompt, up to and including the response.
        """
        return self.beginning + self.ending(text, response)

    def ending(self, text: str, response: str = "") -> str:
        """Return what comes after the part that all prompts begin with.

        Parameters
        ----------
        text : str
            The text.
        response : str, default=""
            What the model answers.

        Returns
        -------
        str
            The text, what stands between it and the response, and the response.
        """
        return "".join([self.as_data(text), self._frame[1], response])

    def parts(self, text: str, response: str = "") -> list[PromptPart]:
        """Return the prompt in parts, each with what it is.

        Parameters
        ----------
        text : str
            The text.
        response : str, default=""
            What the model answers.

        Returns
        -------
        list of PromptPart
            Joined, they are what ``render`` returns. Some may be empty.
        """
        solved = [(self.as_data(x), y) for x, y in self.demonstrations]
        pieces = self.template.pieces(self.as_data(self.instruction), solved)
        sources = iter([self.instruction, *(x for x, _ in self.demonstrations)])
        parts = [
            PromptPart(role, own, next(sources) if role in {"instruction", "shot"} else own)
            for role, own in pieces
        ]
        parts[1:2] = self._part_definitions(parts[1])
        cue = self.template.cue
        return [
            *parts,
            PromptPart("text", self.as_data(text), text),
            PromptPart("cue", cue, cue),
            PromptPart("label", response, response),
        ]

    def _part_definitions(self, instruction: PromptPart) -> list[PromptPart]:
        """Split the instruction before the definitions of labels, if it has any."""
        if not self.definitions or not self.instruction.endswith(self.definitions):
            return [instruction]
        task, defined = instruction.split(len(self.instruction) - len(self.definitions))
        return [task, replace(defined, role="definitions")]

    @property
    def beginning(self) -> str:
        """What the prompts of all texts begin with: everything before the text."""
        return self._frame[0]

    @cached_property
    def _frame(self) -> tuple[str, str]:
        solved = [(self.as_data(x), y) for x, y in self.demonstrations]
        return self.template.frame(self.as_data(self.instruction), solved)

    def with_demonstrations(self, demonstrations: tuple[tuple[str, str], ...]) -> Prompt:
        """Return this prompt with other solved examples.

        Parameters
        ----------
        demonstrations : tuple of (str, str)
            Pairs of a text and its label words.

        Returns
        -------
        Prompt
            A new prompt; this one stays as it is.
        """
        return replace(self, demonstrations=demonstrations, cut_demonstrations=())

    def as_data(self, text: str) -> str:
        """Break up whatever in a text could be read as template or control token.

        Parameters
        ----------
        text : str
            The text as it came.

        Returns
        -------
        str
            The text as it stands in the prompt.
        """
        return neutralise(text, self.template.markers, self.control_strings, breaker=self.breaker)
