"""Other libraries on the same sixteen rows: their cells, and the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from approaches import svm
from bundled_model_tables import cell_of, outcome
from cell_scores import CellScores
from lessons_tables import CLASSIFIERS, SCORING, VERDICTS, of_lesson, points, tests_of
from peers.few_shot import EncoderRegression, SetFit, SkorchPrompting
from tables import Table

OURS = ("tuned", "prompted")
PEERS = {
    "skorch": "skorch `FewShotClassifier`, the same model",
    "setfit": "SetFit, all-MiniLM-L6-v2",
    "encoder": "all-MiniLM-L6-v2 + logistic regression",
    "svm": "TF-IDF + LinearSVC",
}
SKORCH_SEEDS = 3
"""Its runs take longest, since every text goes through the model with the full prompt."""


def peers_of(model: str, shot_text_s: float) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield the name and the estimator of each peer, and the settings of its cell.

    Parameters
    ----------
    model : str
        The language model, for the peer that takes one.
    shot_text_s : float
        Roughly the seconds of our prompting on all test rows.
    """
    yield "svm", svm(), {"expected_s": 0.1}
    yield "encoder", EncoderRegression(), {"expected_s": 15.0}
    yield "setfit", SetFit(), {"expected_s": 40.0}
    settings = {"n_seeds": SKORCH_SEEDS, "expected_s": 15 * shot_text_s}
    yield "skorch", SkorchPrompting(model), settings


def over_peers(scores: CellScores) -> dict[str, Any]:
    """Return how much better both of our classifiers are than each peer, on common seeds."""
    return {
        f"{ours}/{name}": found
        for name in scores.scores
        for ours in OURS
        if name.startswith("peers/")
        and (found := scores.difference(f"base/{name.split('/')[1]}/{ours}", name, SCORING))
    }


def tabulate_peers(record: dict[str, Any]) -> list[Table]:
    """Return the tables of accuracy and of differences, or none without results to compare."""
    tasks = list(dict.fromkeys(task for task, _, _ in of_lesson(record, "peers")))
    if not tasks or not record["over_peers"]:
        return []
    note = tests_of(record, "peers")
    kinds = {
        "Accuracy": _accuracies(record, tasks),
        "Balanced accuracy": _accuracies(record, tasks, balanced=True),
    }
    header = ("", "task", "ours", "points", "")
    return [
        *(
            Table(f"{kind} with sixteen rows", ("", *tasks), list(rows), (note,))
            for kind, rows in kinds.items()
        ),
        Table("Ours minus each, balanced accuracy", header, list(_differences(record))),
    ]


def _accuracies(
    record: dict[str, Any], tasks: list[str], *, balanced: bool = False
) -> Iterator[tuple[str, ...]]:
    cells = record["cells"]
    names = {f"base/{{}}/{ours}": f"instructclf, {CLASSIFIERS[ours]}" for ours in OURS}
    names |= {f"peers/{{}}/{peer}": title for peer, title in PEERS.items()}
    for name, title in names.items():
        found = [cells.get(name.format(task)) for task in tasks]
        yield (title, *(cell_of(cell["balanced"] if cell and balanced else cell) for cell in found))


def _differences(record: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for peer, title in PEERS.items():
        for task, kind, _ in of_lesson(record, "peers"):
            for ours in OURS if kind == peer else ():
                found = record["over_peers"].get(f"{ours}/peers/{task}/{peer}")
                if found:
                    verdict = VERDICTS[outcome(found)]
                    yield title, task, CLASSIFIERS[ours], points(found), verdict
