"""Rows of figures → a data frame, and cells → a table as text, Markdown and HTML."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from typing import Any, ClassVar

from instructclf.datasets.extras import import_data_extra

# Text has the colour of the page, and rules a shade of it. Styles are set on the cells themselves,
# because the style sheet of a notebook or a site would otherwise decide on alignment.
_TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"
_CAPTION = "caption-side:bottom;text-align:left;padding:.5em .75em;font-size:.9em;opacity:.8"
_CELL = "padding:.35em .75em;background:none;border:0"
_RULE = "border-bottom:1px solid rgba(127,127,127,.45)"


class Figures(ABC):
    """Figures that can be read as dicts and as a data frame."""

    @abstractmethod
    def to_rows(self) -> list[dict[str, Any]]:
        """Return the figures, unrounded."""

    def to_frame(self) -> Any:
        """Return the figures, unrounded, as a data frame.

        Returns
        -------
        pandas.DataFrame
            A row for each dict of ``to_rows``.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        pandas = import_data_extra("pandas", needed_for="A data frame")
        return pandas.DataFrame(self.to_rows())


class Table(Figures):
    """Figures that are also a table; subclasses provide its cells and its caption."""

    _title: ClassVar[str]

    @abstractmethod
    def _header(self) -> tuple[str, ...]:
        """Return the names of the columns."""

    @abstractmethod
    def _cells(self) -> list[tuple[str, ...]]:
        """Return the cells of each row. The first cell names the row."""

    @abstractmethod
    def _caption(self) -> str:
        """Return an explanation of the figures, which stands below the table."""

    def to_markdown(self) -> str:
        """Return the table in Markdown.

        Returns
        -------
        str
            The table and its caption.
        """
        return f"{_write_markdown(self._cells(), self._header())}\n\n{self._caption()}"

    def to_html(self) -> str:
        """Return the table in HTML, as a notebook shows it.

        Returns
        -------
        str
            A ``table`` element with a caption and header cells, for any page, light or dark.
            Names are escaped.
        """
        return _write_html(self._cells(), self._caption(), self._header(), title=self._title)

    def __str__(self) -> str:
        return f"{_write_text(self._cells(), self._header())}\n\n{self._caption()}"

    def _repr_html_(self) -> str:
        return self.to_html()


def _write_markdown(cells: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Return a Markdown table with aligned source."""
    escaped = [tuple(_escape(cell) for cell in row) for row in cells]
    first, *body = _align([header, *escaped])
    rule = ["-" * len(first[0]), *("-" * (len(name) - 1) + ":" for name in first[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (first, rule, *body))


def _write_text(cells: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Return a table whose columns are aligned in a terminal."""
    first, *body = _align([header, *cells])
    rule = ["-" * len(name) for name in first]
    return "\n".join("  ".join(row).rstrip() for row in (first, rule, *body))


def _escape(cell: str) -> str:
    return " ".join(cell.splitlines()).replace("|", "\\|")


def _align(rows: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """Pad cells to the width of their column: the first to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]


def _write_html(
    cells: Sequence[tuple[str, ...]],
    caption: str,
    header: Sequence[str],
    *,
    title: str,
) -> str:
    """Return a table element."""
    head = "".join(_cell("th", name, 'scope="col"', n) for n, name in enumerate(header))
    body = [
        _cell("th", row[0], 'scope="row"', 0)
        + "".join(_cell("td", cell, "", n) for n, cell in enumerate(row[1:], start=1))
        for row in cells
    ]
    rows = "\n".join(f"<tr>{row}</tr>" for row in body)
    # On narrow pages the wrapper scrolls; a scrolled region must be reachable by keyboard.
    return (
        f'<div style="overflow-x:auto" tabindex="0" role="region" aria-label="{escape(title)}">\n'
        f'<table style="{_TABLE}">\n<caption style="{_CAPTION}">{escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def _cell(tag: str, text: str, scope: str, position: int) -> str:
    align = "left;min-width:8em" if position == 0 else "right;white-space:nowrap"
    weight = "600" if scope == 'scope="col"' else "400"
    style = f"{_CELL};{_RULE};text-align:{align};font-weight:{weight}"
    return f'<{tag}{" " if scope else ""}{scope} style="{style}">{escape(text)}</{tag}>'
