"""Fitted `BlendedClassifier` ↔ a folder with a folder for each classifier that counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.base import clone

from instructclf.classifiers.saving.cards import write_plain_card
from instructclf.classifiers.saving.folders import write_folder
from instructclf.classifiers.saving.places import Place
from instructclf.classifiers.wrapping.storing.formats import Format, LoadPart, Notes
from instructclf.classifiers.wrapping.storing.parts import (
    check_changes,
    name_bases,
    split_changes,
    write_part,
)
from instructclf.classifiers.wrapping.storing.records import (
    describe,
    describe_fitted,
    read_values,
    set_fitted,
    take,
)

_SETTLED = ("estimators", "method")
"""Parameters that say what was fitted."""
_SHOWN = ("weight", "log_loss", "accuracy", "fit_seconds", "seconds_per_text")


class BlendFormat(Format):
    """The weights, and a folder for each classifier with one."""

    fitted = ("classes_", "weights_", "temperatures_", "cv_results_")

    def find_parts(self, classifier: Any) -> dict[str, Any]:
        """Return the classifiers that count, by name."""
        return classifier.estimators_

    def write(self, classifier: Any, folder: Path, notes: Notes) -> None:
        """Write a fitted `BlendedClassifier` into a folder, each classifier that counts below it.

        Raises
        ------
        SavedClassifierError
            If a parameter cannot be written as text, or the folder holds something else.
        """
        parameters = classifier.get_params(deep=False)
        del parameters["estimators"]

        def write_parts(fresh: Path) -> None:
            for number, member in enumerate(classifier.estimators_.values()):
                write_part(member, fresh / _subfolder(number), notes.model_names)

        write_folder(
            folder,
            {
                "class": type(classifier).__name__,
                "parameters": describe(parameters),
                "members": list(classifier.estimators_),
                "fitted": describe_fitted(classifier, self.fitted),
            },
            write_parts=write_parts,
            write_card=lambda versions: write_plain_card(
                classifier,
                versions,
                what="the weighted mean of the classifiers below. Each of those with a weight has "
                "a folder and a card of its own.",
                table=_tabulate(classifier),
                model_names=name_bases(classifier, notes.model_names),
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
        """Return the `BlendedClassifier` in a folder whose files have been checked.

        Raises
        ------
        SavedClassifierError
            If a change is one of a parameter that says what was fitted.
        ModelLoadingError
            If the base model of a classifier cannot be loaded.
        """
        names = take(record, "members", list, place)
        own, of_parts = split_changes(changes, names)
        check_changes(kind, place, own, set(record["parameters"]) - set(_SETTLED), names)
        members = {
            name: load_part(place.inside(_subfolder(number), name), of_parts[name])
            for number, name in enumerate(names)
        }
        estimators: list[tuple[str, Any]] = [(name, clone(one)) for name, one in members.items()]
        blend = kind(estimators, **read_values(record["parameters"], place)).set_params(**own)
        blend.estimators_ = members
        return set_fitted(blend, record, self.fitted, place)


def _subfolder(number: int) -> str:
    """Return the folder of a classifier. Names may hold characters that no path can."""
    return f"member-{number}"


def _tabulate(blend: Any) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Return what was tried, as a head and rows of a table."""
    numbers = {name: f"`{_subfolder(number)}`" for number, name in enumerate(blend.estimators_)}
    results = blend.cv_results_
    rows = [
        [
            name,
            numbers.get(name, "none"),
            *(float(results[what][row]) for what in _SHOWN),
        ]
        for row, name in enumerate(results["name"].tolist())
    ]
    shown = [name.replace("_", " ") for name in _SHOWN]
    return ("classifier", "folder", *shown), rows
