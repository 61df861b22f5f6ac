"""Give the token embeddings a first sense of sentiment, from a linear model of tokens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import normalize
from units import POLAR

if TYPE_CHECKING:
    from units import Units

LOG = logging.getLogger(__name__)
LIMIT = 3.0
HELD_OUT = 2000


def token_sentiment(units: Units, vocabulary: int, seed: int = 0) -> np.ndarray:
    """Learn from labelled reviews how positive each token is.

    Parameters
    ----------
    units : Units
        The labelled texts.
    vocabulary : int
        The number of tokens.
    seed : int, default=0
        The seed.

    Returns
    -------
    numpy.ndarray
        One number a token, of unit spread over the tokens seen, at most 3.
    """
    negative, positive = units.pools[POLAR]
    chosen = np.random.default_rng(seed).permutation(np.concatenate([negative, positive]))
    texts = [np.unique(units.text(int(i))) for i in chosen]
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in texts])])
    values = np.ones(starts[-1], np.float32)
    counts = csr_matrix((values, np.concatenate(texts), starts), (len(texts), vocabulary))
    labels = np.isin(chosen, positive).astype(int)
    model = SGDClassifier(loss="log_loss", alpha=2e-6, average=True, max_iter=6, random_state=seed)
    features = normalize(counts)
    held_out = min(HELD_OUT, len(texts) // 10)
    model.fit(features[held_out:], labels[held_out:])
    right = model.score(features[:held_out], labels[:held_out])
    LOG.info("linear model of tokens: %.3f of the reviews right", right)
    found = model.coef_[0]
    spread = found[np.asarray(counts.sum(0))[0] > 0].std()
    return np.clip(found / spread, -LIMIT, LIMIT)


@torch.no_grad()
def warm_start(embedding: torch.Tensor, sentiment: np.ndarray, seed: int = 0) -> torch.Tensor:
    """Add the sentiment of each token to its embedding along one direction.

    Parameters
    ----------
    embedding : torch.Tensor
        The embeddings, changed in place.
    sentiment : numpy.ndarray
        One number a token.
    seed : int, default=0
        The seed of the direction.

    Returns
    -------
    torch.Tensor
        The direction, of unit length.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(embedding.shape[1], generator=generator)
    direction = (direction / direction.norm()).to(embedding)
    size = float(embedding.norm(dim=1).mean())
    amount = torch.from_numpy(sentiment).to(embedding) * (0.5 * size)
    embedding.add_(amount[:, None] * direction)
    return direction
