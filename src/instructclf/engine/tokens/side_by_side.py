"""Instructions that each state one label → tokens that the model reads side by side.

Each label follows the beginning of the instruction as if it were the only one, at the same position
as all others, and sees none of them. What comes after the labels sees them all. So no order of
labels reaches the model: they are a set. Source: set-based prompting (McIlroy-Young et al.,
"Order-Independence Without Fine Tuning", NeurIPS 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from instructclf.engine.tokens.tokenising import common_prefix_length
from instructclf.exceptions import InvalidTemplateError
from instructclf.prompts import Prompt


@dataclass(frozen=True)
class SideBySide:
    """Tokens that take the place of a stretch of the tokens that all prompts begin with.

    Parameters
    ----------
    start, stop : int
        The stretch: the tokens of the labels in a list. Tokens after it keep their positions.
    sequences : tuple of tuple of int
        The tokens of each label, in an order that does not depend on that of the labels, so that
        not even rounding does. The first of each stands at position ``start``.
    """

    start: int
    stop: int
    sequences: tuple[tuple[int, ...], ...]


def tokenise_side_by_side(
    prompt: Prompt,
    tokenise: Callable[[Sequence[str]], list[list[int]]],
    prefix: Sequence[int],
) -> SideBySide | None:
    """Tokenise the alternatives of a prompt, and find what they do not share.

    Parameters
    ----------
    prompt : Prompt
        A prompt, perhaps with an alternative for each label.
    tokenise : callable
        Takes rendered prompts and returns their tokens.
    prefix : sequence of int
        The tokens that the prompts of all texts begin with.

    Returns
    -------
    SideBySide or None
        The tokens of each label. ``None`` without alternatives.
    """
    if not prompt.alternatives:
        return None
    frame = prompt.with_demonstrations(())
    variants = [frame, *map(frame.with_instruction, prompt.alternatives)]
    listed, *alone = tokenise([variant.render("") for variant in variants])
    return find_side_by_side(listed, alone, prefix)


def find_side_by_side(
    listed: list[int], alone: Sequence[list[int]], prefix: Sequence[int]
) -> SideBySide:
    """Compare a prompt that lists all labels with prompts that state one label each.

    Parameters
    ----------
    listed : list of int
        The tokens of the prompt that lists all labels, without demonstrations and text.
    alone : sequence of list of int
        The tokens of the prompts that state one label, without demonstrations and text.
    prefix : sequence of int
        The tokens that the prompts of all texts begin with.

    Returns
    -------
    SideBySide
        What the prompts of one label do not share.

    Raises
    ------
    InvalidTemplateError
        If the labels are not part of what the prompts of all texts begin with.
    """
    every = [listed, *alone]
    start = common_prefix_length(every)
    n_after = common_prefix_length([ids[::-1] for ids in every])
    n_after = min(n_after, min(map(len, every)) - start - 1)  # at least a token for each label
    stop = len(listed) - n_after
    if list(prefix[:stop]) != listed[:stop]:
        msg = (
            "label_order='unordered' needs a prompt that states the labels before any text, and "
            "tokens of the instruction that do not change with what follows. Use another template, "
            "such as 'alpaca', or label_order='cyclic'."
        )
        raise InvalidTemplateError(msg)
    sequences = sorted(tuple(ids[start : len(ids) - n_after]) for ids in alone)
    return SideBySide(start, stop, tuple(sequences))
