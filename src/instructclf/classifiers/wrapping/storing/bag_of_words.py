"""Fitted `BagOfWordsClassifier` ↔ a folder with its words and coefficients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer

from instructclf.classifiers.saving.cards import write_plain_card
from instructclf.classifiers.saving.folders import write_folder, write_json
from instructclf.classifiers.saving.places import Place
from instructclf.classifiers.saving.reading import check_known
from instructclf.classifiers.wrapping.storing.formats import Format, LoadPart, Notes
from instructclf.classifiers.wrapping.storing.records import (
    describe,
    describe_fitted,
    read_values,
    set_fitted,
)

_WORDS, _NUMBERS = "words.json", "weights.safetensors"


class BagOfWordsFormat(Format):
    """The words as text, and their frequencies and coefficients as safetensors."""

    fitted = ("classes_", "C_")

    def find_parts(self, classifier: Any) -> dict[str, Any]:
        """Return none: there is no classifier inside."""
        del classifier
        return {}

    def write(self, classifier: Any, folder: Path, notes: Notes) -> None:
        """Write a fitted `BagOfWordsClassifier` into a folder.

        Raises
        ------
        SavedClassifierError
            If a parameter cannot be written as text, or the folder holds something else.
        """
        vectorizer = classifier.vectorizer_
        words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
        arrays = {
            "idf": vectorizer.idf_,
            "coef": classifier.coef_,
            "intercept": classifier.intercept_,
        }

        def write_parts(fresh: Path) -> None:
            write_json(fresh / _WORDS, words)
            contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            save_file(contiguous, fresh / _NUMBERS)

        rows = [("words and sequences of words", len(words)), ("`C`", classifier.C_)]
        write_folder(
            folder,
            {
                "class": type(classifier).__name__,
                "parameters": describe(classifier.get_params()),
                "fitted": describe_fitted(classifier, self.fitted),
            },
            write_parts=write_parts,
            write_card=lambda versions: write_plain_card(
                classifier,
                versions,
                what="logistic regression on the TF-IDF of words. `words.json` lists them, and "
                "they occur in the training data.",
                table=(("what", "value"), rows),
                model_names=(),
                source=notes.source,
                scores=notes.scores,
            ),
        )

    def read(
        self,
        kind: type,
        record: Mapping[str, Any],
        place: Place,
        changes: Mapping[str, Any],
        load_part: LoadPart,
    ) -> Any:
        """Return the `BagOfWordsClassifier` in a folder whose files have been checked."""
        del load_part  # there is none
        check_known(kind, [*record["parameters"], *changes])
        parameters = read_values(record["parameters"], place)
        classifier = kind(**parameters).set_params(**changes)
        arrays = load_file(place.folder / _NUMBERS)
        vectorizer = TfidfVectorizer(
            ngram_range=parameters["ngram_range"],
            vocabulary=json.loads((place.folder / _WORDS).read_text(encoding="utf-8")),
        )
        vectorizer.idf_ = arrays["idf"]
        classifier.vectorizer_ = vectorizer
        classifier.coef_, classifier.intercept_ = arrays["coef"], arrays["intercept"]
        return set_fitted(classifier, record, self.fitted, place)
