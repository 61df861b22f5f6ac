"""Task, labels, definitions → instruction: what the model is asked, with every label stated."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_TASK = "Classify the input."


def write_instruction(
    task: str | None, label_words: Sequence[str], definitions: Sequence[str] | None = None
) -> str:
    """State the task, then the labels to choose from, then what each label means.

    Parameters
    ----------
    task : str or None
        The task in the user's words. ``None`` takes a sentence that fits any classification.
    label_words : sequence of str
        The words the model answers with, one entry a class.
    definitions : sequence of str or None, default=None
        What each label means, in the order of ``label_words``.

    Returns
    -------
    str
        The instruction.

    Examples
    --------
    >>> print(write_instruction(None, ["bad", "good"], ["The writer regrets it.", "They do not."]))
    Classify the input. Answer with exactly one of these labels: bad, good.
    bad: The writer regrets it.
    good: They do not.
    """
    stated = f"Answer with exactly one of these labels: {', '.join(label_words)}."
    lines = [f"{(DEFAULT_TASK if task is None else task).strip()} {stated}".strip()]
    if definitions is not None:
        lines.append(define_labels(label_words, definitions))
    return "\n".join(lines)


def define_labels(label_words: Sequence[str], definitions: Sequence[str]) -> str:
    """Say what each label means: the last lines of an instruction.

    Parameters
    ----------
    label_words : sequence of str
        The words the model answers with, one entry a class.
    definitions : sequence of str
        What each label means, in the order of ``label_words``.

    Returns
    -------
    str
        One line for each label.
    """
    pairs = zip(label_words, definitions, strict=True)
    return "\n".join(f"{words}: {definition.strip()}" for words, definition in pairs)
