"""Fitted classifier → a repository on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from instructclf.classifiers.labellers import OpenModel
from instructclf.classifiers.options import ModelOptions, given_or_default
from instructclf.classifiers.saving.folders import FILE
from instructclf.classifiers.saving.writing import save_classifier
from instructclf.engine.running.processes import sharing_work
from instructclf.exceptions import SavedClassifierError
from instructclf.storage import push_folder


def push_classifier(
    classifier: Any,
    open_model: OpenModel,
    repo_id: str,
    *,
    base_model: str | None,
    scores: Mapping[str, float] | None,
    **options: Any,
) -> str:
    """Save a classifier into a folder that is pushed and forgotten.

    Raises
    ------
    SavedClassifierError
        If nobody else could find the base model, or the hub refuses.
    """
    if base_model is None and _is_local(classifier.model):
        msg = (
            f"'model' is {str(classifier.model)!r}, on this machine, where nobody else can load it "
            "from. Give the hub id of the same model, push_to_hub(..., base_model='owner/name')"
            ", and push it there first if it is your own."
        )
        raise SavedClassifierError(msg)
    distributed = given_or_default(classifier.model_options, ModelOptions).distributed
    with sharing_work(distributed) as processes, TemporaryDirectory() as parent:
        address = ""
        if processes.rank == 0:
            folder = Path(parent) / "classifier"
            save_classifier(
                classifier, open_model, folder, scores, model_name=base_model, source=repo_id
            )
            address = push_folder(folder, repo_id, FILE, **options)
        return processes.from_first(address)


def _is_local(model: Any) -> bool:
    if isinstance(model, tuple) or model == "bundled":
        return False
    return Path(model).expanduser().exists()
