"""A language model → the approaches to a task that are worth comparing."""

from __future__ import annotations

from typing import Any

from instructclf.classifiers.instruction_tuning import InstructionTunedClassifier
from instructclf.classifiers.prompting import PromptClassifier
from instructclf.classifiers.wrapping.bag_of_words import BagOfWordsClassifier


def list_approaches(model: Any = "bundled", **shared: Any) -> list[tuple[str, Any]]:
    """Return the approaches to a task: prompting, tuning, and a linear classifier on words.

    Parameters
    ----------
    model : str, path, (model, tokenizer) or LanguageModel, default="bundled"
        The language model that is prompted and tuned.
    **shared : object
        Parameters that `PromptClassifier` and `InstructionTunedClassifier` have in common, such as
        ``label_definitions``, ``model_options`` or ``random_state``.

    Returns
    -------
    list of (str, classifier)
        For the ``estimators`` of `BlendedClassifier`: ``"prompting"``, ``"tuning"`` and
        ``"words"``, a `BagOfWordsClassifier`. Remove those that you do not want to wait for, and
        add others.

    Examples
    --------
    >>> from instructclf import list_approaches
    >>> [name for name, _ in list_approaches(random_state=0)]
    ['prompting', 'tuning', 'words']
    """
    return [
        ("prompting", PromptClassifier(model, **shared)),
        ("tuning", InstructionTunedClassifier(model, **shared)),
        ("words", BagOfWordsClassifier(random_state=shared.get("random_state"))),
    ]
