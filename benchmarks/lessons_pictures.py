"""The figures of ``lessons.py`` → one picture of the six lessons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lessons_speed import FULL, PROMPTED, TUNED
from lessons_tables import TITLES, of_lesson, speeds
from matplotlib import pyplot as plt

COLOURS = {"tuned": "#0072B2", "prompted": "#D55E00", "zero": "#6A6A6A"}
_MARKERS = {"tuned": "o", "prompted": "s", "zero": "D"}
_NAMES = {"tuned": "tuning", "prompted": "prompting", "zero": "zero-shot"}
_AHEAD = {"amazon_polarity": "amazon"}
_STYLE = {
    "figure.facecolor": "white",  # opaque, so that the text can be read on a dark page
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw a panel for each lesson that has results, and save them."""
    panels: dict[str, tuple[str, Callable[[Any, dict[str, Any]], None]]] = {
        "speed": ("Texts per second, one core", _speed),
        "averages": ("Standard deviation over seeds", _averages),
        "template": ("Bare text minus Alpaca", _differences("template")),
        "definitions": ("Without definitions minus with", _differences("definitions")),
        "balance": ("Other draws minus balanced", _differences("balance")),
        "samplers": ("Samplers minus balanced", _differences("samplers")),
    }
    has = {name.split("/")[0] for name in record["differences"]}
    has |= {"speed"} if any(n.startswith("speed/") for n in record["cells"]) else set()
    has |= {"averages"} if any(record["averages"].values()) else set()
    chosen = [name for name in panels if name in has]
    if not chosen:
        return
    n_columns = min(2, len(chosen))
    pairs = [chosen[i : i + n_columns] for i in range(0, len(chosen), n_columns)]
    heights = [max(_height(record, name) for name in pair) for pair in pairs]
    with plt.style.context(["default", _STYLE]):
        figure, axes = plt.subplots(
            len(pairs), n_columns, figsize=(4.2 * n_columns, sum(heights) + 0.3),
            layout="constrained", squeeze=False, height_ratios=heights,
        )  # fmt: skip
        for ax, name in zip(axes.flat, chosen, strict=False):
            title, fill = panels[name]
            fill(ax, record)
            ax.set_title(title, loc="left")
        for ax in axes.flat[len(chosen) :]:
            ax.remove()
        _legend(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, metadata={"Software": None})
        plt.close(figure)


def _height(record: dict[str, Any], lesson: str) -> float:
    """Return how many inches the lines of a panel take."""
    lines = {(variant, task) for task, _, variant in of_lesson(record, lesson)}
    return max(2.5, 1 + 0.21 * len(lines))


def _legend(figure: Any) -> None:
    handles = [
        plt.Line2D([], [], color=colour, marker=_MARKERS[kind], linestyle="", label=_NAMES[kind])
        for kind, colour in COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False)


def _differences(lesson: str) -> Callable[[Any, dict[str, Any]], None]:
    def fill(ax: Any, record: dict[str, Any]) -> None:
        """Draw points and intervals, a line for each task and variant."""
        found = of_lesson(record, lesson)
        lines = list(dict.fromkeys((variant, task) for task, _, variant in found))
        lines.sort(key=lambda line: list(TITLES[lesson]).index(line[0]))
        kinds = list(dict.fromkeys(classifier for _, classifier, _ in found))
        for task, classifier, variant in found:
            difference = record["differences"].get(f"{lesson}/{task}/{classifier}-{variant}")
            if difference is None:
                continue
            shift = kinds.index(classifier) - (len(kinds) - 1) / 2
            y = lines.index((variant, task)) + 0.22 * shift
            low, middle, high = (100 * difference[key] for key in ("low", "difference", "high"))
            ax.hlines(y, low, high, color=COLOURS[classifier], linewidth=1.4)
            ax.plot(middle, y, _MARKERS[classifier], color=COLOURS[classifier], markersize=4)
        several = len({variant for variant, _ in lines}) > 1
        names = [f"{TITLES[lesson][v]}, {_short(t)}" if several else _short(t) for v, t in lines]
        ax.set_yticks(range(len(lines)), labels=names, fontsize=7 if len(lines) > 8 else 8.5)
        ax.set_ylim(len(lines) - 0.5, -0.5)
        ax.axvline(0, color="#333333", linewidth=0.9)
        ax.set_xlabel("balanced accuracy, points, 95% interval")
        ax.grid(visible=True, axis="x", alpha=0.25)
        ax.tick_params(axis="y", length=0)

    return fill


def _speed(ax: Any, record: dict[str, Any]) -> None:
    """Draw the speed of both: filled markers with the shared prefix, hollow ones without."""
    cells = record["cells"].items()
    of_task = {n.split("/")[1]: figures for n, figures in cells if n.startswith("speed/")}
    for row, figures in enumerate(of_task.values()):
        found = speeds(figures)
        for variant in (TUNED, PROMPTED):
            for name, colour in ((variant, COLOURS[variant]), (f"{variant}, {FULL}", "none")):
                y = row + (-0.14 if variant == TUNED else 0.14)
                ax.plot(
                    1 / found[name]["cpu_s_per_text"], y, _MARKERS[variant], markersize=6,
                    markerfacecolor=colour, markeredgecolor=COLOURS[variant],
                )  # fmt: skip
    ax.set_xscale("log")
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if _within(n, ax.get_xlim())]
    ax.set_xticks(ticks, labels=map(str, ticks))
    ax.set_xticks([], minor=True)
    ax.set_yticks(range(len(of_task)), labels=[_short(task) for task in of_task])
    ax.set_ylim(len(of_task) - 0.5, -0.5)
    ax.set_xlabel("hollow: without the shared prefix")
    ax.grid(visible=True, axis="x", alpha=0.25)
    ax.tick_params(axis="y", length=0)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _averages(ax: Any, record: dict[str, Any]) -> None:
    """Draw the spread over the number of seeds averaged: each task, and their mean."""
    curves: dict[str, list[tuple[list[int], list[float]]]] = {}
    for name, averages in record["averages"].items():
        if averages:
            sizes = [1, *(average["n_averaged"] for average in averages)]
            spreads = [100 * averages[0]["single_std"], *(100 * a["std"] for a in averages)]
            curves.setdefault(name.split("/")[2], []).append((sizes, spreads))
    for classifier, of_tasks in curves.items():
        for sizes, spreads in of_tasks:
            ax.plot(sizes, spreads, color=COLOURS[classifier], linewidth=0.8, alpha=0.45)
        shared = min((sizes for sizes, _ in of_tasks), key=len)
        means = [sum(s[i] for _, s in of_tasks) / len(of_tasks) for i in range(len(shared))]
        ax.plot(shared, means, marker=_MARKERS[classifier], color=COLOURS[classifier], linewidth=2)
    ax.set_xticks(
        sorted({n for of_tasks in curves.values() for sizes, _ in of_tasks for n in sizes})
    )
    ax.set_ylim(bottom=0)
    ax.set_xlabel("seeds averaged (bold: mean of tasks)")
    ax.set_ylabel("percentage points")
    ax.grid(visible=True, axis="y", alpha=0.25)


def _short(task: str) -> str:
    return _AHEAD.get(task, task)
