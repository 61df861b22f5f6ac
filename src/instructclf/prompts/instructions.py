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


def write_questions(task: str | None, stated: Sequence[str]) -> str:
    """State the task, then each question, or the labels to list.

    Parameters
    ----------
    task : str or None
        The task in the user's words. ``None`` takes a sentence that fits any questions.
    stated : sequence of str
        What `state_answers` and `state_list` say of each line of the response.

    Returns
    -------
    str
        The instruction.

    Examples
    --------
    >>> team = state_answers("team", ["billing", "it"], [None, "Computers."])
    >>> labels = state_list("labels", ["refund", "late"], ["Money back.", None], "none")
    >>> print(write_questions(None, [team, labels]))
    Answer each question about the input, one a line.
    team: billing, it
    - it: Computers.
    labels: all that fit of refund, late, or none
    - refund: Money back.
    """
    return "\n".join([(DEFAULT_TASK_OF_SEVERAL if task is None else task).strip(), *stated])


def write_list(task: str | None, stated: str) -> str:
    """State the task, then the labels of which all that fit are the answer.

    Parameters
    ----------
    task : str or None
        The task in the user's words. ``None`` takes a sentence that fits any classification.
    stated : str
        What `state_list` says of the labels.

    Returns
    -------
    str
        The instruction.

    Examples
    --------
    >>> print(write_list(None, state_list(None, ["late", "refund"], [None, None], "none")))
    Classify the input. Answer with all of these labels that fit, or none: late, refund.
    """
    return f"{(DEFAULT_TASK if task is None else task).strip()} {stated}".strip()


def state_answers(name: str, words: Sequence[str], definitions: Sequence[str | None] | None) -> str:
    """Return the line about a question, and below it the definitions of its labels.

    Parameters
    ----------
    name : str
        What the question is called.
    words : sequence of str
        The words that the model answers with, one entry per class.
    definitions : sequence of (str or None) or None
        The definition of each label, ``None`` where there is none.

    Returns
    -------
    str
        The lines.
    """
    return "\n".join([f"{name}: {', '.join(words)}", *_define(words, definitions)])


def state_list(
    name: str | None, words: Sequence[str], definitions: Sequence[str | None], nothing: str
) -> str:
    """Return the line about a list of labels, and below it the definitions of these.

    Parameters
    ----------
    name : str or None
        What the list is called. ``None`` if it is all that is asked for.
    words : sequence of str
        The labels.
    definitions : sequence of (str or None)
        The definition of each, ``None`` where there is none.
    nothing : str
        What the answer is if no label fits.

    Returns
    -------
    str
        The lines.
    """
    labels = ", ".join(words)
    first = (
        f"Answer with all of these labels that fit, or {nothing}: {labels}."
        if name is None
        else f"{name}: all that fit of {labels}, or {nothing}"
    )
    return "\n".join([first, *_define(words, definitions)])


def _define(words: Sequence[str], definitions: Sequence[str | None] | None) -> list[str]:
    pairs = zip(words, definitions or [None] * len(words), strict=True)
    return [f"- {word}: {sentence.strip()}" for word, sentence in pairs if sentence]
