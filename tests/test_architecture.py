"""Limits on the package's structure: modules, folders, bases, and the path of a prediction."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import instructclf
from instructclf import (
    InstructionTunedClassifier,
    MultiOutputPromptClassifier,
    PromptClassifier,
    PromptFeatures,
)
from tests.fixtures import LABELS, TEXTS

ROOT = Path(instructclf.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
FOLDERS = sorted({path.parent for path in MODULES})


def name_of(path):
    return str(path.relative_to(ROOT.parent))


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_folder_has_at_most_16_modules(folder):
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 16


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_at_most_350_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize(
    "kind",
    [InstructionTunedClassifier, MultiOutputPromptClassifier, PromptClassifier, PromptFeatures],
)
def test_an_estimator_has_at_most_four_classes_of_the_package(kind):
    ours = [base for base in kind.__mro__ if base.__module__.startswith("instructclf")]
    stand_in = "CallbackSupportMixin"  # for scikit-learn's own, before 1.9
    assert len([base for base in ours if base.__name__ != stand_in]) <= 4


def files_that_run(call):
    """Return the files of the package in the order in which a call enters and leaves them."""
    visited = []

    def record(frame, event, _):
        file = frame.f_code.co_filename
        if event in {"call", "return"} and file.startswith(str(ROOT)) and visited[-1:] != [file]:
            visited.append(file)

    sys.setprofile(record)
    try:
        call()
    finally:
        sys.setprofile(None)
    return visited


def test_a_warm_prediction_of_one_text_runs_through_few_files(make_prompting):
    classifier = make_prompting().fit(TEXTS, LABELS)
    classifier.predict(["warm up"])
    visited = files_that_run(lambda: classifier.predict(["good thing"]))
    names = {str(Path(file).relative_to(ROOT)) for file in visited}
    assert len(names) <= 34, sorted(names)
    assert len(visited) <= 168
