"""Fitted classifier, texts without labels → the few texts to label next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    validate_parameter_constraints,
)

from instructclf.exceptions import InvalidShotsError
from instructclf.inputs.texts import check_texts
from instructclf.sampling.embedding import TextEmbedding
from instructclf.sampling.facility_location import cover_greedily
from instructclf.sampling.representative import RepresentativeSampler
from instructclf.sampling.uncertainty import weigh_rows

_CONSTRAINTS: dict[str, Any] = {
    **RepresentativeSampler._parameter_constraints,
    "classifier": [HasMethods(["predict_proba"])],
    "n_rows": [Interval(Integral, 1, None, closed="left")],
    "random_state": ["random_state"],
}


def suggest_rows(
    classifier: Any,
    X: Sequence[str],
    n_rows: int,
    *,
    labelled: Sequence[str] = (),
    embedder: Any = None,
    n_candidates: int | None = 1000,
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.intp]:
    """Choose the texts to label next: close to many uncertain ones, and unlike each other.

    The next row is the one that most raises the sum, over the texts, of the classifier's
    uncertainty times the cosine to the most similar text that is suggested or labelled already. A
    text's uncertainty is one minus the gap between its two highest probabilities.

    Parameters
    ----------
    classifier : fitted classifier
        Any classifier of texts with ``predict_proba``. It predicts the candidates once.
    X : sequence of str, length n_texts
        The texts to choose from.
    n_rows : int
        How many to choose.
    labelled : sequence of str, default=()
        The texts that have labels. They are not suggested, and nor are texts like them.
    embedder : transformer, str, path or None, default=None
        Compares texts: a scikit-learn transformer, the name or folder of a sentence encoder (needs
        the ``sentences`` extra), or ``None`` for TF-IDF. Sparse rows are reduced to 128 columns.
    n_candidates : int or None, default=1000
        How many different texts are considered, drawn at random, but ``n_rows`` at least. ``None``
        considers all.
    random_state : int, RandomState instance or None, default=None
        Controls which texts are considered, and breaks ties.

    Returns
    -------
    ndarray of shape (n_rows,)
        Indices into ``X`` of different texts, the one to label first at the front.

    Raises
    ------
    InvalidTextsError
        If ``X`` or ``labelled`` is not a sequence of strings.
    InvalidShotsError
        If ``n_rows`` is more than the number of different texts without a label, or if
        ``predict_proba`` does not return probabilities.
    NotFittedError
        If the classifier is not fitted.

    See Also
    --------
    UncertaintySampler : Chooses shots among labelled rows in this way.

    Notes
    -----
    Coverage weighted by uncertainty comes from AdaICL (Mavromatis et al. 2023, arXiv 2310.20046),
    and the coverage of unlabelled rows in active learning from Wei, Iyer and Bilmes, "Submodularity
    in Data Subset Selection and Active Learning" (ICML 2015).

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from instructclf.sampling import suggest_rows
    >>> labelled, labels = ["good phone", "bad phone"], ["positive", "negative"]
    >>> classifier = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(labelled, labels)
    >>> texts = ["good phone", "good cheap phone", "old book", "lamp"]
    >>> rows = suggest_rows(classifier, texts, 2, labelled=labelled, random_state=0)
    >>> sorted(texts[i] for i in rows)
    ['lamp', 'old book']
    """
    given = {"classifier": classifier, "n_rows": n_rows, "random_state": random_state}
    given |= {"embedder": embedder, "n_candidates": n_candidates}
    validate_parameter_constraints(_CONSTRAINTS, given, caller_name="suggest_rows")
    every, known = check_texts(X), check_texts(labelled, "labelled") if len(labelled) else []
    rng = check_random_state(random_state)
    rows = rng.permutation(_new_rows(every, known, n_rows))
    if n_candidates is not None:
        rows = rows[: max(n_rows, n_candidates)]
    texts = [every[i] for i in rows]
    seed = int(rng.randint(np.iinfo(np.int32).max))
    embeddings = TextEmbedding(embedder, seed).fit_transform(texts + known)
    order = cover_greedily(
        embeddings[: len(texts)],
        weigh_rows(classifier.predict_proba(texts), texts, "margin"),
        embeddings[len(texts) :],
    )
    return rows[list(islice(order, n_rows))]


def _new_rows(texts: list[str], known: list[str], n_rows: int) -> list[int]:
    """Return the first index of each text that is not known, sorted by the texts."""
    first = {text: i for i, text in reversed([*enumerate(texts)])}
    rows = [first[text] for text in sorted(first.keys() - set(known))]
    if n_rows > len(rows):
        msg = (
            f"n_rows={n_rows} is more than the {len(rows)} different texts in X that are not among "
            f"the labelled ones. Set n_rows to {len(rows)} or fewer, or give more texts."
        )
        raise InvalidShotsError(msg)
    return rows
