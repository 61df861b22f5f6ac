"""The classifiers inside a stored one: whether they can be saved, and their folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instructclf.classifiers.saving.places import Place
from instructclf.classifiers.saving.saved import FittedClassifier
from instructclf.classifiers.saving.writing import save_classifier
from instructclf.classifiers.wrapping.storing.formats import Format, Notes
from instructclf.exceptions import SavedClassifierError


def _format_of(classifier: Any) -> Format | None:
    found = getattr(type(classifier), "_FORMAT", None)
    return found if isinstance(found, Format) else None


def find_parts(classifier: Any) -> dict[str, Any]:
    """Return the fitted classifiers inside one, by name; none inside one with its own prompt."""
    found = _format_of(classifier)
    return {} if found is None else found.find_parts(classifier)


def find_prompted(classifier: Any) -> list[FittedClassifier]:
    """Return the classifiers with a base model in this one, at any depth."""
    if isinstance(classifier, FittedClassifier):
        return [classifier]
    return [one for part in find_parts(classifier).values() for one in find_prompted(part)]


def name_bases(classifier: Any, model_names: Mapping[str, str]) -> list[str]:
    """Return the names that the base models inside have in a folder, each once."""
    models = [str(one.model) for one in find_prompted(classifier)]
    return list(dict.fromkeys(model_names.get(model, model) for model in models))


def check_parts(classifier: Any) -> None:
    """Raise an error if something inside, at any depth, cannot be saved.

    Raises
    ------
    SavedClassifierError
        If only a pickle could store it.
    """
    _check_parts(classifier, type(classifier).__name__, "")


def _check_parts(classifier: Any, whole: str, prefix: str) -> None:
    for name, part in find_parts(classifier).items():
        if isinstance(part, FittedClassifier) or _format_of(part) is not None:
            _check_parts(part, whole, f"{prefix}{name}__")
            continue
        remedy = (
            f"It is a search: put its best_estimator_ in its place in the fitted {whole}"
            if hasattr(part, "best_estimator_")
            else "Take a classifier of this package, such as PromptClassifier or "
            "BagOfWordsClassifier, instead"
        )
        msg = (
            f"In this {whole}, {prefix + name!r} is a {type(part).__name__}, which only a pickle "
            f"could store, and a pickle runs code when it is loaded. {remedy}, or pickle the "
            f"{whole} and load it only where you trust the file."
        )
        raise SavedClassifierError(msg)


def write_part(part: Any, folder: Path, model_names: Mapping[str, str]) -> None:
    """Write a classifier that can be saved into a folder of its own."""
    if isinstance(part, FittedClassifier):
        name = model_names.get(str(part.model))
        save_classifier(part, part._fitted_model, folder, model_name=name)  # noqa: SLF001
    else:
        part._FORMAT.write(part, folder, Notes(model_names=model_names))  # noqa: SLF001


def split_changes(
    changes: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the changes of a classifier's own parameters, and those of each part, by name."""
    own, of_parts = {}, {name: {} for name in names}
    for change, value in changes.items():
        name, _, parameter = change.partition("__")
        if name in of_parts and parameter:
            of_parts[name][parameter] = value
        else:
            own[change] = value
    return own, of_parts


def check_changes(
    kind: type, place: Place, changes: Iterable[str], allowed: Iterable[str], names: Sequence[str]
) -> None:
    """Raise an error if a parameter cannot be set while loading.

    Raises
    ------
    SavedClassifierError
        If there is no such parameter, or it says what was fitted.
    """
    known = sorted(allowed)
    for change in changes:
        if change not in known:
            own = f"one of {[place.prefix + name for name in known]}, or " if known else ""
            msg = (
                f"{place.prefix + change!r} cannot be set while loading this {kind.__name__}. Give "
                f"{own}a parameter of a classifier in it, such as {place.prefix}{names[0]}__model."
            )
            raise SavedClassifierError(msg)
