"""A grid search of three shot counts over three folds: seconds, and how often a model is loaded."""

from __future__ import annotations

import tempfile
import warnings
from statistics import median as median_of
from typing import Any

import models
import texts as data
from measuring import Settings, run_fresh, set_threads, timed
from sklearn.model_selection import GridSearchCV
from tables import Table, number, times
from transformers import AutoTokenizer, PreTrainedModel

from instructclf import PromptClassifier, bundled

OURS, SKORCH = "instructclf", "skorch FewShotClassifier"
_SHOTS = (4, 8, 16)
_N_FOLDS = 3
_N_ROWS = 24
"""Two of three folds have the sixteen rows that the largest candidate takes."""

_SKORCH_PROMPT = """Below is an instruction that describes a task, paired with an input that \
provides further context. Write a response that appropriately completes the request.

### Instruction:
Classify the input. Answer with exactly one of these labels: {labels}.
{examples}
### Input:
{text}

### Response:
"""


def measure(settings: Settings) -> dict[str, Any]:
    """Search with each in turn, each time in a new process that has not loaded a model."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(bundled.model_path())
        if settings.toy:
            folder = models.save(models.BUNDLED, temporary, toy=True)
        runs: dict[str, list[dict[str, Any]]] = {OURS: [], SKORCH: []}
        for _ in range(settings.rounds):
            for variant, found in runs.items():
                options = {"variant": variant, "folder": folder, "threads": settings.threads}
                found.append(run_fresh("grid_search:search", **options, seed=settings.seed))
    return {"shots": _SHOTS, "folds": _N_FOLDS, "rows": _N_ROWS, "runs": runs}


def search(*, variant: str, folder: str, threads: int, seed: int) -> dict[str, Any]:
    """Run the grid search, and count the loads of a model."""
    set_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = data.paired_reviews(tokenizer, data.SHOT, _N_ROWS, data.TWO_LABELS, seed=seed)
    estimator, grid = _ours(folder) if variant == OURS else _skorch(folder)
    searching = GridSearchCV(estimator, grid, cv=_N_FOLDS, scoring="accuracy")
    n_loads = _count_loads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # skorch, on its prompt
        _, timing = timed(lambda: searching.fit(rows.texts, rows.labels))
    return {
        "cpu_s": timing.cpu_s,
        "wall_s": timing.wall_s,
        "loads": len(n_loads),
        "fits": len(_SHOTS) * _N_FOLDS + 1,
        "accuracies": searching.cv_results_["mean_test_score"].tolist(),
    }


def _ours(folder: str) -> tuple[Any, dict[str, Any]]:
    return PromptClassifier(folder, calibration=None, random_state=0), {"n_shots": list(_SHOTS)}


def _skorch(folder: str) -> tuple[Any, dict[str, Any]]:
    from skorch.llm import FewShotClassifier  # noqa: PLC0415  (takes seconds, which ours does not need)

    estimator = FewShotClassifier(folder, prompt=_SKORCH_PROMPT, random_state=0)
    return estimator, {"max_samples": list(_SHOTS)}


def _count_loads() -> list[str]:
    """Return a list that records each call that loads a model's weights."""
    loads: list[str] = []
    load = PreTrainedModel.from_pretrained.__func__

    def counted(cls: type, *arguments: Any, **options: Any) -> Any:
        loads.append(cls.__name__)
        return load(cls, *arguments, **options)

    PreTrainedModel.from_pretrained = classmethod(counted)  # pyright: ignore[reportAttributeAccessIssue]
    return loads


def tabulate(record: dict[str, Any]) -> list[Table]:
    """Make the table of the page."""
    seconds = {
        variant: {
            kind: median_of(run[kind] for run in runs) for kind in ("cpu_s", "wall_s", "loads")
        }
        for variant, runs in record["runs"].items()
    }
    rows = []
    for variant, found in seconds.items():
        is_ours = variant == OURS
        loads = int(found["loads"])
        target = f"loads = 1, {'met' if loads == 1 else '**missed**'}" if is_ours else ""
        ratio = "1" if is_ours else times(found["cpu_s"] / seconds[OURS]["cpu_s"])
        name = f"**{variant}**" if is_ours else variant
        rows.append(
            [name, number(found["cpu_s"]), number(found["wall_s"]), ratio, str(loads), target]
        )
    shots = ", ".join(map(str, record["shots"]))
    note = (
        f"Shots {shots} over {record['folds']} folds of {record['rows']} rows of about a hundred "
        "tokens, and the final fit: ten fits. Bundled model, by name, in a process that has "
        "imported everything but not loaded a model. The texts are the same; skorch formats and "
        "draws its examples differently."
    )
    header = ["variant", "CPU s", "wall s", "ratio", "loads of the base model", "target"]
    return [Table("Grid search, 3 shot counts, 3 folds", header, rows, [note])]
