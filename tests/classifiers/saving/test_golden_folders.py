"""Folders that earlier versions saved still load, and predict as they did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import instructclf
from instructclf.classifiers.saving import SCHEMA

SAVED = Path(__file__).parents[2] / "data" / "saved"
FOLDERS = {
    f"{path.parent.parent.name}/{path.parent.name}": path.parent
    for path in sorted(SAVED.glob("schema-*/*/classifier.json"))
}
MODEL_OPTIONS = {
    "blend": "prompting__model",
    "ordinal": "estimator__model",
    "conformal": "estimator__model",
    "selective": "estimator__estimator__model",
}
"""What the base model is called by those that have none of their own."""


def answer(classifier, texts):
    """Return the labels of texts or, if they are what a classifier is for, the sets."""
    ask = getattr(classifier, "predict_set", classifier.predict)
    return np.array(ask(texts)).tolist()


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_of_an_earlier_version_predicts_as_it_did(folder):
    expected = json.loads((folder.parent / "expected.json").read_text(encoding="utf-8"))
    option = MODEL_OPTIONS.get(folder.name, "model")
    classifier = instructclf.load(folder, **{option: str(folder.parent / "base")})
    np.testing.assert_allclose(
        classifier.predict_log_proba(expected["texts"]),
        expected["log_probabilities"][folder.name],
        rtol=0,
        atol=1e-4,  # versions of torch round differently
    )
    if folder.name in expected.get("answers", {}):  # folders of the first kinds have none
        assert answer(classifier, expected["texts"]) == expected["answers"][folder.name]


@pytest.mark.parametrize("name", MODEL_OPTIONS)
def test_the_base_model_of_a_part_is_found_beside_the_folder(name):
    alone = instructclf.load(SAVED / "schema-2" / name)
    expected = json.loads((SAVED / "schema-2" / "expected.json").read_text(encoding="utf-8"))
    assert answer(alone, expected["texts"]) == expected["answers"][name]


def test_each_schema_has_folders_of_all_kinds():
    for schema in range(1, SCHEMA + 1):
        assert sum(name.startswith(f"schema-{schema}/") for name in FOLDERS) >= 7


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_the_folders_of_a_schema_are_small(schema):
    files = (SAVED / f"schema-{schema}").rglob("*")
    assert sum(path.stat().st_size for path in files if path.is_file()) < 400_000
