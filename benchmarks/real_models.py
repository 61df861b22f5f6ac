"""Settings compared on a real model: accuracy on six tasks, and seconds.

    python benchmarks/real_models.py --model gemma3 --plan
    python benchmarks/real_models.py --model gemma3 --limit-test 500 --seeds 3
    python benchmarks/real_models.py --model smollm2 --limit-test 500 --cells '*/8/tuning*'
    python benchmarks/real_models.py --model gemma3 --table

``--model`` is ``gemma3`` or ``smollm2``, as `models.find_model` finds them, a GGUF file, a folder
or a name on a hub. Cells are called task/size/variant; a size is the number of training rows of
each label, ``all`` or ``0``. All variants learn from the same rows under the same seed. They are in
`VARIANTS`: each is tuning or prompting as in `TUNING` or `PROMPTING`, changed in what its name
says; *distilled* tunes on texts that the named teacher has labelled, too. *encoder* is logistic
regression on embeddings of all-MiniLM-L6-v2, and *setfit* tunes that encoder; they take the
packages of ``requirements.txt``. Values of ``--set`` become part of the name. Settings are chosen
on the tasks `CHOSEN_ON` and confirmed on those in `CONFIRMED_ON`.

Raw results are kept in ``--out`` and not measured again. ``results/real_models-<model>.md`` is made
from them: the first table from runs on all test rows, the others from those with ``--limit-test``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from approaches import chosen_for, distilled, features, prompting, svm, tuning
from cells import Cell, add_options, prepare_process, run, select
from models import slowness
from peers.few_shot import EncoderRegression, SetFit
from real_models_tables import write
from tasks import AMAZON, TASKS, Rows, Task, available, read_rows

from instructclf import InstructionTunedClassifier, PromptClassifier, PromptFeatures

NAME = "real_models"
CHOSEN_ON = (AMAZON, "emotion", "dbpedia14")
CONFIRMED_ON = ("cr", "sst5", "banking77")
SIZES = (8, 16)

_DTYPE = "model_options__dtype"
TUNING: dict[str, Any] = {
    "loss": "lm+label",
    "learning_rate": 2e-4,
    "max_epochs": 20,
    "batch_size": 8,
    "adapter__rank": 16,
    "template": "alpaca",
    "calibration": "auto",
    "training_options__target_loss": 0.05,
    "training_options__n_iter_no_change": 3,
    _DTYPE: "bfloat16",
}
"""What tuning is compared with. Stated, so that results outlast a change of the defaults."""
PROMPTING: dict[str, Any] = {
    "n_shots": None,
    "template": "alpaca",
    "calibration": "auto",
    _DTYPE: "bfloat16",
}
_LABEL = {"loss": "label"}
DEFAULT = "tuning-label-rate-1e-4"
"""The variant of tuning that these measurements made the default."""
VARIANTS: dict[str, dict[str, Any]] = {
    "tuning": {},
    "tuning-label": _LABEL,
    "tuning-lm": {"loss": "lm"},
    "tuning-rate-5e-5": {"learning_rate": 5e-5},
    "tuning-rate-1e-4": {"learning_rate": 1e-4},
    "tuning-rate-5e-4": {"learning_rate": 5e-4},
    "tuning-rate-1e-3": {"learning_rate": 1e-3},
    "tuning-label-rate-5e-5": _LABEL | {"learning_rate": 5e-5},
    "tuning-label-rate-1e-4": _LABEL | {"learning_rate": 1e-4},
    "tuning-label-rate-5e-4": _LABEL | {"learning_rate": 5e-4},
    "tuning-label-rate-1e-3": _LABEL | {"learning_rate": 1e-3},
    "tuning-label-batch-4": _LABEL | {"batch_size": 4},
    "tuning-label-batch-16": _LABEL | {"batch_size": 16},
    "tuning-label-rank-4": _LABEL | {"adapter__rank": 4},
    "tuning-label-rank-8": _LABEL | {"adapter__rank": 8},
    "tuning-label-epochs-5": _LABEL | {"max_epochs": 5},
    "tuning-label-epochs-10": _LABEL | {"max_epochs": 10},
    "tuning-label-epochs-40": _LABEL | {"max_epochs": 40},
    "tuning-label-until-0.01": _LABEL | {"training_options__target_loss": 0.01},
    "tuning-label-until-0.2": _LABEL | {"training_options__target_loss": 0.2},
    "tuning-label-patience-6": _LABEL | {"training_options__n_iter_no_change": 6},
    "tuning-label-seeds-3": _LABEL | {"n_seeds": 3},
    "tuning-batch-4": {"batch_size": 4},
    "tuning-batch-16": {"batch_size": 16},
    "tuning-rank-4": {"adapter__rank": 4},
    "tuning-rank-8": {"adapter__rank": 8},
    "tuning-epochs-10": {"max_epochs": 10},
    "tuning-epochs-40": {"max_epochs": 40},
    "tuning-chat": {"template": "chat"},
    "tuning-label-chat": _LABEL | {"template": "chat"},
    "tuning-float32": {_DTYPE: "float32"},
    "tuning-label-float32": _LABEL | {_DTYPE: "float32"},
    "prompting": {},
    "prompting-uncalibrated": {"calibration": None},
    "prompting-chat": {"template": "chat"},
    "prompting-chat-uncalibrated": {"template": "chat", "calibration": None},
    "prompting-float32": {_DTYPE: "float32"},
    "prompting-unordered": {"label_order": "unordered"},
    "zero-shot": {"n_shots": 0, "calibration": None},
    "zero-shot-float32": {"n_shots": 0, "calibration": None, _DTYPE: "float32"},
    "zero-shot-chat": {"n_shots": 0, "calibration": None, "template": "chat"},
    "zero-shot-unordered": {"n_shots": 0, "calibration": None, "label_order": "unordered"},
    "zero-shot-calibrated": {"n_shots": 0},
    "zero-shot-chat-calibrated": {"n_shots": 0, "template": "chat"},
    "features": {_DTYPE: "bfloat16"},
    "distilled-prompted": _LABEL | {"learning_rate": 1e-4},
    "distilled-prompted-1024": _LABEL
    | {"learning_rate": 1e-4, "n_unlabelled": 1024, "n_texts_per_label": 128},
    "distilled-prompted-1024-32": _LABEL | {"learning_rate": 1e-4, "n_unlabelled": 1024},
    "distilled-prompted-64": _LABEL | {"learning_rate": 1e-4, "n_texts_per_label": 64},
    "distilled-prompted-seeds-3": _LABEL | {"learning_rate": 1e-4, "n_seeds": 3},
    "distilled-averaged": _LABEL | {"learning_rate": 1e-4},
    "distilled-distilled": _LABEL | {"learning_rate": 1e-4},
    "distilled-tuned": _LABEL | {"learning_rate": 1e-4},
    "distilled-blended": _LABEL | {"learning_rate": 1e-4},
    "distilled-tuned-64": _LABEL | {"learning_rate": 1e-4, "n_texts_per_label": 64},
    "distilled-blended-64": _LABEL | {"learning_rate": 1e-4, "n_texts_per_label": 64},
    "svm": {},
    "encoder": {},
    "setfit": {},
}
OTHERS: dict[str, dict[str, Any]] = {
    "tuning-other-rows": {},
    "tuning-other-rows-uncalibrated": {"calibration": None},
    "tuning-label-other-rows": _LABEL,
    "prompting-other-rows": {},
}
"""Variants with as many shots as the size says, and all other rows to calibrate on."""
MANY = dict.fromkeys(("500", "all"), ("tuning", "tuning-label", DEFAULT, "svm"))
"""Variants with many rows, of Amazon Polarity."""
_WITHOUT_MODEL = {"svm": svm, "encoder": EncoderRegression, "setfit": SetFit}
"""What learns from the same rows without a language model that reads prompts."""
_KINDS = {
    **_WITHOUT_MODEL,
    "features": PromptFeatures,
    "tuning": InstructionTunedClassifier,
    "distilled": InstructionTunedClassifier,
}


def main() -> None:
    """Measure and write the page, or one of these."""
    options = _parse()
    prepare_process(options)
    if not options.table:
        names = available((*CHOSEN_ON, *CONFIRMED_ON), options.data)
        cells = [cell for name in names for cell in cells_of(TASKS[name], options)]
        run(select(sorted(cells, key=_order), options.cells), options)
    if not options.plan:
        write(options, CHOSEN_ON, CONFIRMED_ON)


# Cells


def cells_of(task: Task, options: argparse.Namespace) -> Iterator[Cell]:
    """Yield all cells of a task."""
    rows = read_rows(task.name, options.data, options.limit_test)
    make = _Maker(task, rows, options)
    for variant in VARIANTS:
        if variant.startswith("zero-shot") and not variant.endswith("calibrated"):
            yield make.cell("0", variant, n_rows=0, n_seeds=1)
            continue
        for size in map(str, SIZES):
            yield make.cell(size, variant)
    for variant in OTHERS:
        for size in SIZES:
            shots = {"n_shots": rows.n_rows(size)}
            yield make.cell(str(size), variant, shots, n_rows=None)
    for size, variants in MANY.items() if task.name == AMAZON else ():
        for variant in variants:
            yield make.many(size, variant)


class _Maker:
    """Makes the cells of one task."""

    def __init__(self, task: Task, rows: Rows, options: argparse.Namespace) -> None:
        self.task, self.rows, self.options = task, rows, options

    def cell(
        self, size: str, variant: str, changes: dict[str, Any] | None = None, **settings: Any
    ) -> Cell:
        """Return a cell whose estimator is changed in addition, for each seed."""
        n_rows = self.rows.n_rows(int(size)) if size.isdecimal() and size != "0" else None
        approach = variant.partition("-")[0]
        kind = _KINDS.get(approach, PromptClassifier)
        given = chosen_for(kind, self.options.parameters)
        return Cell(
            "/".join((self.task.name, size, _name(variant, given))),
            self.task.name,
            self._estimator(approach, variant, {**(changes or {}), **given}),
            **{
                "n_rows": n_rows,
                "n_seeds": self.options.seeds,
                "expected_s": self._expected(approach, n_rows or len(self.rows.split.X_train)),
                **settings,
            },
        )

    def many(self, size: str, variant: str) -> Cell:
        """Return a cell that learns from many rows, and can be interrupted."""
        changes: dict[str, Any] = {}
        if variant.startswith("tuning"):
            changes["training_options__checkpoint_dir"] = str(self.options.checkpoints)
            if size == "all":
                changes["max_epochs"] = 1
        n_seeds = 1 if size == "all" else self.options.seeds
        return self.cell(size, variant, changes, n_seeds=n_seeds)

    def _estimator(self, approach: str, variant: str, changes: dict[str, Any]) -> Any:
        given = (self.task, self.rows, self.options.model)
        own = VARIANTS.get(variant) or OTHERS.get(variant) or {}
        if approach in _WITHOUT_MODEL:
            return _WITHOUT_MODEL[approach]()
        if approach == "features":
            return features(*given, **(own | changes))
        if approach == "distilled":
            teacher = variant.split("-")[1]
            return distilled(*given, teacher=teacher, **(TUNING | own | changes))
        if approach == "tuning":
            return tuning(*given, **(TUNING | own | changes))
        return prompting(*given, **(PROMPTING | own | changes))

    def _expected(self, approach: str, n_rows: int) -> float:
        rates, n_test = self.task.rates, len(self.rows.split.X_test)
        passes = {"svm": 0, "tuning": min(10 * n_rows, max(20_000, n_rows)) * rates.row_pass}
        texts = {"svm": 0, "prompting": n_test * rates.shot_text}
        seconds = passes.get(approach, 0) + texts.get(approach, n_test * rates.text)
        return 0.1 + slowness(self.options.model) * seconds


def _name(variant: str, given: dict[str, Any]) -> str:
    return "+".join((variant, *(f"{name}={value}" for name, value in sorted(given.items()))))


def _order(cell: Cell) -> tuple[bool, int, int]:
    """Sort by the table of variants and then by task, few rows first."""
    task, size, name = cell.name.split("/")
    variants, tasks = (*VARIANTS, *OTHERS), (*CHOSEN_ON, *CONFIRMED_ON)
    return (size not in {"0", "8"}, variants.index(name.partition("+")[0]), tasks.index(task))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, name=NAME, seeds=5)
    parser.set_defaults(model="gemma3")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        default=Path(__file__).with_name("data") / "checkpoints",
        help="the folder of long runs that were interrupted",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
