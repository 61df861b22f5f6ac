"""Fitted classifiers ↔ folders of JSON and safetensors. Nothing in them is code.

A folder holds ``classifier.json``, ``README.md``, and for a tuned classifier its adapter as PEFT
stores adapters. The base model stays where it is: its name goes along, with what tells it from any
other.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

import instructclf
from instructclf.classifiers.cards import write_card
from instructclf.classifiers.own_shots import OwnShots
from instructclf.classifiers.plain import from_plain, to_plain
from instructclf.engine.models.fingerprints import find_difference, take_print
from instructclf.engine.models.loading import BaseModel
from instructclf.exceptions import SavedClassifierError
from instructclf.sampling import get_sampler
from instructclf.storage import check_files, find_checksums, find_folder, replacing_folder

FILE = "classifier.json"
CARD = "README.md"
PROMPT = "prompt.json"
FORMAT = "instructclf classifier"
SCHEMA = 1
_PEFT = "peft_config"
_IN_ADAPTER = {"file": "adapter_config.json"}
"""A configuration of PEFT, which PEFT stores with the adapter and reads again."""
_APART = {"adapter_", "estimators_"}
"""Attributes that have files or folders of their own."""
_NOT_SAVED = {"checkpoint_dir"}
"""Parameters that say where things are on this machine, and change no prediction."""
_OF_THE_FIT = {
    "lora_rank",
    "lora_alpha",
    "target_modules",
    "n_tuned_layers",
    "peft_config",
    "n_seeds",
    "seed_average",
    "sampler",
}
"""Parameters that say what the fitted adapter is, or what else there is to predict with."""
_PACKAGES = ("torch", "transformers", "peft", "scikit-learn", "numpy", "safetensors")


def save_classifier(
    classifier: Any,
    folder: str | PathLike[str],
    scores: Mapping[str, float] | None = None,
    *,
    model_name: str | None = None,
    place: str = "this folder",
) -> None:
    """Write a fitted classifier into a folder, in one step.

    Parameters
    ----------
    classifier : estimator
        A fitted classifier of this package.
    folder : str or path
        Where to. A classifier saved there before is replaced.
    scores : mapping of str to float, default=None
        Figures for its card, such as ``{"accuracy": 0.91}``.
    model_name : str or None, default=None
        What to call the base model, where others know it by another name. ``None`` for the name
        that it has here.
    place : str, default="this folder"
        What to load it from, as its card says.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    SavedClassifierError
        If a parameter cannot be written as text, or the folder holds something else.
    """
    check_is_fitted(classifier)
    record = {
        "format": FORMAT,
        "schema": SCHEMA,
        "versions": _versions(),
        "base": take_print(classifier._get_fitted_base()),  # noqa: SLF001
        **_describe(classifier, model_name),
    }
    model_name = model_name or str(classifier.model)
    with replacing_folder(Path(folder), FILE) as fresh:
        _write_adapters(classifier, fresh, model_name)
        record["files"] = find_checksums(fresh)  # without the card, which may be edited
        card = write_card(classifier, model_name, place, record["versions"], scores or {})
        (fresh / CARD).write_text(card, encoding="utf-8")
        (fresh / FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        _check_written(fresh, record)


def export_classifier(
    classifier: Any, model: Any, base: BaseModel, folder: str | PathLike[str]
) -> None:
    """Write a model that answers as a classifier does, for plain transformers.

    Parameters
    ----------
    classifier : estimator
        A fitted classifier.
    model : torch.nn.Module
        Base model and adapter in one.
    base : BaseModel
        The base model, for its tokenizer.
    folder : str or path
        Where to.

    Raises
    ------
    SavedClassifierError
        If the folder holds something else.
    """
    with replacing_folder(Path(folder), PROMPT) as fresh:
        model.save_pretrained(fresh)
        base.tokenizer.save_pretrained(fresh)
        prompt = classifier.prompt_
        record = {
            "before": prompt.beginning,
            "after": prompt.ending(""),
            "labels": classifier.classes_.tolist(),
            "answers": [list(answers) for answers in classifier.label_words_],
            "calibration": to_plain(classifier.calibration_, "calibration_"),
            "versions": _versions(),
        }
        (fresh / PROMPT).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load_classifier(
    folder: str | PathLike[str], kinds: Mapping[str, type], changes: Mapping[str, Any]
) -> Any:
    """Read a fitted classifier from a folder.

    Parameters
    ----------
    folder : str or path
        What `save_classifier` wrote.
    kinds : mapping of str to type
        The classes that there are.
    changes : mapping
        Parameters to take instead of the saved ones, such as where the base model is now.

    Returns
    -------
    estimator
        The classifier, which predicts what it predicted when it was saved.

    Raises
    ------
    SavedClassifierError
        If the folder is no saved classifier, a file is missing or has changed, it is of a newer
        version, or the base model is not the one it was made with.
    """
    place = find_folder(Path(folder))
    record = _read(place / FILE)
    check_files(place, record["files"])
    classifier = _restore(record, place, kinds, changes)
    _check_base(record, classifier, place)
    return classifier


# A classifier, and those of its seeds


def _describe(classifier: Any, model_name: str | None) -> dict[str, Any]:
    """Return class, parameters and fitted attributes in plain values, seeds included."""
    if isinstance(classifier.model, tuple):
        msg = (
            "A classifier whose 'model' is a pair of objects cannot be saved: its base model has "
            "no name to find it by. Save the model and its tokenizer to a folder with "
            "save_pretrained, and give that folder as 'model'."
        )
        raise SavedClassifierError(msg)
    attributes = {
        name: value
        for name, value in vars(classifier).items()
        if name.endswith("_") and not name.startswith("_") and name not in _APART
    }
    parameters = classifier.get_params(deep=False)
    if model_name is not None:
        parameters["model"] = model_name
    return {
        "class": type(classifier).__name__,
        "parameters": {
            name: _IN_ADAPTER if name == _PEFT and value is not None else to_plain(value, name)
            for name, value in parameters.items()
            if name not in _NOT_SAVED
        },
        "attributes": {name: to_plain(value, name) for name, value in attributes.items()},
        "own_shots": _describe_own_shots(getattr(classifier, "_own_shots", None)),
        "seeds": [
            _describe(member, model_name) for member in getattr(classifier, "estimators_", [])
        ],
    }


def _describe_own_shots(shots: OwnShots | None) -> Any:
    """Return the rows that shots are chosen from for each text. What chooses is a parameter."""
    if shots is None:
        return None
    return to_plain((shots.solved, shots.codes, shots.n_shots, shots.seed), "own_shots")


def _write_adapters(classifier: Any, folder: Path, model_name: str) -> None:
    if hasattr(classifier, "adapter_"):
        classifier._write_adapter(folder, model_name)  # noqa: SLF001
    for number, member in enumerate(getattr(classifier, "estimators_", [])):
        place = folder / f"seed-{number}"
        place.mkdir()
        _write_adapters(member, place, model_name)
        if not any(place.iterdir()):
            place.rmdir()


def _restore(
    record: Mapping[str, Any], folder: Path, kinds: Mapping[str, type], changes: Mapping[str, Any]
) -> Any:
    kind = kinds.get(record["class"])
    if kind is None:
        msg = f"{folder / FILE} is of a {record['class']!r}. There are: {', '.join(kinds)}."
        raise SavedClassifierError(msg)
    parameters = {
        name: _read_config(kind, record, folder) if value == _IN_ADAPTER else from_plain(value)
        for name, value in record["parameters"].items()
    }
    _check_changes(parameters, changes)
    parameters |= changes
    unknown = sorted(set(parameters) - set(kind._get_param_names()))  # noqa: SLF001
    if unknown:
        msg = (
            f"{record['class']} has no parameter {unknown[0]!r}. Its parameters are "
            f"{', '.join(kind._get_param_names())}."  # noqa: SLF001
        )
        raise SavedClassifierError(msg)
    classifier = kind(**parameters)
    for name, value in record["attributes"].items():
        setattr(classifier, name, from_plain(value))
    if record["own_shots"] is not None:
        sampler: Any = get_sampler(classifier.sampler)
        classifier._own_shots = OwnShots(sampler, *from_plain(record["own_shots"]))  # noqa: SLF001
    if hasattr(classifier, "_read_adapter"):
        classifier._read_adapter(folder)  # noqa: SLF001
    if record["seeds"]:
        classifier.estimators_ = [
            _restore(seed, folder / f"seed-{number}", kinds, changes)
            for number, seed in enumerate(record["seeds"])
        ]
    return classifier


def _read_config(kind: Any, record: Mapping[str, Any], folder: Path) -> Any:
    """Return a configuration of PEFT: the adapter's, or that of the first of several."""
    return kind._read_config(folder / "seed-0" if record["seeds"] else folder)  # noqa: SLF001


