"""Where a saved classifier lies: in a folder of its own, or within that of another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """The folder of a classifier, and how ``load`` reaches it from the folder it was given.

    Parameters
    ----------
    folder : Path
        The folder.
    whole : str
        What ``load`` was given: a folder, or a repository on the hub.
    prefix : str, default=""
        What the names of its parameters begin with there, such as ``"tuning__"``.
    """

    folder: Path
    whole: str
    prefix: str = ""

    def inside(self, folder: str, name: str) -> Place:
        """Return the place of a classifier inside this one, in a folder of its own."""
        return Place(self.folder / folder, self.whole, f"{self.prefix}{name}__")

    def loading_with(self, parameter: str) -> str:
        """Return the call that loads the whole with another value of a parameter, for messages."""
        return f"load({self.whole!r}, {self.prefix}{parameter}=...)"
