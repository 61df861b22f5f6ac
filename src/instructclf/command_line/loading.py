"""CLASSIFIER → the fitted classifier, with what the command line changes of it."""

from __future__ import annotations

import argparse
from typing import Any

from instructclf import InstructionTunedClassifier, load
from instructclf.command_line.parameters import read_parameters


def load_named(options: argparse.Namespace) -> Any:
    """Return the classifier that the command line names.

    Parameters
    ----------
    options : argparse.Namespace
        What the command line says.

    Returns
    -------
    estimator
        The fitted classifier.
    """
    # Until it is loaded nobody knows its class. The tuned one has the parameters of both.
    changes = read_parameters(InstructionTunedClassifier, options.parameters)
    if options.model is not None:
        changes["model"] = options.model
    return load(
        options.classifier, revision=options.revision, verbose=int(options.progress), **changes
    )
