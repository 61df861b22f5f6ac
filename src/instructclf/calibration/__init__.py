"""Label log-likelihoods → probabilities: one object for each method. NumPy and SciPy only.

A calibrator has one method, ``calibrate(evidence, rng)``. It looks at what a fitted prompt says
about texts and returns an object with one method, ``log_probabilities(scores)``.
"""

from instructclf.calibration.calibrations import Calibration, Evidence, no_calibration
from instructclf.calibration.labelled_rows import LabelledRowsCalibrator
from instructclf.calibration.named import CALIBRATORS, Calibrator, get_calibrator

__all__ = [
    "CALIBRATORS",
    "Calibration",
    "Calibrator",
    "Evidence",
    "LabelledRowsCalibrator",
    "get_calibrator",
    "no_calibration",
]
