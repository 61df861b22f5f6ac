"""Task, labels, definitions → the instruction, which names every label."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_TASK = "Classify the input."
DEFAULT_TASK_OF_SEVERAL = "Answer each question about the input, one a line."


def write_instruction(
    task: str | None, label_words: Sequence[str], definitions: Sequence[str] | None = None
) -> str:
    """State the task, then the labels to choose from, then the definition of each label.

    Parameters
    ----------
    task : str or None
        The task in the user's words. ``None`` takes a sentence that fits any classification.
    label_words : sequence of str
        The words the model answers with, one entry per class.
    definitions : sequence of str or None, default=None
        A definition of each label, in the order of ``label_words``.

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
    choice = f"Answer with exactly one of these labels: {', '.join(label_words)}."
    lines = [f"{(DEFAULT_TASK if task is None else task).strip()} {choice}".strip()]
    if definitions is not None:
        lines.append(define_labels(label_words, definitions))
    return "\n".join(lines)


def define_labels(label_words: Sequence[str], definitions: Sequence[str]) -> str:
    """Write the last lines of an instruction, which define the labels.

    Parameters
    ----------
    label_words : sequence of str
        The words the model answers with, one entry per class.
    definitions : sequence of str
        A definition of each label, in the order of ``label_words``.

    Returns
    -------
    str
        One line per label.
    """
    pairs = zip(label_words, definitions, strict=True)
    return "\n".join(f"{words}: {definition.strip()}" for words, definition in pairs)


def write_questions(
    task: str | None,
    names: Sequence[str],
    label_words: Sequence[Sequence[str]],
    definitions: Sequence[Sequence[str | None] | None],
) -> str:
    """State the task, then each question with its labels, then the definitions of these.

    Parameters
    ----------
    task : str or None
        The task in the user's words. ``None`` takes a sentence that fits any questions.
    names : sequence of str
        What the questions are called.
    label_words : sequence of sequence of str
        The words that the model answers each question with, one entry per class.
    definitions : sequence of (sequence of (str or None) or None)
        The definitions of each question's labels, ``None`` where there is none.

    Returns
    -------
    str
        The instruction.

    Examples
    --------
    >>> sentences = [None, "The writer wants it back."]
    >>> print(write_questions(None, ["urgent", "refund"], [["no", "yes"]] * 2, [None, sentences]))
    Answer each question about the input, one a line.
    urgent: no, yes
    refund: no, yes
    - yes: The writer wants it back.
    """
    lines = [(DEFAULT_TASK_OF_SEVERAL if task is None else task).strip()]
    for name, words, defined in zip(names, label_words, definitions, strict=True):
        lines.append(f"{name}: {', '.join(words)}")
        pairs = zip(words, defined or [None] * len(words), strict=True)
        lines += [f"- {word}: {sentence.strip()}" for word, sentence in pairs if sentence]
    return "\n".join(lines)
