"""The lessons of the reference experiment and the package's defaults, on any model.

    python benchmarks/lessons.py --plan                    how long it would take
    python benchmarks/lessons.py --limit-test 500          everything
    python benchmarks/lessons.py --limit-test 500 --cells 'base/*' --cells 'template/*'
    python benchmarks/lessons.py --table                   page and picture of the results there are
    python benchmarks/lessons.py --model gemma3 --set model_options__dtype=bfloat16

Cells are called lesson/task/classifier-variant. Every classifier learns from sixteen rows. They are
the same under the same seed unless the lesson is about how they are drawn. All variants differ in
one thing from the settings of ``base``. Raw results are kept in ``--out`` and not measured again;
``results/lessons.md`` and ``docs/pictures/lessons.png`` are made from them, whichever options they
were measured with; with another model than the bundled one its name is added to theirs. Each lesson
is a section of the page, which the documentation includes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from approaches import BUNDLED_TUNING, MAX_EPOCHS, chosen_for, prompting, tuning
from cell_scores import CellScores
from cells import Cell, add_options, prepare_process, run, select
from comparison_calibrations import COMPARISONS
from lessons_calibration import by_chance, tabulate_calibration
from lessons_parts import RecalibratedPrompting, SkewedSampler, ZeroShotSampler
from lessons_peers import over_peers, peers_of, tabulate_peers
from lessons_pictures import draw
from lessons_speed import measure_speed
from lessons_tables import summarise, tabulate
from models import BUNDLED, page_name, slowness
from tables import circumstances, markdown, pending, save_page, section
from tasks import AMAZON, TASKS, Rows, Task, available, read_rows

from instructclf import InstructionTunedClassifier, LoRA, PromptClassifier, PromptTemplate
from instructclf.sampling import FacilityLocationSampler, KMeansSampler, VoteKSampler

NAME = "lessons"
LESSON_TASKS = (AMAZON, "cr", "sst2", "emotion")
SHOTS = 16
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
BARE = PromptTemplate("{instruction}\n\n{input}\n{response}")
"""Instruction, text and answer, with nothing but line breaks between them."""
CALIBRATIONS = {"auto": "auto", "none": None, **COMPARISONS}
N_AVERAGED = 5
LESSONS = (
    "base", "speed", "template", "balance", "definitions", "words", "calibration", "samplers",
    "loss", "rate", "rank", "order", "seeds", "peers",
)  # fmt: skip
"""In the order in which they are measured."""


def main() -> None:
    """Measure and write the page, or one of these."""
    options = _parse()
    prepare_process(options)
    names = available(LESSON_TASKS, options.data)
    cells = [cell for name in names for cell in cells_of(TASKS[name], options)]
    cells = select(sorted(cells, key=lambda cell: LESSONS.index(_lesson(cell))), options.cells)
    if not options.table:
        run(cells, options)
    if not options.plan:
        write(cells, options)


def write(cells: list[Cell], options: argparse.Namespace) -> None:
    """Write the page, with a section for each lesson, and the picture."""
    scores = CellScores.read(cells, options)
    if not scores.results:
        print("There are no results yet.")
        return
    record = summarise(scores)
    record |= {"over_peers": over_peers(scores), "by_chance": by_chance(scores)}
    found = tabulate(record)
    found |= {"peers": tabulate_peers(record), "calibration": tabulate_calibration(record)}
    model = "" if options.model == BUNDLED else f" --model {Path(options.model).name}"
    sections = []
    for lesson in LESSONS:
        text = "\n".join(markdown(table) for table in found.get(lesson, ()))
        command = f"python benchmarks/lessons.py{model} --cells '{lesson}/*'"
        sections.append(section(lesson, text or pending(command)))
    measured = circumstances(record["environment"]) if any(found.values()) else ""
    sections.append(section("circumstances", measured))
    text = "\n".join(sections)
    save_page(text, page_name(NAME, options.model), options.results)
    print(text)
    draw(record, options.pictures / f"{page_name(NAME, options.model)}.png")


def _lesson(cell: Cell) -> str:
    return cell.name.split("/")[0]


# Cells


class _Maker:
    """Makes the cells of one task."""

    def __init__(self, task: Task, rows: Rows, options: argparse.Namespace) -> None:
        self.task, self.rows, self.options = task, rows, options
        given = (task, rows, options.model)
        tuned = BUNDLED_TUNING if options.model == BUNDLED else {}
        tuned = tuned | chosen_for(InstructionTunedClassifier, options.parameters)
        prompted = chosen_for(PromptClassifier, options.parameters)
        self.tuned = partial(tuning, *given, **tuned)
        self.prompted = partial(prompting, *given, **(prompted | {"n_shots": None}))
        self.zero = partial(prompting, *given, **(prompted | {"n_shots": 0, "calibration": None}))

    def cell(self, lesson: str, variant: str, estimator: Any, **changes: Any) -> Cell:
        """Return a cell of sixteen rows for each seed."""
        settings: dict[str, Any] = {"n_rows": SHOTS, "n_seeds": self.options.seeds}
        name = f"{lesson}/{self.task.name}/{variant}"
        repeats = getattr(estimator, "n_seeds", 1)
        settings["expected_s"] = repeats * self._expected(variant.partition("-")[0])
        settings["expected_s"] *= slowness(self.options.model)
        return Cell(name, self.task.name, estimator, **(settings | changes))

    def each(self, lesson: str, variant: str, *, zero: bool = False, **changes: Any) -> list[Cell]:
        """Return cells of both classifiers, and of a prompt without shots, changed in one thing."""
        cells = [
            self.cell(lesson, f"tuned-{variant}", self.tuned(**changes)),
            self.cell(lesson, f"prompted-{variant}", self.prompted(**changes)),
        ]
        if zero:
            cells.append(
                self.cell(lesson, f"zero-{variant}", self.zero(**changes), n_rows=0, n_seeds=1)
            )
        return cells

    def drawn(self, lesson: str, variant: str, sampler: Any) -> list[Cell]:
        """Return cells of both classifiers, unchanged, on rows drawn by this sampler."""
        return [
            self.cell(lesson, f"tuned-{variant}", self.tuned(), sampler=sampler),
            self.cell(lesson, f"prompted-{variant}", self.prompted(), sampler=sampler),
        ]

    def _expected(self, classifier: str) -> float:
        rates, n_test = self.task.rates, len(self.rows.split.X_test)
        if classifier == "tuned":
            return SHOTS * MAX_EPOCHS / 2 * rates.row_pass + n_test * rates.text
        return n_test * (rates.text if classifier == "zero" else rates.shot_text) + 4


def cells_of(task: Task, options: argparse.Namespace) -> Iterator[Cell]:
    """Yield all cells of a task."""
    make = _Maker(task, read_rows(task.name, options.data, options.limit_test), options)
    yield from _base(make)
    yield _speed(make)
    yield from make.each("template", "bare", zero=True, template=BARE)
    yield from make.drawn("balance", "random", "random")
    yield from make.drawn("balance", "skewed", SkewedSampler())
    yield from make.each("definitions", "off", zero=True, label_definitions=None)
    for name, words in other_words(make.rows.labels).items():
        yield from make.each("words", name, zero=True, verbalizer=words)
    yield from make.each("order", "random", label_order="random")
    yield from _calibrations(make)
    yield from _samplers(make)
    yield from _tuning(make)
    yield from _averages(make)
    n_texts = len(make.rows.split.X_test)
    for name, estimator, settings in peers_of(make.options.model, n_texts * task.rates.shot_text):
        yield make.cell("peers", name, estimator, **settings)


def _base(make: _Maker) -> Iterator[Cell]:
    settings = {"n_seeds": max(make.options.seeds, make.options.average_seeds)}
    settings["keeps_probabilities"] = True
    yield make.cell("base", "tuned", make.tuned(), **settings)
    yield make.cell("base", "prompted", make.prompted(), **settings)
    yield make.cell("base", "zero", make.zero(), n_rows=0, n_seeds=1)


def _speed(make: _Maker) -> Cell:
    options = make.options
    return Cell(
        f"speed/{make.task.name}/seconds",
        make.task.name,
        None,
        SHOTS,
        options.seeds,
        expected_s=options.speed_texts * make.task.rates.shot_text * 5,
        measure=partial(measure_speed, make.tuned, make.prompted, n_texts=options.speed_texts),
        model=options.model,
    )


def _calibrations(make: _Maker) -> Iterator[Cell]:
    """Yield calibrations with sixteen labelled rows in all, and with more rows than the shots."""
    for name, calibration in CALIBRATIONS.items():
        again = {} if name == "auto" else {"expected_s": 6.0}  # the first one has scored the texts
        few = RecalibratedPrompting(make.prompted(calibration=calibration))
        yield make.cell("calibration", f"prompted-few-{name}", few, **again)
        many = RecalibratedPrompting(make.prompted(n_shots=SHOTS, calibration=calibration))
        yield make.cell("calibration", f"prompted-many-{name}", many, n_rows=None, **again)
    for name in ("auto", "none"):
        estimator = make.tuned(n_shots=SHOTS, calibration=CALIBRATIONS[name])
        yield make.cell("calibration", f"tuned-many-{name}", estimator, n_rows=None)


def _samplers(make: _Maker) -> Iterator[Cell]:
    n_clusters = max(1, SHOTS // len(make.rows.labels))
    zero = make.zero()
    samplers = {
        "kmeans": KMeansSampler(n_clusters=n_clusters),
        "facility_location": FacilityLocationSampler(),
        "vote_k": VoteKSampler(),
        "uncertain": ZeroShotSampler(zero, "uncertain"),
        "certain": ZeroShotSampler(zero, "certain"),
    }
    for name, sampler in samplers.items():
        yield from make.drawn("samplers", name, sampler)


def _tuning(make: _Maker) -> Iterator[Cell]:
    """Yield one cell for each value of a parameter of tuning that is not that of ``base``."""
    ablations: Mapping[str, tuple[str, tuple[Any, ...]]] = {
        "loss": ("loss", ("lm", "label", "lm+label")),
        "rate": ("learning_rate", (5e-5, 2e-4, 5e-4, 1e-3, 2.5e-3, 5e-3)),
        "rank": ("adapter__rank", (4, 16, 64)),
    }
    base = make.tuned(adapter=LoRA()).get_params()
    for lesson, (parameter, values) in ablations.items():
        for value in values:
            if value == base[parameter]:
                continue
            yield make.cell(lesson, f"tuned-{value}", make.tuned(**{parameter: value}))


def _averages(make: _Maker) -> Iterator[Cell]:
    """Yield averages over seeds inside a classifier, which all have the same sixteen rows."""
    settings = {"n_seeds": N_AVERAGED}
    prompted = make.prompted(**settings, n_shots=SHOTS)  # a number, so that each seed orders them
    yield make.cell("seeds", f"prompted-{N_AVERAGED}", prompted)
    yield make.cell("seeds", f"tuned-{N_AVERAGED}", make.tuned(**settings))
    adapters = make.tuned(**settings, training_options__seed_average="adapter")
    yield make.cell("seeds", f"tuned-{N_AVERAGED}-adapter", adapters)


def other_words(labels: list[str]) -> dict[str, dict[str, Any]]:
    """Return other words to answer with: synonyms, the label with a synonym, and letters."""
    letters = {label: "ABCDEFGHIJ"[i] for i, label in enumerate(sorted(labels))}
    if set(labels) == {"negative", "positive"}:
        other = {"negative": "bad", "positive": "good"}
        several = {"negative": ["negative", "bad"], "positive": ["positive", "good"]}
    else:
        other = dict(zip(sorted(labels), _ADJECTIVES, strict=True))
        several = {label: [label, word] for label, word in other.items()}
    return {"other": other, "several": several, "letters": letters}


_ADJECTIVES = ("angry", "afraid", "happy", "loving", "sad", "surprised")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, name=NAME, seeds=10)
    parser.add_argument(
        "--average-seeds", type=int, default=20, help="seeds of base, whose averages are compared"
    )
    parser.add_argument("--speed-texts", type=int, default=100, help="texts that are timed")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="the folder of pictures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
