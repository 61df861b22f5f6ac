"""The table of scored tokens → HTML that is readable on any page, light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

# Colours come from the page: text in its colour, rules in a shade of it.
_TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums;margin:0"
_NOTES = "padding:.5em;max-width:60em;font-size:.9em;opacity:.8"
_CELL = "padding:.25em .5em;background:none;border:0;vertical-align:top"
_RULE = "border-top:1px solid rgba(127,127,127,.45)"
_PIECE = (
    "font-family:ui-monospace,Menlo,Consolas,monospace;padding:.05em .3em;border-radius:3px;"
    "background:rgba(214,40,110,.16);white-space:pre-wrap;unicode-bidi:isolate"
)
_REMARK = "font-size:.85em;opacity:.8;max-width:14em"
_N_TEXT_COLUMNS = 2
"""Label and token; numbers come after them, and last a remark."""


def write_tokens(
    header: Sequence[str], labels: Sequence[Sequence[tuple[str, ...]]], notes: Sequence[str]
) -> str:
    """Return a table element, with a group of rows for each label."""
    head = "".join(
        f'<th scope="col" style="{_CELL};font-weight:600;text-align:{_side(n)}">{name}</th>'
        for n, name in enumerate(header[:-1])
    )
    groups = "".join(map(_write_group, labels))
    below = "".join(f"<div>{escape(note)}</div>" for note in notes)
    # The wrapper scrolls where the page is narrow; a scrolled region must be reachable by keyboard.
    return (
        '<div style="overflow-x:auto" tabindex="0" role="region" aria-label="Scored tokens">'
        f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead>{groups}</table></div>'
        f'<div style="{_NOTES}">{below}</div>'
    )


def _write_group(rows: Sequence[tuple[str, ...]]) -> str:
    name = escape(rows[0][0])
    label = (
        f'<th scope="rowgroup" rowspan="{len(rows)}" '
        f'style="{_CELL};{_RULE};text-align:left;font-weight:600">{name}</th>'
    )
    *tokens, total = rows
    written = [_write_cells(row, rule=_RULE if n == 0 else "") for n, row in enumerate(tokens)]
    written.append(_write_sum(total))
    written[0] = label + written[0]
    return f"<tbody>{''.join(f'<tr>{row}</tr>' for row in written)}</tbody>"


def _write_cells(row: Sequence[str], *, rule: str) -> str:
    _, piece, *numbers, remark = map(escape, row)
    token = f'<code style="{_PIECE}">{piece}</code>'
    below = f'<div style="{_REMARK}">{remark}</div>' if remark else ""
    cells = [f"{token}{below}", *numbers]
    return "".join(_cell(cell, n, rule) for n, cell in enumerate(cells, start=1))


def _write_sum(row: Sequence[str]) -> str:
    cells = (f"<strong>{escape(cell)}</strong>" if cell else "" for cell in row[1:-1])
    return "".join(_cell(cell, n, "") for n, cell in enumerate(cells, start=1))


def _cell(content: str, position: int, rule: str) -> str:
    return f'<td style="{_CELL};{rule};text-align:{_side(position)}">{content}</td>'


def _side(position: int) -> str:
    return "left" if position < _N_TEXT_COLUMNS else "right;white-space:nowrap"
