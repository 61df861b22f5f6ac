"""Outcome ↔ a file of JSON, so that runs that are done need not be done again."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from instructclf.engine.running.processes import is_first_process
from instructclf.evaluation.fingerprints import fingerprint
from instructclf.evaluation.running import Outcome, Run, execute, prepare
from instructclf.evaluation.splitting import Split
from instructclf.exceptions import DataFormatError
from instructclf.storage import replacing_file

_FORMAT = 2


class Place(NamedTuple):
    """Where the outcome of a run is kept."""

    path: Path
    fingerprint: str


class Store:
    """A folder with a file for each finished run, named by what was run.

    Parameters
    ----------
    folder : str, path or None
        The folder, made when there is something to keep. ``None`` keeps nothing.
    split : Split
        The rows that all runs are about.
    """

    def __init__(self, folder: str | PathLike[str] | None, split: Split) -> None:
        self._folder = None if folder is None else Path(folder)
        self._split = split
        self._rows = "" if folder is None else fingerprint(y_test=split.y_test, X_test=split.X_test)

    def execute(self, run: Run, estimator: Any) -> Outcome:
        """Return the outcome of a run, the one in the folder if there is one.

        Parameters
        ----------
        run : Run
            The rows and the seed.
        estimator : estimator
            What is cloned and fitted.

        Returns
        -------
        Outcome
            Predictions and seconds. Seconds of a stored run are those that it took then.

        Raises
        ------
        DataFormatError
            If the file of this run does not hold an outcome.
        """
        prepared = prepare(estimator, run)
        if self._folder is None:
            return execute(run, prepared, self._split)
        place = self._find(run, prepared)
        if place.path.exists():
            return _read(place)
        outcome = execute(run, prepared, self._split)
        if is_first_process():
            _write(place, outcome, approach=repr(estimator))
        return outcome

    def _find(self, run: Run, prepared: Any) -> Place:
        found = fingerprint(
            estimator=prepared,
            seed=run.seed,  # for what draws from a generator that no parameter sets
            X_train=[self._split.X_train[i] for i in run.rows.tolist()],
            y_train=self._split.y_train[run.rows],
            test=self._rows,
        )
        folder = self._folder or Path()
        return Place(folder / f"run-{found[:24]}.json", found)


def _write(place: Place, outcome: Outcome, *, approach: str) -> None:
    """Write in one step, so that a file that is there is whole."""
    scores = outcome.log_probabilities
    content = {
        "format": _FORMAT,
        "fingerprint": place.fingerprint,
        "approach": approach,  # for a reader; the fingerprint decides
        **outcome._asdict(),
        "log_probabilities": None if scores is None else scores.tolist(),
    }
    with replacing_file(place.path) as beside:
        beside.write_text(json.dumps(content), encoding="utf-8")


def _read(place: Place) -> Outcome:
    try:
        content = json.loads(place.path.read_text(encoding="utf-8"))
        if (content["format"], content["fingerprint"]) != (_FORMAT, place.fingerprint):
            raise _not_an_outcome(place)
        outcome = Outcome(**{name: content[name] for name in Outcome._fields})
    except (ValueError, KeyError, TypeError) as error:
        raise _not_an_outcome(place) from error
    scores = outcome.log_probabilities
    return outcome._replace(log_probabilities=None if scores is None else np.array(scores))


def _not_an_outcome(place: Place) -> DataFormatError:
    msg = f"{place.path} is not a finished run of this version. Delete it to run it again."
    return DataFormatError(msg)
