"""Calibrator name → calibrator, and what the classifiers ask of one."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.calibration.calibrations import Calibration, Evidence, no_calibration
from instructclf.calibration.labelled_rows import LabelledRowsCalibrator


@runtime_checkable
class Calibrator(Protocol):
    """A method of calibration."""

    def calibrate(self, evidence: Evidence, rng: np.random.RandomState) -> Any:
        """Return what turns scores into log-probabilities.

        Parameters
        ----------
        evidence : Evidence
            The rows of ``fit``, and what the fitted prompt says about texts.
        rng : RandomState
            Decides which rows are drawn.

        Returns
        -------
        object with a log_probabilities method
            Such as a `Calibration`.
        """
        ...


class _NoCalibrator:
    """Only normalises."""

    def calibrate(self, evidence: Evidence, rng: np.random.RandomState) -> Calibration:  # noqa: ARG002
        return no_calibration(evidence.n_classes)


CALIBRATORS: dict[str | None, type[Calibrator]] = {
    "auto": LabelledRowsCalibrator,
    None: _NoCalibrator,
}


def get_calibrator(calibration: str | Calibrator | None) -> Calibrator:
    """Return the calibrator of this name, or the calibrator itself.

    Parameters
    ----------
    calibration : str, None or object with a calibrate method
        ``"auto"``, ``None`` to only normalise, or a calibrator, which comes back unchanged.

    Returns
    -------
    object with a calibrate method
        The calibrator.

    Raises
    ------
    InvalidParameterError
        If no calibrator has this name and the value has no ``calibrate`` method.
    """
    if (calibration is None or isinstance(calibration, str)) and calibration in CALIBRATORS:
        return CALIBRATORS[calibration]()
    if isinstance(calibration, Calibrator) and not isinstance(calibration, type):
        return calibration
    names = ", ".join(map(repr, CALIBRATORS))
    msg = (
        f"The 'calibration' parameter must be one of {names}, or an object with a calibrate "
        f"method. Got {calibration!r} instead."
    )
    raise InvalidParameterError(msg)
