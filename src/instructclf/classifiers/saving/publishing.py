"""Fitted classifier → a repository on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from instructclf.classifiers.options import ModelOptions, given_or_default
from instructclf.classifiers.saving.folders import FILE
from instructclf.engine.running.processes import sharing_work
from instructclf.exceptions import SavedClassifierError
from instructclf.storage import push_folder


def push_classifier(
    write: Callable[[Path, Mapping[str, str]], None],
    prompted: Sequence[Any],
    repo_id: str,
    *,
    base_model: str | None,
    **options: Any,
) -> str:
    """Save a classifier into a folder that is pushed and forgotten.

    ``write`` gets the folder, and the names that base models have in it by those that they have
    here. ``prompted`` are the classifiers with a base model: itself, or those inside it.

    Raises
    ------
    SavedClassifierError
        If nobody else could find a base model, or the hub refuses.
    """
    names = _name_models([one.model for one in prompted], base_model)
    given = (given_or_default(one.model_options, ModelOptions).distributed for one in prompted)
    distributed = next((one for one in given if one is not None), None)
    with sharing_work(distributed) as processes, TemporaryDirectory() as parent:
        address = ""
        if processes.rank == 0:
            folder = Path(parent) / "classifier"
            write(folder, names)
            address = push_folder(folder, repo_id, FILE, **options)
        return processes.from_first(address)


def _name_models(models: Sequence[Any], base_model: str | None) -> dict[str, str]:
    """Return the names of base models in the repository, by those that they have here."""
    local = list(dict.fromkeys(str(model) for model in models if _is_local(model)))
    if base_model is None:
        if local:
            msg = (
                f"'model' is {local[0]!r}, on this machine, where nobody else can load it from. "
                "Give the hub id of the same model, push_to_hub(..., base_model='owner/name'), and "
                "push it there first if it is your own."
            )
            raise SavedClassifierError(msg)
        return {}
    named = local or list(dict.fromkeys(str(model) for model in models))
    if len(named) != 1:
        found = f"several: {', '.join(map(repr, named))}" if named else "none"
        remedy = "Give each its own hub id as 'model' and fit again" if named else "Leave it out"
        msg = (
            f"base_model={base_model!r} names one base model, and this classifier has {found}. "
            f"{remedy}."
        )
        raise SavedClassifierError(msg)
    return {named[0]: base_model}


def _is_local(model: Any) -> bool:
    if not isinstance(model, str | PathLike) or model == "bundled":
        return False
    return Path(model).expanduser().exists()