# Checks


def _check_changes(parameters: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Raise if a parameter is to be changed that says what the fitted classifier is."""
    for name in _OF_THE_FIT & set(parameters) & set(changes):
        if changes[name] != parameters[name]:
            msg = (
                f"{name}={changes[name]!r} cannot be set while loading: it says what was fitted, "
                f"with {name}={parameters[name]!r}. Load without it, then set it and fit again."
            )
            raise SavedClassifierError(msg)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        msg = f"There is no saved classifier in {str(path.parent)!r}: it has no {FILE}."
        raise SavedClassifierError(msg)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path} is no JSON, so it is truncated or corrupt: {error}"
        raise SavedClassifierError(msg) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        msg = f"{path} is no saved classifier: its format is not {FORMAT!r}."
        raise SavedClassifierError(msg)
    if record["schema"] > SCHEMA:
        msg = (
            f"{path} was saved by instructclf {record['versions']['instructclf']} in schema "
            f"{record['schema']}; this is {instructclf.__version__}, which reads up to schema "
            f"{SCHEMA}. Upgrade instructclf."
        )
        raise SavedClassifierError(msg)
    return record


def _check_written(folder: Path, record: Mapping[str, Any]) -> None:
    """Read back what was written, before it replaces anything."""
    written = _read(folder / FILE)
    if written != json.loads(json.dumps(record)):
        msg = f"{folder / FILE} does not read back as it was written. The disk may be full."
        raise SavedClassifierError(msg)
    check_files(folder, written["files"])


def _check_base(record: Mapping[str, Any], classifier: Any, folder: Path) -> None:
    found = take_print(classifier._get_base())  # noqa: SLF001
    difference = find_difference(record["base"], found)
    if difference is not None:
        msg = (
            f"The classifier in {str(folder)!r} was made with another base model than "
            f"{str(classifier.model)!r} is now: the {difference} differs. Load it with the model "
            "it was made with, load(folder, model=...), or fit it again."
        )
        raise SavedClassifierError(msg)


def _versions() -> dict[str, str]:
    versions = {name: version(name) for name in _PACKAGES}
    return {"instructclf": instructclf.__version__, "python": platform.python_version(), **versions}
