"""Folder or repository on the hub → fitted classifier, of whichever kind it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import instructclf
from instructclf.classifiers.instruction_tuning import InstructionTunedClassifier
from instructclf.classifiers.label_scores import Answers
from instructclf.classifiers.labellers import (
    JointEnsemble,
    JointLabeller,
    Labeller,
    LabellerEnsemble,
)
from instructclf.classifiers.prompting import PromptClassifier
from instructclf.classifiers.saving.folders import FILE, FORMAT, SCHEMA
from instructclf.classifiers.saving.json_values import from_json
from instructclf.classifiers.saving.schema_1 import upgrade
from instructclf.classifiers.saving.writing import IN_ADAPTER
from instructclf.classifiers.several.outputs import MultiOutputPromptClassifier
from instructclf.classifiers.shots import ShotsPerText
from instructclf.classifiers.wrapping.bag_of_words import BagOfWordsClassifier
from instructclf.classifiers.wrapping.blending import BlendedClassifier
from instructclf.classifiers.wrapping.storing import read_bag_of_words, read_blend
from instructclf.engine.interfaces import Question
from instructclf.engine.models.fingerprints import find_difference
from instructclf.engine.models.names import find_path
from instructclf.engine.tuning.adapters import PeftSettings, read_config
from instructclf.engine.tuning.fitted_adapters import read_fitted_adapter
from instructclf.engine.tuning.runs import TrainingRecord
from instructclf.exceptions import ModelLoadingError, SavedClassifierError
from instructclf.inputs.paths import expand
from instructclf.storage import check_files, fetch_folder, find_folder, is_repo_id

Saved = (
    InstructionTunedClassifier
    | PromptClassifier
    | MultiOutputPromptClassifier
    | BagOfWordsClassifier
    | BlendedClassifier
)
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Saved)}
_OF_THE_FIT = ("adapter", "n_seeds", "sampler", "training_options__seed_average")
"""Parameters that describe what was fitted. A loaded classifier must not contradict them."""


def load(folder: str | PathLike[str], *, revision: str | None = None, **changes: Any) -> Saved:
    """Load a classifier that ``save`` or ``push_to_hub`` wrote. Nothing in it is run.

    Parameters
    ----------
    folder : str or path
        The folder. A text such as ``"me/reviews"`` is a repository on the hub if there is no folder
        of this name; only its JSON and safetensors files are fetched.
    revision : str or None, default=None
        The branch, tag or commit on the hub. ``None`` for the main branch.
    **changes : object
        Parameters to take instead of the saved ones, such as ``model`` if the base model is in
        another folder now, or ``model_options__device``. Those of a classifier in a blend have its
        name before them: ``tuning__model``.

    Returns
    -------
    InstructionTunedClassifier, PromptClassifier, MultiOutputPromptClassifier, \
    BagOfWordsClassifier or BlendedClassifier
        The fitted classifier, which predicts what it predicted when it was saved.

    Raises
    ------
    SavedClassifierError
        If the folder is no saved classifier, a file is missing or has changed, it was saved by a
        newer version, the base model is not the one it was made with, or the hub cannot be reached
        or has no such repository.
    ModelLoadingError
        If the base model cannot be loaded.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from instructclf import PromptClassifier, load
    >>> classifier = PromptClassifier(n_shots=2, random_state=0)
    >>> classifier = classifier.fit(["Works well.", "Broke at once."], ["positive", "negative"])
    >>> with TemporaryDirectory() as parent:
    ...     classifier.save(f"{parent}/reviews")
    ...     load(f"{parent}/reviews").classes_.tolist()
    ['negative', 'positive']
    """
    path = find_folder(_find(folder, revision))
    record = _read(path / FILE)
    check_files(path, record["files"])
    return _restore(record, path, changes)


def _find(folder: str | PathLike[str], revision: str | None) -> Path:
    """Return the folder, fetched from the hub if it is not on this machine."""
    path = expand(folder)
    try:
        is_here = find_folder(path).exists()
    except (OSError, ValueError) as error:  # too long, or with a null character
        msg = f"{str(folder)[:80]!r} is no path of a saved classifier: {error}."
        raise SavedClassifierError(msg) from error
    if not is_here and isinstance(folder, str) and is_repo_id(folder):
        return fetch_folder(folder, FILE, revision)
    if revision is not None:
        msg = (
            f"revision={revision!r} is one of a repository on the hub, and {str(folder)!r} is a "
            "folder or no name of a repository. Leave it out."
        )
        raise SavedClassifierError(msg)
    return path


def _read(path: Path) -> dict[str, Any]:
    if path.parent.is_file():
        msg = (
            f"{str(path.parent)!r} is a file, and a saved classifier is a folder: the one that its "
            "method save wrote. Pickles are not read here, because they run code. An "
            "OrdinalClassifier, ConformalClassifier or SelectiveClassifier has no such method: "
            "save the classifier in it, estimator_, and fit around the loaded one."
        )
        raise SavedClassifierError(msg)
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
    return upgrade(record) if record["schema"] == 1 else record


def _restore(record: Mapping[str, Any], folder: Path, changes: Mapping[str, Any]) -> Any:
    kind = _KINDS.get(record["class"])
    if kind is None:
        msg = f"{folder / FILE} is of a {record['class']!r}. There are: {', '.join(_KINDS)}."
        raise SavedClassifierError(msg)
    if kind is BlendedClassifier:
        return read_blend(kind, record, folder, changes, load)
    names = list(kind().get_params(deep=False))
    _check_known(record["class"], names, [*record["parameters"], *changes])
    if kind is BagOfWordsClassifier:
        return read_bag_of_words(kind, record, folder, changes)
    return _restore_prompted(kind, record, folder, changes)


def _restore_prompted(
    kind: type, record: Mapping[str, Any], folder: Path, changes: Mapping[str, Any]
) -> Any:
    parameters = {
        name: _read_config(record["fitted"], folder) if value == IN_ADAPTER else from_json(value)
        for name, value in record["parameters"].items()
    }
    if "model" not in changes:
        parameters["model"] = _find_model(parameters["model"], record.get("base_path"), folder)
    classifier = kind(**parameters)
    _change(classifier, changes)
    classifier.labeller_ = _restore_labeller(record["fitted"], folder)
    _check_base(record, classifier, folder, changes)
    return classifier


def _find_model(name: str, base_path: str | None, folder: Path) -> str:
    """Return the name of the base model or, if it is not here under this name, where it is."""
    if base_path is None or name == "bundled" or find_path(name) is not None:
        return name
    for path in (folder / base_path, folder / name):
        if path.exists():
            return str(path.resolve())
    msg = (
        f"The base model {name!r} of the classifier in {str(folder)!r} is not here: there is no "
        f"{str(Path(name).absolute())!r} and no {str((folder / base_path).resolve())!r}. Say where "
        f"it is: load({str(folder)!r}, model=...)."
    )
    raise ModelLoadingError(msg)


def _restore_labeller(fitted: Mapping[str, Any], folder: Path) -> Any:
    if "questions" in fitted:
        return _restore_joint(fitted, folder)
    if "members" in fitted:
        members = tuple(
            _restore_labeller(member, folder / f"seed-{number}")
            for number, member in enumerate(fitted["members"])
        )
        average = None if fitted["average"] is None else _restore_one(fitted["average"], folder)
        kind = JointEnsemble if isinstance(members[0], JointLabeller) else LabellerEnsemble
        return kind(members, tuple(fitted["seeds"]), average)
    return _restore_one(fitted, folder)


def _restore_joint(fitted: Mapping[str, Any], folder: Path) -> JointLabeller:
    answers = tuple(Answers(**from_json(own)) for own in fitted["questions"])
    whole = _restore_one(fitted["whole"], folder)
    groups = tuple(end - start for start, end in sorted({own.part for own in answers}))
    return JointLabeller(replace(whole, question=replace(whole.question, groups=groups)), answers)


def _restore_one(fitted: Mapping[str, Any], folder: Path) -> Labeller:
    values = {name: from_json(value) for name, value in fitted.items() if name != "adapter"}
    per_text = values["shots_per_text"]
    question = Question(
        values["prompt"],
        values["label_words"],
        values["max_length"],
        None if per_text is None else ShotsPerText(*per_text),
    )
    training = values["training"]
    return Labeller(
        values["classes"],
        question,
        values["calibration"],
        values["shots"],
        adapter=_restore_adapter(fitted["adapter"], folder),
        training=None if training is None else TrainingRecord(**training),
    )


def _restore_adapter(described: Any, folder: Path) -> Any:
    if described is None:
        return None
    in_file = described == IN_ADAPTER
    settings = PeftSettings(read_config(folder)) if in_file else from_json(described)
    return read_fitted_adapter(folder, settings)


def _read_config(fitted: Mapping[str, Any], folder: Path) -> Any:
    """Return a configuration of PEFT: the adapter's, or that of the first of several."""
    return read_config(folder / "seed-0" if "members" in fitted else folder)


