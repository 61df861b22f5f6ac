"""Texts as rows of unit length, from words or from a sentence encoder."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.preprocessing import FunctionTransformer

from instructclf.exceptions import MissingExtraError
from instructclf.sampling import FacilityLocationSampler, KNNSampler
from instructclf.sampling.embedding import N_COMPONENTS, TextEmbedding, _load_encoder

TEXTS = ["good phone", "good book", "a bad phone", "a bad, bad book", "Größe passt!", ""]


def test_rows_have_unit_length():
    embedded = TextEmbedding(None, seed=0).fit_transform(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1)


def test_cosines_of_few_texts_are_those_of_tf_idf():
    embedded = TextEmbedding(None, seed=0).fit_transform(TEXTS[:5])
    vectorizer = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", sublinear_tf=True)
    expected = vectorizer.fit_transform(TEXTS[:5]).toarray()
    np.testing.assert_allclose(embedded @ embedded.T, expected @ expected.T, atol=1e-12)


def test_many_columns_are_reduced_as_by_a_truncated_svd():
    rng = np.random.RandomState(0)
    raw = csr_array(rng.rand(300, 200) * (rng.rand(300, 200) < 0.1))
    texts = [str(i) for i in range(300)]
    lookup = FunctionTransformer(_Rows(raw))
    embedded = TextEmbedding(lookup, seed=5).fit_transform(texts)
    assert embedded.shape == (300, N_COMPONENTS)
    expected = TruncatedSVD(N_COMPONENTS, n_iter=4, random_state=5).fit(raw).transform(raw)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embedded @ embedded.T, expected @ expected.T, atol=1e-9)


class _Rows:
    """Return the rows whose numbers the texts are."""

    def __init__(self, raw):
        self.raw = raw

    def __call__(self, texts):
        return self.raw[[int(text) for text in texts]]


def test_empty_columns_are_dropped():
    embedding = TextEmbedding(HashingVectorizer(n_features=2**22), seed=0)
    embedded = embedding.fit_transform(TEXTS)
    assert embedding._components.shape[1] < 10
    expected = HashingVectorizer(n_features=2**22).fit_transform(TEXTS)
    np.testing.assert_allclose(embedded @ embedded.T, (expected @ expected.T).toarray(), atol=1e-9)


def test_a_matrix_of_zeros_stays_zeros():
    lookup = FunctionTransformer(_Rows(csr_array((6, 3))))
    embedded = TextEmbedding(lookup, seed=0).fit_transform(list("012345"))
    assert not embedded.any()
    assert len(embedded) == 6


def test_transform_gives_the_same_embeddings_as_fit_transform():
    embedding = TextEmbedding(None, seed=0)
    learned = embedding.fit_transform(TEXTS)
    np.testing.assert_allclose(embedding.transform(TEXTS[::-1]), learned[::-1], atol=1e-12)


def test_unseen_words_are_similar_to_nothing():
    embedding = TextEmbedding(None, seed=0)
    embedding.fit_transform(TEXTS)
    np.testing.assert_array_equal(embedding.transform(["zzz"]), 0)


class OnlyFitAndTransform(BaseEstimator):
    """Counts letters, without fit_transform."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.array([[len(text), text.count("o"), 1.0] for text in X])


def test_an_embedder_needs_only_fit_and_transform():
    embedded = TextEmbedding(OnlyFitAndTransform(), seed=0).fit_transform(TEXTS)
    expected = np.array([10.0, 3, 1])
    np.testing.assert_allclose(embedded[0], expected / np.linalg.norm(expected))


def test_the_users_embedder_is_not_fitted():
    vectorizer = TfidfVectorizer()
    TextEmbedding(vectorizer, seed=0).fit_transform(TEXTS)
    assert not hasattr(vectorizer, "vocabulary_")


class LosesRows(TransformerMixin, BaseEstimator):
    """Returns too few rows."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.ones((len(X) - 1, 3))


def test_an_embedder_that_loses_rows_is_an_error():
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[5, 6\]"):
        TextEmbedding(LosesRows(), seed=0).fit_transform(TEXTS)


# Sentence encoders

ENCODER = """
import numpy as np

class SentenceTransformer:
    def __init__(self, name):
        assert name == "letters", name

    def encode(self, sentences, *, show_progress_bar):
        assert not show_progress_bar
        return np.array([[s.count(c) for c in "aeiou"] for s in sentences], dtype=np.float32)
"""


@pytest.fixture
def sentence_transformers(tmp_path, monkeypatch):
    """Provide a fake sentence-transformers whose only model counts vowels."""
    (tmp_path / "sentence_transformers.py").write_text(ENCODER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sentence_transformers", raising=False)
    _load_encoder.cache_clear()
    yield
    sys.modules.pop("sentence_transformers", None)
    _load_encoder.cache_clear()


@pytest.mark.usefixtures("sentence_transformers")
def test_a_name_loads_a_sentence_encoder():
    sampler = KNNSampler(embedder="letters").fit(["aa", "ee", "oo", "uu"], [0, 0, 1, 1])
    assert [shots[-1] for shots in sampler.select_for(["xaa", "eeee", "o"], 2)] == [0, 1, 2]


@pytest.mark.usefixtures("sentence_transformers")
def test_a_sentence_encoder_is_loaded_once():
    for _ in range(3):
        TextEmbedding("letters", seed=0).fit_transform(["a", "e"])
    assert _load_encoder.cache_info().misses == 1


def test_a_missing_package_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    _load_encoder.cache_clear()
    message = r'embedder=\'letters\' needs sentence-transformers.*"instructclf\[sentences\]"'
    with pytest.raises(MissingExtraError, match=message):
        FacilityLocationSampler(embedder="letters").select(["a", "b"], [0, 1], 2)
