"""The methods by which a classifier shows what it reads and what it scores."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any

from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.showing.prompt import ShownPrompt, look_at_prompt
from instructclf.classifiers.showing.tokens import ShownTokens, look_at_tokens
from instructclf.engine.models.loading import BaseModel
from instructclf.engine.scoring.label_scoring import LabelScorer
from instructclf.exceptions import InvalidLabelsError
from instructclf.inputs.texts import check_texts


class PromptShowing(metaclass=ABCMeta):
    """Base of classifiers that can show the prompt of a text, and the tokens scored after it."""

    classes_: NDArray[Any]
    label_words_: tuple[tuple[str, ...], ...]

    @abstractmethod
    def _get_scorer(self) -> LabelScorer:
        """Return the scorer of ``fit``."""

    @abstractmethod
    def _get_base(self) -> BaseModel:
        """Return the base model."""

    def get_prompt(self, text: str, label: Any = None) -> str:
        """Return what the model reads for a text.

        Parameters
        ----------
        text : str
            The text.
        label : label or None, default=None
            With a label, the prompt ends with that label's words, which is what is scored.

        Returns
        -------
        str
            The prompt, with the text cut if the context is too short for it.

        Raises
        ------
        AttributeError
            If several seeds make several prompts: ask one of ``estimators_``.
        """
        check_is_fitted(self)
        (checked,) = check_texts([text])
        words = "" if label is None else self._words_of(label)
        encoder = self._get_scorer().encoder
        return encoder.prompt_for(checked).render(encoder.shorten(checked), words)

    def show_prompt(self, text: str, label: Any = None) -> ShownPrompt:
        """Show the prompt of a text as the model reads it, every part named.

        Parameters
        ----------
        text : str
            The text.
        label : label or None, default=None
            With a label, the prompt ends with that label's words, which is what is scored.

        Returns
        -------
        ShownPrompt
            Instruction, definitions of labels, shots with their answers, text, cue and label. In a
            notebook it is coloured; ``print`` writes it line by line. It says where a text was cut.

        See Also
        --------
        get_prompt : The same as a plain string.
        show_tokens : The tokens that are scored after it.
        """
        check_is_fitted(self)
        (checked,) = check_texts([text])
        words = "" if label is None else self._words_of(label)
        return look_at_prompt(self._get_scorer().encoder, checked, words)

    def show_tokens(self, text: str) -> ShownTokens:
        """Show the tokens that are scored for each label after the prompt of a text.

        Parameters
        ----------
        text : str
            The text.

        Returns
        -------
        ShownTokens
            A table with the id, the characters and the log-probability of each token. The sum for a
            label is its entry of ``label_log_likelihood``; where a label has several answers, each
            has a sum, and their likelihoods add up. ``print`` writes the table as text.

        See Also
        --------
        show_prompt : The prompt that comes before them.
        """
        check_is_fitted(self)
        (checked,) = check_texts([text])
        labels = zip(self.classes_.tolist(), self.label_words_, strict=True)
        answers = [(label, answer) for label, answers in labels for answer in answers]
        return look_at_tokens(self._get_scorer(), self._get_base().tokenizer, answers, checked)

    def _words_of(self, label: Any) -> str:
        for known, answers in zip(self.classes_.tolist(), self.label_words_, strict=True):
            if known == label:
                return answers[0]
        msg = f"There is no label {label!r}. The classes are {self.classes_.tolist()!r}."
        raise InvalidLabelsError(msg)
