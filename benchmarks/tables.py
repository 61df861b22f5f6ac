"""Records → JSON files, and Markdown pages with their tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Table:
    """One table of a page.

    Parameters
    ----------
    title : str
        The line above it.
    header : sequence of str
        One entry for each column.
    rows : sequence of sequence of str
        One entry for each cell.
    notes : sequence of str, default=()
        Sentences below it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def markdown(table: Table) -> str:
    """Return a table as Markdown, with its title before it and its notes after it."""
    lines = [f"**{table.title}**", "", _row(table.header), _row(_rule(table))]
    lines += [_row(row) for row in table.rows]
    for note in table.notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def page(record: dict[str, Any], tables: Iterable[Table]) -> str:
    """Return the tables of one benchmark, and the circumstances of the measurement."""
    return "\n".join([*(markdown(table) for table in tables), circumstances(record["environment"])])


def pending(command: str) -> str:
    """Return the page of a benchmark that has no figures."""
    return f"*Not measured yet:* `{command}`.\n"


def section(name: str, text: str) -> str:
    """Return a part of a page that another page can include as ``page.md:name``."""
    return f"<!-- --8<-- [start:{name}] -->\n\n{text}\n<!-- --8<-- [end:{name}] -->\n"


def last_environment(environments: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the latest of several environments, and which other processors were in use."""
    every = list(environments)
    last = max(every, key=lambda where: where["date"])
    others = sorted({where["processor"] for where in every} - {last["processor"]})
    return {**last, "other_processors": others}


def circumstances(environment: dict[str, Any]) -> str:
    """Return a few sentences about machine, versions and date."""
    packages = ", ".join(f"{name} {v}" for name, v in environment["packages"].items() if v)
    toy = " **Toy size: these numbers mean nothing.**" if environment["toy"] else ""
    return (
        f"Measured on {environment['date']}, {environment['processor']}, {environment['cores']} "
        f"cores, {environment['threads']} thread(s), {environment['rounds']} round(s), Python "
        f"{environment['python']}, {packages}.{_others(environment)}{toy}\n"
    )


def _others(environment: dict[str, Any]) -> str:
    others = environment.get("other_processors")
    if not others:
        return ""
    return (
        f" Other results are from {' and '.join(others)}: seconds of different rows may not be "
        "comparable."
    )


def save_record(record: dict[str, Any], name: str, out: Path) -> Path:
    """Write a record to ``<out>/<name>.json``."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def load_record(name: str, out: Path) -> dict[str, Any]:
    """Read a record from ``<out>/<name>.json``."""
    return json.loads((out / f"{name}.json").read_text(encoding="utf-8"))


def save_page(text: str, name: str, out: Path) -> Path:
    """Write Markdown to ``<out>/<name>.md``."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.md"
    path.write_text(text, encoding="utf-8")
    return path


# Entries of tables


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, or ``—`` for ``None``."""
    if value is None:
        return "—"
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return f"{float(text):.10f}".rstrip("0").rstrip(".") if "e-0" in text else text


def times(value: float | None) -> str:
    """Return a ratio, followed by the multiplication sign."""
    return "—" if value is None else f"{number(value)}{TIMES}"


def small(value: float | None) -> str:
    """Return a small number in powers of ten, such as a difference of log-probabilities."""
    return "—" if value is None else f"{value:.1e}"


def at_least(value: float | None, target: float) -> str:
    """Return a ratio's target and whether it was met."""
    return _verdict(value, f"≥ {target:g}{TIMES}", met=value is not None and value >= target)


def at_most(value: float | None, target: float, unit: str = TIMES) -> str:
    """Return an upper target and whether it was met."""
    return _verdict(value, f"≤ {target:g}{unit}", met=value is not None and value <= target)


def _verdict(value: float | None, target: str, *, met: bool) -> str:
    if value is None:
        return f"{target}, not measured"
    return f"{target}, {'met' if met else '**missed**'}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _rule(table: Table) -> list[str]:
    """Return the line that aligns words to the left and figures to the right."""
    columns = [[row[i] for row in table.rows] for i in range(len(table.header))]
    return ["---:" if i and _are_figures(column) else "---" for i, column in enumerate(columns)]


def _are_figures(column: Sequence[str]) -> bool:
    return all(value[:1] in _BEGIN_FIGURES for value in map(str, column) if value)


_BEGIN_FIGURES = frozenset("0123456789+-<~\N{EM DASH}")
