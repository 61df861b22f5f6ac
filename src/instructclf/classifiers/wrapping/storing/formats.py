"""What a stored classifier asks of the format of its folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from instructclf.classifiers.saving.places import Place

LoadPart: TypeAlias = Callable[[Place, Mapping[str, Any]], Any]
"""Loads the classifier at a place, with parameters to take instead of the saved ones."""


@dataclass(frozen=True)
class Notes:
    """What a folder says that the classifier does not know.

    Parameters
    ----------
    scores : mapping of str to float
        Figures for the card.
    model_names : mapping of str to str
        Names that base models have in the folder, by the names that they have here.
    source : str
        What ``load`` is told in the example of the card.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    model_names: Mapping[str, str] = field(default_factory=dict)
    source: str = "this folder"


class Format(ABC):
    """How a kind of classifier is written into a folder, and read from it."""

    fitted: Sequence[str]
    """The attributes that ``fit`` sets and ``classifier.json`` holds."""

    @abstractmethod
    def find_parts(self, classifier: Any) -> dict[str, Any]:
        """Return the fitted classifiers inside, by the names that their parameters begin with."""

    @abstractmethod
    def write(self, classifier: Any, folder: Path, notes: Notes) -> None:
        """Write a fitted classifier, whose parts can be saved, into a folder."""

    @abstractmethod
    def read(
        self,
        kind: type,
        record: Mapping[str, Any],
        place: Place,
        changes: Mapping[str, Any],
        load_part: LoadPart,
    ) -> Any:
        """Return the classifier in a folder whose files have been checked."""
