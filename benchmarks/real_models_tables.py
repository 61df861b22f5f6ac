"""The raw results of ``real_models.py`` → its page."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from bundled_model_tables import interval_of, number_of
from cell_scores import CellScores, mean_of, scores_of
from cell_settings import model_digest, newest
from models import page_name
from raw_results import RawResults
from tables import Table, circumstances, markdown, number, pending, save_page, section
from tasks import AMAZON, available, read_rows

NAME = "real_models"


def write(
    options: argparse.Namespace, chosen_on: Sequence[str], confirmed_on: Sequence[str]
) -> None:
    """Write the page of one model."""
    settings = _read(options, (*chosen_on, *confirmed_on), options.limit_test)
    headline = _read(options, (AMAZON,), None)
    if not settings.results and not headline.results:
        print("There are no results yet.")
        return
    kinds = {"chosen": chosen_on, "confirmed": confirmed_on}
    found = {"headline": _headlines(headline)}
    command = _command(options)
    found |= {kind: list(_comparisons(settings, tasks, command)) for kind, tasks in kinds.items()}
    found["precisions"] = _precisions(settings)
    found["details"] = list(_details(settings))
    where = (settings if settings.results else headline).record()["environment"]
    lines = [
        section(part, "\n".join(map(markdown, tables)) or pending(command))
        for part, tables in found.items()
    ]
    text = "\n".join([*lines, section("circumstances", circumstances(where))])
    save_page(text, page_name(NAME, options.model), options.results)
    print(text)


def _command(options: argparse.Namespace) -> str:
    limit = "" if options.limit_test is None else f" --limit-test {options.limit_test}"
    return f"python benchmarks/real_models.py --model {Path(options.model).name}{limit}"


def _read(options: argparse.Namespace, tasks: Sequence[str], limit: int | None) -> CellScores:
    """Return the newest results of this model on these test rows, by cell."""
    raw, model = RawResults(options.out), model_digest(options.model)
    digests = {
        task: read_rows(task, options.data, limit).digest for task in available(tasks, options.data)
    }
    found = {}
    for cell in raw.cells():
        digest = digests.get(cell.split("/")[0])
        results = [r for r in raw.read(cell) if r["settings"]["rows"] == digest]
        if results := newest(results, model):
            found[cell] = [r for r in results if "failed" not in r] or results[:1]
    return CellScores(found, {n: scores_of(rs) for n, rs in found.items() if "truth" in rs[0]})


# Tables


def _headlines(scores: CellScores) -> list[Table]:
    rows = [(*_name(cell), *_figures(scores, cell, interval=True)) for cell in _sorted(scores)]
    header = ("rows a label", "", "accuracy", "95% interval", *_HEADER)
    return [Table(f"Accuracy on all test rows of {AMAZON}", header, rows)] if rows else []


def _precisions(scores: CellScores) -> list[Table]:
    """Return accuracy in both precisions, of the same rows under the same seeds."""
    rows = []
    for cell in _sorted(scores):
        half = cell.removesuffix(_PRECISE)
        if half == cell or half not in scores.scores or cell not in scores.scores:
            continue
        difference, changes = scores.difference(half, cell), scores.share_of_changes(half, cell)
        if difference is not None and changes is not None:
            size, approach = _name(half)
            points = f"{100 * difference['difference']:+.1f}"
            entries = [_accuracy(scores, each) for each in (half, cell)]
            task = cell.partition("/")[0]
            rows.append((task, size, approach, *entries, points, f"{100 * changes:.1f}%"))
    figures = ("bfloat16", "float32", "points over float32", "changed answers")
    header = ("", "rows a label", "", *figures)
    note = "Points and changed answers are those of the draws that both precisions have."
    return [Table("Accuracy in both precisions", header, rows, (note,))] if rows else []


_PRECISE = "-float32"
_HEADER = ("sd", "draws", "log loss", "calibration error", "epochs", "fit, CPU s", "CPU ms a text")


def _details(scores: CellScores) -> Iterator[Table]:
    """Yield everything that was measured of each task."""
    for task in dict.fromkeys(cell.split("/")[0] for cell in scores.results):
        cells = [cell for cell in _sorted(scores) if cell.startswith(f"{task}/")]
        rows = [(*_name(cell), *_figures(scores, cell)) for cell in cells]
        (n_test,) = {scores.results[cell][0]["settings"]["n_test"] for cell in cells}
        header = ("rows a label", "", "accuracy", "balanced", *_HEADER)
        yield Table(f"{task}, {n_test} test rows", header, rows)


def _comparisons(scores: CellScores, tasks: Sequence[str], command: str) -> Iterator[Table]:
    """Yield one table of accuracies for each number of rows, with the best settings first."""
    for size in sorted({cell.split("/")[1] for cell in scores.results}, key=_size):
        variants = {n.split("/")[2] for n in scores.results if n.split("/")[1] == size}
        rows = []
        for variant in variants:
            cells = [f"{task}/{size}/{variant}" for task in tasks]
            entries = [_accuracy(scores, cell) for cell in cells]
            if any(entry != _NOTHING for entry in entries):
                family = _family(variant)
                gains = [_gain(scores, c, f"{c.rpartition('/')[0]}/{family}") for c in cells]
                rows.append((family, gains, (variant, *entries, *_summary(gains))))
        if rows:
            rows.sort(key=lambda row: (row[0], -np.mean([g for g in row[1] if g] or [0])))
            header = ("", *tasks, "points over the first setting", "tasks")
            title = f"Accuracy, {size} rows a label"
            has_distilled = any(family == _UNDISTILLED for family, *_ in rows)
            notes = (_MEANING, *([_MEANING_DISTILLED] if has_distilled else []), f"`{command}`")
            yield Table(title, header, [row for *_, row in rows], notes)


_UNDISTILLED = "tuning-label-rate-1e-4"
_MEANING = (
    "Mean over draws ± standard deviation (draws). Points are means over tasks, on the draws that "
    "both have; the first setting is that without an addition to its name."
)
_MEANING_DISTILLED = f"Points of *distilled* are over {_UNDISTILLED}, without unlabelled texts."
_NOTHING = "—"


def _accuracy(scores: CellScores, cell: str) -> str:
    if cell not in scores.scores:
        return "fails" if cell in scores.results else _NOTHING
    found = scores.scores[cell]
    spread = f" ± {found.std:.3f}" if found.n_seeds > 1 else ""
    return f"{found.mean:.3f}{spread} ({found.n_seeds})"


def _gain(scores: CellScores, cell: str, base: str) -> float | None:
    difference = None if cell == base else scores.difference(cell, base)
    return None if difference is None else 100 * difference["difference"]


def _summary(gains: Sequence[float | None]) -> tuple[str, str]:
    given = [gain for gain in gains if gain is not None]
    return (f"{np.mean(given):+.1f}", str(len(given))) if given else ("", "")


def _figures(scores: CellScores, cell: str, *, interval: bool = False) -> tuple[str, ...]:
    results, figures = scores.results[cell], scores.figures(cell)
    text_s = mean_of(results, "cpu_s_per_text")
    if "failed" in figures:
        return ("fails", *[""] * (1 + len(_HEADER)))
    return (
        number_of(figures["accuracy"]),
        interval_of(figures) if interval else number_of(figures["balanced"]["accuracy"]),
        number_of(figures["std"]),
        str(len(results)),
        number_of(figures["log_loss"]),
        number_of(figures["calibration_error"]),
        number(figures["epochs"]),
        number(mean_of(results, "fit_cpu_s")),
        number(None if text_s is None else 1000 * text_s),
    )


# Names


def _name(cell: str) -> tuple[str, str]:
    _, size, variant = cell.split("/", 2)
    return size, variant


def _sorted(scores: CellScores) -> list[str]:
    """Return the names of the cells: few rows first, and each approach with its first setting."""
    return sorted(scores.results, key=lambda n: (n.split("/")[0], _size(_name(n)[0]), _name(n)[1]))


def _size(size: str) -> float:
    return float("inf") if size == "all" else int(size)


def _family(variant: str) -> str:
    """Return the approach: the name of its first setting."""
    first = variant.partition("+")[0]
    if first.startswith("distilled"):
        return _UNDISTILLED
    return "zero-shot" if first.startswith("zero-shot") else first.partition("-")[0]
