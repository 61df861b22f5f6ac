"""Docstrings as the pages show them: shared entries filled in, and names of "See Also" as links.

A Griffe extension of mkdocs.yml. Griffe reads source: entries such as ``{model}``, which several
classes share, are filled in when the package is imported.
"""

import inspect
import re
from typing import Any

import griffe

_SHARED = re.compile(r"^\{\w+\}$", re.MULTILINE)
_SEE_ALSO = re.compile(r"(?<=^See Also\n--------\n)(?:\S.*\n?)+", re.MULTILINE)
_RELATED = re.compile(r"^([\w.]+) : ", re.MULTILINE)


class FilledDocstrings(griffe.Extension):
    """Completes docstrings."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Take a docstring with shared entries from the class itself."""
        if cls.docstring is not None and _SHARED.search(cls.docstring.value):
            cls.docstring.value = inspect.getdoc(griffe.dynamic_import(cls.path)) or ""
        _link_names(cls)

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Link the names that a docstring refers to."""
        _link_names(func)


def _link_names(documented: griffe.Object) -> None:
    """Write "See Also" as a list of links."""
    if documented.docstring is not None:
        documented.docstring.value = _SEE_ALSO.sub(_as_links, documented.docstring.value)


def _as_links(entries: re.Match[str]) -> str:
    return _RELATED.sub(lambda name: f"- [`{name[1]}`][{name[1]}]: ", entries[0])
