"""Which shortcuts classifiers take. In this folder, only this module knows how the engine says so.

What can be counted is counted: at how many positions a module runs, and a step of the engine.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch import Tensor
from torch.nn import Module

from instructclf.engine.models.decoder_layers import named_decoder_layers
from instructclf.engine.scoring import shared_attention
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.layouts import tree_layout
from instructclf.engine.scoring.vocabulary import Vocabulary
from instructclf.engine.tuning.tuned_prefixes import DifferentiablePrefixAttention
from tests.engine.scoring.test_label_scoring import strategy_of
from tests.engine.tuning.test_backpropagation import prefix_of


@dataclass(frozen=True)
class Shortcuts:
    """What was found to be exact for ordinary prompts of a classifier.

    Parameters
    ----------
    shares_prefix : bool
        Whether the prompts' common beginning goes through the model once.
    copies_prefix : bool
        Whether each row of a batch gets a copy of its keys and values.
    has_tree : bool
        Whether labels that share a beginning take one row.
    """

    shares_prefix: bool
    copies_prefix: bool
    has_tree: bool


def shortcuts_of(scorer: Any) -> Shortcuts:
    """Return the shortcuts that a scorer takes."""
    strategy = strategy_of(scorer)
    shares = strategy.prefix is not None
    copies = shares and strategy.prefix is not PrefixAttention
    return Shortcuts(shares, copies, strategy.layout is tree_layout)


def scorer_of(classifier: Any) -> Any:
    """Return what a fitted classifier scores with."""
    return classifier.labeller_.scorer(classifier.open_model)


def list_prefix(scorer: Any) -> list[int]:
    """Return the tokens that all prompts begin with."""
    return list(scorer.encoder.prefix_ids)


def list_prompt(scorer: Any, text: str) -> list[int]:
    """Return the tokens of the prompt of a text."""
    return list(scorer.encoder.encode([text])[0].ids)


def count_positions_read(scorer: Any) -> int:
    """Return how many positions of each text are read to score its labels."""
    return len(scorer.encoder.trie.tokens)


def tokenises_tails_alone(scorer: Any, texts: list[str]) -> bool:
    """Say whether only the characters of each text, and some before it, are tokenised."""
    encoder = scorer.encoder
    endings = [encoder.prompt.ending(text) for text in texts]
    return None not in encoder._suffixes._tokenise_tails(endings)


def last_projection(scorer: Any) -> Module:
    """Return the last linear layer of the last decoder layer."""
    return list(named_decoder_layers(scorer.model).values())[-1].mlp.down_proj


def shares_prefix_in_tuning(backpropagate: Any, examples: list[Any]) -> bool:
    """Say whether all examples attend to one prefix that no row copies."""
    return set(map(prefix_of(backpropagate), examples)) == {DifferentiablePrefixAttention}


def replays_frozen_layers(backpropagate: Any) -> bool:
    """Say whether the states before the first tuned layer are kept between epochs."""
    return backpropagate._replay is not None


@contextmanager
def counting(module: Module):
    """Yield a list that receives the number of positions each time that a module runs."""
    counts = []
    handle = module.register_forward_hook(lambda _, __, output: counts.append(_positions(output)))
    try:
        yield counts
    finally:
        handle.remove()


@contextmanager
def counting_keys():
    """Yield a list that receives the number of keys each time that queries attend to a prefix."""
    counts = []
    attend = shared_attention.attend_to_shared_keys

    def count(query: Tensor, key: Tensor, *inputs: Any, **options: Any) -> Any:
        counts.append(key.shape[2])
        return attend(query, key, *inputs, **options)

    with patch.object(shared_attention, "attend_to_shared_keys", count):
        yield counts


@contextmanager
def counting_distributions():
    """Yield a list that receives how many distributions over the vocabulary are computed."""
    counts = []
    normalise = Vocabulary._log_normaliser

    def count(vocabulary: Vocabulary, states: Tensor) -> Tensor:
        counts.append(len(states))
        return normalise(vocabulary, states)

    with patch.object(Vocabulary, "_log_normaliser", count):
        yield counts


def _positions(output: Any) -> int:
    states = output[0] if isinstance(output, tuple) else output
    return states.shape[:-1].numel()
