"""One of two processes of a job on simulated GPUs: the script that a launcher starts in each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import peft  # noqa: F401  (as in conftest.py)

from instructclf import load
from tests.classifiers.two_processes import NEW, RANK, tune
from tests.simulated_device.simulation import simulated_gpus


def main(model, saved, results):
    with simulated_gpus(2):
        classifier = load(saved)
        base = classifier.open_model().base  # before the processes have shared anything
        found = {
            "devices": sorted({str(weight.device) for weight in base.model.parameters()}),
            "predicted": classifier.predict_proba(NEW),
            **tune(model),
        }
        np.savez(Path(results) / f"{RANK}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
