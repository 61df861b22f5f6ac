"""Endless seeded batches of rows: plain text and solved prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from episodes import Composer

MICRO = 4096
SHORT = 1024


@dataclass(frozen=True)
class Mix:
    """What batches are made of.

    Parameters
    ----------
    plain : float
        Share of micro-batches that are plain text.
    lengths : tuple of int
        Row lengths.
    shares : tuple of float
        How often each length comes.
    text_loss : float
        Share of positions outside labels that count.
    label_weight : float
        Weight of a label's loss against another token's.
    """

    plain: float
    lengths: tuple[int, ...]
    shares: tuple[float, ...]
    text_loss: float
    label_weight: float


FIRST = Mix(0.85, (256, 512), (0.60, 0.40), 0.20, 15.0)
EARLY = Mix(0.12, (256, 512, 1024, 2048), (0.50, 0.33, 0.12, 0.05), 0.20, 15.0)
LATE = Mix(0.05, (256, 512, 1024, 2048, 3072), (0.30, 0.20, 0.14, 0.20, 0.16), 0.08, 20.0)
UNTIL = ((0.30, FIRST), (0.65, EARLY), (1.0, LATE))
"""How much of a run is over where each mix ends: language, then prompts, then long prompts."""
PLAIN_LOSS = 0.45
PLAIN_LENGTH = 512


def mix_at(progress: float) -> Mix:
    """Return what batches are made of.

    Parameters
    ----------
    progress : float
        How much of the run is over, 0 to 1.

    Returns
    -------
    Mix
        The proportions.
    """
    return next(mix for end, mix in UNTIL if progress <= end)


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
    sensed : torch.Tensor
        Flat positions inside a review.
    senses : torch.Tensor
        The sentiment of those reviews, 0 or 1.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    is_label: torch.Tensor
    sensed: torch.Tensor
    senses: torch.Tensor


class Batches:
    """Draws micro-batches.

    Parameters
    ----------
    composer : Composer
        Writes prompts.
    language : numpy.ndarray
        Plain text as ids.
    pad : int
        The id that fills rows.
    """

    def __init__(self, composer: Composer, language: np.ndarray, pad: int) -> None:
        self.composer = composer
        self.language = language
        self.pad = pad

    def draw(self, mix: Mix, rng: np.random.Generator) -> Micro:
        """Draw a micro-batch of about `MICRO` tokens.

        Parameters
        ----------
        mix : Mix
            The proportions.
        rng : numpy.random.Generator
            The source of chance.

        Returns
        -------
        Micro
            The batch.
        """
        if rng.random() < mix.plain:
            rows = MICRO // PLAIN_LENGTH
            starts = rng.integers(0, len(self.language) - PLAIN_LENGTH, rows)
            ids = np.stack([self.language[s : s + PLAIN_LENGTH] for s in starts]).astype(np.int64)
            return self._select(ids, np.zeros((2, *ids.shape), np.int64), PLAIN_LOSS, 1.0, rng)
        length = int(rng.choice(mix.lengths, p=mix.shares))
        rows = max(1, MICRO // length)
        ids = np.full((rows, length), self.pad, np.int64)
        marks = np.zeros((2, rows, length), np.int64)
        for row in range(rows):
            episode = self.composer.compose(rng, length)
            ids[row, : len(episode.ids)] = episode.ids
            marks[0, row, : len(episode.ids)] = episode.marks
            marks[1, row, : len(episode.ids)] = episode.senses
        return self._select(ids, marks, mix.text_loss, mix.label_weight, rng)

    def _select(
        self,
        ids: np.ndarray,
        marks: np.ndarray,
        share: float,
        label_weight: float,
        rng: np.random.Generator,
    ) -> Micro:
        targets = np.roll(ids, -1, 1)
        targets[:, -1] = self.pad
        labels = np.roll(marks[0], -1, 1).astype(bool)
        labels[:, -1] = False
        counted = labels | ((rng.random(ids.shape) < share) & (targets != self.pad))
        positions = np.flatnonzero(counted)
        is_label = labels.reshape(-1)[positions]
        return Micro(
            torch.from_numpy(ids),
            torch.from_numpy(positions),
            torch.from_numpy(targets.reshape(-1)[positions]),
            torch.from_numpy(np.where(is_label, label_weight, 1.0).astype(np.float32)),
            torch.from_numpy(is_label),
            torch.from_numpy(np.flatnonzero(marks[1])),
            torch.from_numpy((marks[1][marks[1] > 0] - 1).astype(np.float32)),
        )
