"""Unlabelled text and solved prompts → micro-batches of rows, drawn without end."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from tools.bundled_model.episodes import Composer, Episode


@dataclass(frozen=True)
class Mix:
    """The composition of batches.

    Parameters
    ----------
    language : float
        Share of micro-batches that are unlabelled text.
    lengths : tuple of int
        Row lengths.
    shares : tuple of float
        How often each length is drawn.
    text_loss : float
        Share of positions outside labels that count.
    label_weight : float
        Weight of the loss of a label's token relative to another token's.
    """

    language: float
    lengths: tuple[int, ...]
    shares: tuple[float, ...]
    text_loss: float
    label_weight: float


FIRST = Mix(0.85, (256, 512), (0.60, 0.40), 0.20, 15.0)
EARLY = Mix(0.20, (256, 512, 1024, 2048), (0.50, 0.33, 0.12, 0.05), 0.20, 15.0)
LATE = Mix(0.08, (256, 512, 1024, 2048, 3072), (0.30, 0.20, 0.14, 0.20, 0.16), 0.08, 20.0)
ANEW = ((0.30, FIRST), (0.65, EARLY), (1.0, LATE))
"""The progress at which each mix ends: language, then prompts, then long prompts."""
AGAIN = Mix(0.45, (256, 512, 1024), (0.55, 0.35, 0.10), 0.20, 15.0)
CONTINUED = ((0.25, AGAIN), (0.65, EARLY), (1.0, LATE))
"""The same for a run that starts from a finished model."""
LANGUAGE_LOSS = 0.45
LANGUAGE_LENGTH = 512


def mix_at(progress: float, *, anew: bool) -> Mix:
    """Return the mix at some progress, 0 to 1, of a run that began anew or from a model."""
    return next(mix for end, mix in (ANEW if anew else CONTINUED) if progress <= end)


@dataclass
class Micro:
    """A few rows of one length.

    Parameters
    ----------
    ids : torch.Tensor
        Tokens, ``(rows, length)``.
    positions : torch.Tensor
        Flat positions whose next token counts.
    targets : torch.Tensor
        Those next tokens.
    weights : torch.Tensor
        Their weights.
    is_label : torch.Tensor
        Which of them belong to a label.
    others : torch.Tensor
        The first token of the other label, which the next token may be as well.
    doubts : torch.Tensor
        The probability of that.
    sensed : torch.Tensor
        Flat positions inside a review.
    senses : torch.Tensor
        The probability, up to there, that the review is positive.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    is_label: torch.Tensor
    others: torch.Tensor
    doubts: torch.Tensor
    sensed: torch.Tensor
    senses: torch.Tensor

    def to(self, device: torch.device) -> Micro:
        """Return the batch on a device."""
        return Micro(*(getattr(self, part.name).to(device) for part in fields(self)))


class Rows:
    """Rows of tokens, with the targets of each token.

    Parameters
    ----------
    ids : numpy.ndarray
        Tokens, ``(rows, length)``.
    """

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids
        self.marks = np.zeros(ids.shape, bool)
        self.senses = np.full(ids.shape, np.nan, np.float32)
        self.others = np.zeros(ids.shape, np.int64)
        self.doubts = np.zeros(ids.shape, np.float32)

    def write(self, row: int, episode: Episode) -> None:
        """Write an episode into a row."""
        for name in ("ids", "marks", "senses", "others", "doubts"):
            found = getattr(episode, name)
            getattr(self, name)[row, : len(found)] = found


class Batches:
    """Draws micro-batches.

    Parameters
    ----------
    composer : Composer
        Writes prompts.
    language : numpy.ndarray
        Unlabelled text as ids.
    pad : int
        The id that fills rows.
    tokens : int
        Roughly the tokens of a micro-batch.
    """

    def __init__(self, composer: Composer, language: np.ndarray, pad: int, tokens: int) -> None:
        self.composer = composer
        self.language = language
        self.pad = pad
        self.tokens = tokens

    def draw(self, mix: Mix, rng: np.random.Generator) -> Micro:
        """Draw a micro-batch."""
        if rng.random() < mix.language:
            n_rows, length = max(1, self.tokens // LANGUAGE_LENGTH), LANGUAGE_LENGTH
            starts = rng.integers(0, len(self.language) - length, n_rows)
            ids = np.stack([self.language[s : s + length] for s in starts]).astype(np.int64)
            return self._select(Rows(ids), LANGUAGE_LOSS, 1.0, rng)
        length = int(rng.choice(mix.lengths, p=mix.shares))
        n_rows = max(1, self.tokens // length)
        rows = Rows(np.full((n_rows, length), self.pad, np.int64))
        for row in range(n_rows):
            rows.write(row, self.composer.compose(rng, length))
        return self._select(rows, mix.text_loss, mix.label_weight, rng)

    def _select(
        self,
        rows: Rows,
        share: float,
        label_weight: float,
        rng: np.random.Generator,
    ) -> Micro:
        ids = rows.ids
        targets = _next(ids, self.pad)
        labels = _next(rows.marks, fill=False)
        counted = labels | ((rng.random(ids.shape) < share) & (targets != self.pad))
        positions = np.flatnonzero(counted)
        is_label = labels.reshape(-1)[positions]
        return Micro(
            torch.from_numpy(ids),
            torch.from_numpy(positions),
            torch.from_numpy(targets.reshape(-1)[positions]),
            torch.from_numpy(np.where(is_label, label_weight, 1.0).astype(np.float32)),
            torch.from_numpy(is_label),
            torch.from_numpy(_next(rows.others, 0).reshape(-1)[positions]),
            torch.from_numpy(_next(rows.doubts, 0).reshape(-1)[positions]),
            torch.from_numpy(np.flatnonzero(~np.isnan(rows.senses))),
            torch.from_numpy(rows.senses[~np.isnan(rows.senses)]),
        )


def _next(array: np.ndarray, fill: float) -> np.ndarray:
    """Return the values one position later in each row."""
    found = np.roll(array, -1, 1)
    found[:, -1] = fill
    return found
