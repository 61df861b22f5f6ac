"""What decides the result of a cell, and the results that it was the same for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from raw_results import RawResult
from tasks import Rows

import instructclf
from instructclf import bundled
from instructclf.engine.models.names import list_parts

if TYPE_CHECKING:
    from cells import Cell

_NOT_SETTINGS = {"model", "steps", "random_state", "checkpoint_dir"}


def settings_of(cell: Cell, rows: Rows) -> dict[str, Any]:
    """Return everything that decides the result of a cell under some seed."""
    parameters = cell.estimator.get_params(deep=True) if cell.estimator is not None else {}
    models = [v for k, v in parameters.items() if k.split("__")[-1] == "model"] or [cell.model]
    model = None if models[0] is None else model_digest(str(models[0]))
    return {
        "estimator": type(cell.estimator).__name__,
        "parameters": {
            name: type(value).__name__ if hasattr(value, "get_params") else repr(value)
            for name, value in sorted(parameters.items())
            if name.split("__")[-1] not in _NOT_SETTINGS
        },
        "n_rows": cell.n_rows,
        "sampler": repr(cell.sampler),
        "rows": rows.digest,
        "n_test": len(rows.split.X_test),
        "model": model,
        "device": None if model is None else _device(),
        "version": instructclf.__version__,
    }


def agree(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Say whether two settings give the same result.

    A parameter that only one of them has is newer than the other result, which was measured with
    what its default now says.
    """
    one, other = (settings["parameters"] for settings in (first, second))
    return all(one[name] == other[name] for name in one.keys() & other.keys()) and all(
        first[name] == second[name] for name in first if name != "parameters"
    )


_digests: dict[str, str] = {}


def model_digest(model: str) -> str:
    """Return a digest of a model's files, or the name of a model that is on a hub."""
    if model not in _digests:
        path = bundled.model_path() if model == "bundled" else Path(model)
        _digests[model] = _digest_files(path) if path.exists() else model
    return _digests[model]


def _digest_files(path: Path) -> str:
    digest = hashlib.sha256()
    if path.is_file():  # GGUF: everything is in one file or its parts, whose names say nothing
        for part in list_parts(path.name):
            with path.with_name(part).open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        return digest.hexdigest()[:16]
    for file in sorted(p for p in path.glob("*") if p.suffix in {".json", ".safetensors"}):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def newest(results: Sequence[RawResult], model: str) -> list[RawResult]:
    """Return the results with the newest settings, by seed, for this model or for none."""
    of_model = [r for r in results if r["settings"]["model"] in (None, model)]
    if not of_model:
        return []
    last = of_model[-1]["settings"]
    by_seed = {r["seed"]: r for r in of_model if agree(r["settings"], last)}
    return [by_seed[seed] for seed in sorted(by_seed)]
