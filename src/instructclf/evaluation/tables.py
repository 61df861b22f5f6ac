"""Names and scores → the cells of a table, and these as Markdown and as aligned text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from instructclf.evaluation.scores import SeedScores
from instructclf.evaluation.scoring import name_scoring


def write_header(scores: Mapping[str, SeedScores]) -> tuple[str, ...]:
    """Return the names of the columns."""
    name = name_scores(scores.values())
    return ("approach", "shots", name, "95% interval", "fit seconds", "texts per second")


def name_scores(scores: Iterable[SeedScores]) -> str:
    """Return what the scores are, in words, or all of it where they differ."""
    return " or ".join(dict.fromkeys(name_scoring(of.scoring) for of in scores))


def write_cells(scores: Mapping[str, SeedScores]) -> list[tuple[str, ...]]:
    """Return the cells of each row, in the order of the header."""
    return [
        (
            approach,
            _write_shots(of),
            f"{of.mean:.3f}",
            "{:.3f} to {:.3f}".format(*of.interval()),
            _write_number(float(of.fit_seconds.mean())),
            _write_number(of.texts_per_second),
        )
        for approach, of in scores.items()
    ]


def write_caption(scores: Mapping[str, SeedScores]) -> str:
    """Say what the figures are averages over."""
    n_test = max(of.n_test for of in scores.values())
    counts = sorted({of.n_seeds for of in scores.values()})
    if counts == [1]:
        return f"{n_test:,} test texts, one seed; intervals are over texts alone."
    n_seeds = " or ".join(str(count) for count in counts)
    alone = ", over texts alone where there is 1 seed" if 1 in counts else ""
    return f"{n_test:,} test texts, {n_seeds} seeds; intervals are over both{alone}."


def write_markdown(cells: Sequence[tuple[str, ...]], header: Sequence[str]) -> str:
    """Return a Markdown table whose source lines up too."""
    escaped = [tuple(_escape(cell) for cell in row) for row in cells]
    first, *body = _align([tuple(header), *escaped])
    rule = ["-" * len(first[0]), *("-" * (len(name) - 1) + ":" for name in first[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (first, rule, *body))


def write_text(cells: Sequence[tuple[str, ...]], header: Sequence[str]) -> str:
    """Return a table whose columns line up in a terminal."""
    first, *body = _align([tuple(header), *cells])
    rule = ["-" * len(name) for name in first]
    return "\n".join("  ".join(row).rstrip() for row in (first, rule, *body))


def _escape(cell: str) -> str:
    return " ".join(cell.splitlines()).replace("|", "\\|")


def _align(rows: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """Pad cells to the width of their column: the first to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]


def _write_shots(scores: SeedScores) -> str:
    n_rows = len(scores.shots[0])
    return f"all {n_rows:,}" if scores.n_shots is None else f"{n_rows:,}"


def _write_number(value: float) -> str:
    """Return three significant digits, and whole numbers from there on."""
    if value >= 99.95:  # rounds to 100
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
