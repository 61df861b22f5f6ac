"""Scores → pictures, as displays like scikit-learn's. Drawing one imports matplotlib."""

from instructclf.evaluation.displays.accuracy_seconds import AccuracySecondsDisplay
from instructclf.evaluation.displays.confusion import confusion_display
from instructclf.evaluation.displays.learning_curves import LearningCurveDisplay
from instructclf.evaluation.displays.loss_curves import LossCurveDisplay
from instructclf.evaluation.displays.reliability import ReliabilityDisplay
from instructclf.evaluation.displays.risk_coverage import RiskCoverageDisplay
from instructclf.evaluation.displays.seed_scores import SeedScoresDisplay

__all__ = [
    "AccuracySecondsDisplay",
    "LearningCurveDisplay",
    "LossCurveDisplay",
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "SeedScoresDisplay",
    "confusion_display",
]