# Checks


def _check_known(kind: str, names: list[str], given: list[str]) -> None:
    unknown = sorted({name.partition("__")[0] for name in given} - set(names))
    if unknown:
        msg = f"{kind} has no parameter {unknown[0]!r}. Its parameters are {', '.join(names)}."
        raise SavedClassifierError(msg)


def _change(classifier: Any, changes: Mapping[str, Any]) -> None:
    """Set parameters, and raise if one of them says what the fitted classifier is."""
    before = _describe_fit_parameters(classifier)
    classifier.set_params(**changes)
    after = _describe_fit_parameters(classifier)
    for name in before:
        if after[name] != before[name]:
            given = next(own for own in changes if own.startswith(name.partition("__")[0]))
            msg = (
                f"{given}={changes[given]!r} cannot be set while loading: {name} says what was "
                f"fitted, with {name}={before[name]!r}. Load without it, then set it and fit again."
            )
            raise SavedClassifierError(msg)


def _describe_fit_parameters(classifier: Any) -> dict[str, Any]:
    parameters = classifier.get_params(deep=True)
    return {name: repr(parameters[name]) for name in _OF_THE_FIT if name in parameters}


def _check_base(
    record: Mapping[str, Any], classifier: Any, folder: Path, changes: Mapping[str, Any]
) -> None:
    try:
        model = classifier.open_model()
    except ModelLoadingError as error:
        if "model" in changes or find_path(str(classifier.model)) is not None:
            raise
        msg = f"{error} If its base model is somewhere else now: load({str(folder)!r}, model=...)."
        raise ModelLoadingError(msg) from error
    difference = find_difference(record["base"], model.fingerprint())
    if difference is not None:
        msg = (
            f"The classifier in {str(folder)!r} was made with another base model than "
            f"{str(classifier.model)!r} is now: the {difference} differs. Load it with the model "
            "it was made with, load(folder, model=...), or fit it again."
        )
        raise SavedClassifierError(msg)
