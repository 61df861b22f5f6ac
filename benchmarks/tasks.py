"""The tasks on which accuracy is measured: rows, label words, definitions, and costs of a row.

The rows are not part of the project. A folder holds them as JSON lines with ``text`` and ``label``:
``amazon_polarity/{train,test}.jsonl.gz`` and ``tasks/<name>/{train,test}.jsonl.gz``. The reviews
that ship need no folder.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from instructclf.datasets import LabelledTexts, load_reviews, read_labelled
from instructclf.evaluation.splitting import Split, check_split

AMAZON, REVIEWS = "amazon_polarity", "reviews"
_N_DRAWN = 2000


class Rates(NamedTuple):
    """Rough CPU seconds on one core, only to estimate how long a run takes."""

    row_pass: float
    """A row in an epoch of tuning."""
    text: float
    """A text to predict after a short prompt."""
    shot_text: float
    """A text to predict after shots."""


@dataclass(frozen=True)
class Task:
    """One classification task.

    Parameters
    ----------
    name : str
        Its name in tables and file names.
    folder : str or None
        Where its rows are below the data folder: a folder, or a file, from which test rows are
        drawn; ``None`` for the reviews that ship.
    definitions : dict of str to str or None
        One sentence for each label.
    instruction : str or None
        The question to the model; ``None`` takes the default of the package.
    rates : Rates
        For estimates.
    heldout : Path or None, default=None
        A single file of test rows, for a task without training rows.
    taught_bundled : bool, default=False
        Whether the bundled model learned from these rows, so that only other models are measured.
    """

    name: str
    folder: str | None
    definitions: dict[str, str] | None
    instruction: str | None
    rates: Rates
    heldout: Path | None = None
    taught_bundled: bool = False

    @property
    def teaches_names_only(self) -> bool:
        """Whether training rows only teach the names of the labels."""
        return self.heldout is not None


_PRODUCTS = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}
_REVIEWERS = {
    "negative": "The reviewer is dissatisfied.",
    "positive": "The reviewer is satisfied.",
}
_SHORT = Rates(0.055, 0.007, 0.008)
_MEDIUM = Rates(0.08, 0.012, 0.016)

TASKS = {
    task.name: task
    for task in (
        Task(AMAZON, AMAZON, _PRODUCTS, None, Rates(0.135, 0.022, 0.04)),
        Task("cr", "tasks/cr", _PRODUCTS, None, _SHORT),
        Task(
            "sst2",
            "tasks/sst2",
            {
                "negative": "The reviewer dislikes the film.",
                "positive": "The reviewer likes the film.",
            },
            None,
            _SHORT,
        ),
        Task(
            "emotion",
            "tasks/emotion",
            {
                "anger": "The writer feels angry, annoyed or bitter.",
                "fear": "The writer feels afraid, nervous or unsure.",
                "joy": "The writer feels happy, content or proud.",
                "love": "The writer feels tender, fond or longing.",
                "sadness": "The writer feels sad, hurt or alone.",
                "surprise": "The writer feels amazed, curious or shocked.",
            },
            "Which emotion does the writer feel?",
            _SHORT,
        ),
        Task(
            "banking77",
            "tasks/banking77",
            None,  # the names of 77 labels must be enough
            "What does the customer of a bank ask about?",
            Rates(0.53, 0.088, 0.14),
        ),
        Task(REVIEWS, None, _PRODUCTS, None, _MEDIUM),
        Task(
            "dbpedia14",
            "pretrain/labelled/dbpedia14.jsonl.gz",
            None,
            "What is described?",
            Rates(0.3, 0.03, 0.1),
            taught_bundled=True,
        ),
        Task(
            "sst5",
            "pretrain/labelled/sst5.jsonl.gz",
            None,
            "How does the reviewer judge the film?",
            _SHORT,
            taught_bundled=True,
        ),
    )
}


def add_heldout(paths: Sequence[Path]) -> None:
    """Add files of ``negative`` and ``positive`` texts as tasks, named after the files."""
    for path in paths:
        name = f"heldout-{path.name.partition('.')[0]}"
        TASKS[name] = Task(name, None, _REVIEWERS, None, _MEDIUM, path.resolve())


def natural_words(label: str) -> str:
    """Return a label name as words that a model may answer with."""
    return " ".join(label.replace("_", " ").rstrip("?").lower().split())


def prompt_options(task: Task, labels: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of both estimators that describe a task."""
    words = {label: natural_words(label) for label in sorted(set(labels))}
    return {
        "label_definitions": task.definitions,
        "instruction": task.instruction,
        "verbalizer": None if all(k == v for k, v in words.items()) else words,
    }


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a task, checked, and a digest that identifies them."""

    split: Split
    digest: str

    @property
    def labels(self) -> list[str]:
        """Return all labels, sorted."""
        return sorted({*self.split.y_train.tolist(), *self.split.y_test.tolist()})

    def n_rows(self, per_class: int) -> int:
        """Return how many rows a balanced draw of so many rows per class has."""
        different = set(zip(self.split.X_train, self.split.y_train.tolist(), strict=True))
        counts = Counter(label for _, label in different)
        return sum(min(per_class, count) for count in counts.values())


@cache
def read_rows(name: str, data: Path, limit_test: int | None = None) -> Rows:
    """Return the rows of a task; a limit always leaves the same test rows."""
    train, test = _read(TASKS[name], data)
    order = np.arange(len(test))
    if limit_test is not None and limit_test < len(test):
        order = np.sort(np.random.RandomState(0).permutation(len(test))[:limit_test])
    split = check_split(
        train.texts,
        train.labels,
        [test.texts[i] for i in order],
        [test.labels[i] for i in order],
    )
    digest = hashlib.sha256()
    for part in (split.X_train, split.y_train.tolist(), split.X_test, split.y_test.tolist()):
        digest.update(repr(part).encode())
    return Rows(split, digest.hexdigest()[:16])


def _read(task: Task, data: Path) -> tuple[LabelledTexts, LabelledTexts]:
    if task.heldout is not None:
        labels = sorted(_REVIEWERS)
        return LabelledTexts(labels, labels), read_labelled(task.heldout)
    if task.folder is None:
        return load_reviews("train"), load_reviews("test")
    folder = data / task.folder
    if folder.is_file():
        return _split(read_labelled(folder))
    return read_labelled(folder / "train.jsonl.gz"), read_labelled(folder / "test.jsonl.gz")


def _split(rows: LabelledTexts) -> tuple[LabelledTexts, LabelledTexts]:
    """Return rows to learn from and others to test, always the same ones; no text is in both."""
    order = np.random.RandomState(0).permutation(len(rows.texts)).tolist()
    test, train = order[:_N_DRAWN], order[_N_DRAWN:]
    tested = {rows.texts[i] for i in test}
    kept = [i for i in train if rows.texts[i] not in tested]
    return _take(rows, kept), _take(rows, test)


def _take(rows: LabelledTexts, positions: Sequence[int]) -> LabelledTexts:
    return LabelledTexts([rows.texts[i] for i in positions], [rows.labels[i] for i in positions])


def available(names: Sequence[str], data: Path) -> list[str]:
    """Return the tasks whose rows are in the folder."""
    return [n for n in names if TASKS[n].folder is None or (data / str(TASKS[n].folder)).exists()]
