"""Fitted classifier around another one ↔ a folder with a folder for the one inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import InvalidParameterError

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
    refuse,
    set_fitted,
    take,
)
from instructclf.exceptions import SavedClassifierError

INSIDE = "estimator"
"""The folder of the classifier inside, and what the names of its parameters begin with."""


@dataclass(frozen=True)
class WrapperFormat(Format):
    """What a wrapper has learned of the classifier inside, and a folder for that one.

    Parameters
    ----------
    fitted : sequence of str
        The attributes that its ``fit`` sets.
    settled : sequence of str
        The parameters that they were learned with, which nobody may set while loading.
    what : str
        What it does, for the card.
    tabulate : callable
        Returns names and values for the card of a fitted one.
    find_faults : callable
        Yields what is wrong with the attributes of a loaded one.
    """

    fitted: Sequence[str]
    settled: Sequence[str]
    what: str
    tabulate: Callable[[Any], list[tuple[str, Any]]]
    find_faults: Callable[[Any], Iterator[str]]

    def find_parts(self, classifier: Any) -> dict[str, Any]:
        """Return the classifier inside, without what keeps ``fit`` from changing it."""
        return {INSIDE: _thaw(classifier.estimator_)}

    def note_stated(self, classifier: Any) -> None:
        """Note, at the end of a fit, which parameters the attributes were learned with."""
        classifier._stated = self._read_stated(classifier)  # noqa: SLF001

    def _read_stated(self, classifier: Any) -> dict[str, Any]:
        return {name: copy(getattr(classifier, name)) for name in self.settled}

    def write(self, classifier: Any, folder: Path, notes: Notes) -> None:
        """Write a fitted wrapper into a folder, the classifier inside below it.

        Raises
        ------
        SavedClassifierError
            If a parameter cannot be written as text or says what was not fitted, or the folder
            holds something else.
        """
        self._check_stated(classifier)
        parameters = classifier.get_params(deep=False)
        del parameters["estimator"]
        inside = _thaw(classifier.estimator_)
        rows = [
            ("classifier inside", f"`{type(inside).__name__}`, in the folder `{INSIDE}`"),
            *self.tabulate(classifier),
        ]
        write_folder(
            folder,
            {
                "class": type(classifier).__name__,
                "parameters": describe(parameters),
                "is_frozen": inside is not classifier.estimator_,
                "fitted": describe_fitted(classifier, self.fitted),
            },
            write_parts=lambda fresh: write_part(inside, fresh / INSIDE, notes.model_names),
            write_card=lambda versions: write_plain_card(
                classifier,
                versions,
                what=self.what,
                table=(("what", "value"), rows),
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
        """Return the wrapper in a folder whose files have been checked.

        Raises
        ------
        SavedClassifierError
            If a change is one of a parameter that says what was fitted, or a value is none that
            ``fit`` or a user could have set.
        ModelLoadingError
            If the base model of the classifier inside cannot be loaded.
        """
        known = set(signature(kind).parameters) - {"estimator"}
        own, of_parts = split_changes(changes, [INSIDE])
        check_changes(kind, place, own, known - set(self.settled), [INSIDE])
        parameters = read_values(record["parameters"], place)
        if unknown := sorted(set(parameters) - known):
            raise refuse(place, f"{kind.__name__} has no parameter {unknown[0]!r}")
        is_frozen = take(record, "is_frozen", bool, place)
        inside = load_part(place.inside(INSIDE, INSIDE), of_parts[INSIDE])
        wrapper = kind(FrozenEstimator(inside) if is_frozen else inside, **parameters)
        _check_parameters(wrapper, place)
        wrapper.estimator_ = wrapper.estimator
        if parameters.get("cv") != "prefit":  # otherwise it was fitted before
            wrapper.estimator = clone(wrapper.estimator)
        set_fitted(wrapper, record, self.fitted, place)
        for fault in self.find_faults(wrapper):
            raise refuse(place, fault)
        self.note_stated(wrapper)
        return wrapper.set_params(**own)

    def _check_stated(self, classifier: Any) -> None:
        """Raise if parameters now say what was not fitted: a reader would believe the card."""
        now = self._read_stated(classifier)
        fitted = vars(classifier).get("_stated", now)  # an old pickle has noted nothing
        for name in self.settled:
            if now[name] != fitted[name]:
                msg = (
                    f"{name}={now[name]!r} was set after the fit with {name}={fitted[name]!r}, "
                    f"which {' and '.join(self.fitted)} belong to. Set it back, or fit again, then "
                    "save."
                )
                raise SavedClassifierError(msg)


def _thaw(classifier: Any) -> Any:
    """Return the classifier that a `FrozenEstimator` holds."""
    return classifier.estimator if isinstance(classifier, FrozenEstimator) else classifier


def _check_parameters(wrapper: Any, place: Place) -> None:
    try:
        wrapper._validate_params()  # noqa: SLF001  (scikit-learn's, for estimators)
    except InvalidParameterError as error:
        raise refuse(place, str(error)) from error
