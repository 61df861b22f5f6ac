"""Docstrings with shared entries, such as ``{model}`` → what they are once the package is imported.

A Griffe extension of mkdocs.yml: Griffe reads source, and the entries are filled in on import.
"""

import inspect
import re
from typing import Any

import griffe

_SHARED = re.compile(r"^\{\w+\}$", re.MULTILINE)


class FilledDocstrings(griffe.Extension):
    """Takes the docstring of a class from the class itself where its source has shared entries."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Replace the docstring."""
        if cls.docstring is not None and _SHARED.search(cls.docstring.value):
            cls.docstring.value = inspect.getdoc(griffe.dynamic_import(cls.path)) or ""
