"""The cells of a table → HTML for any page, light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

# Text has the colour of the page, and rules a shade of it. Styles are set on the cells themselves,
# because the style sheet of a notebook or a site would otherwise decide on alignment.
_TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"
_CAPTION = "caption-side:bottom;text-align:left;padding:.5em .75em;font-size:.9em;opacity:.8"
_CELL = "padding:.35em .75em;background:none;border:0"
_RULE = "border-bottom:1px solid rgba(127,127,127,.45)"


def write_html(
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
