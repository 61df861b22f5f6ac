"""Run → outcome, read from a file if the same run was executed before."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import sklearn
from sklearn.utils._param_validation import InvalidParameterError

import instructclf
from instructclf.engine.running.processes import is_first_process
from instructclf.evaluation.running import Outcome, Run, execute, prepare
from instructclf.evaluation.splitting import Split
from instructclf.exceptions import CheckpointError
from instructclf.inputs.paths import expand
from instructclf.storage import fingerprint, read_record, write_record

_REMEDY = "Delete it to run it again."
_ARRAY = "log_probabilities"


def execute_once(
    run: Run, estimator: Any, split: Split, folder: str | PathLike[str] | None
) -> Outcome:
    """Execute a run, or read its outcome if the folder has it.

    Raises
    ------
    InvalidParameterError
        If there is a folder, and a parameter could not be recognised in a later call.
    CheckpointError
        If the file of this run is damaged.
    """
    prepared = prepare(estimator, run)
    if folder is None:
        return execute(run, prepared, split)
    identity = _identify(run, prepared, split)
    path = expand(folder) / f"run-{identity[:24]}.safetensors"
    if path.exists():
        return _read(path, identity)
    outcome = execute(run, prepared, split)
    if is_first_process():
        _write(path, identity, outcome, approach=repr(estimator))
    return outcome


def _identify(run: Run, prepared: Any, split: Split) -> str:
    """Return the fingerprint of all that determines the outcome of a run."""
    versions = [instructclf.__version__, sklearn.__version__]
    rows = [[split.X_train[i] for i in run.rows.tolist()], split.y_train[run.rows]]
    try:
        # The seed counts too: a generator may draw from it that no parameter sets.
        return fingerprint([versions, prepared, run.seed, rows, split.test_fingerprint])
    except TypeError as error:
        msg = (
            f"With a folder, {_find_cause(prepared)} must be recognised in later calls. "
            f"{str(error).removesuffix('.')}. Or leave the folder out."
        )
        raise InvalidParameterError(msg) from None


def _find_cause(prepared: Any) -> str:
    """Name the most deeply nested parameter that has no fingerprint."""
    parameters = prepared.get_params(deep=True)
    for name in sorted(parameters, key=lambda name: -name.count("__")):
        try:
            fingerprint(parameters[name])
        except TypeError:
            return f"the {name!r} parameter of {type(prepared).__name__}"
    return "the estimator"


def _write(path: Path, identity: str, outcome: Outcome, *, approach: str) -> None:
    values = outcome._asdict()
    scores = values.pop(_ARRAY)
    description = {"fingerprint": identity, "approach": approach, **values}  # a name for readers
    write_record(path, description, {} if scores is None else {_ARRAY: scores})


def _read(path: Path, identity: str) -> Outcome:
    description, arrays = read_record(path, _REMEDY)
    if description.pop("fingerprint", None) != identity:
        msg = f"{path} is not the outcome of the run that its name stands for. {_REMEDY}"
        raise CheckpointError(msg)
    del description["approach"]
    return Outcome(**description, log_probabilities=arrays.get(_ARRAY))
