"""Estimators, texts, seeds → scores, seconds and intervals, as tables and pictures."""

from instructclf.evaluation.comparison import ComparisonReport, compare
from instructclf.evaluation.curves import LearningCurve, learning_curve
from instructclf.evaluation.differences import PairedDifference
from instructclf.evaluation.displays import (
    AccuracySecondsDisplay,
    LearningCurveDisplay,
    LossCurveDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    SeedScoresDisplay,
    confusion_display,
)
from instructclf.evaluation.few_shot import FewShot
from instructclf.evaluation.folds import FoldDifference, FoldScores, cross_validate_seeds
from instructclf.evaluation.intervals import Interval
from instructclf.evaluation.metrics import mean_set_size, set_coverage
from instructclf.evaluation.risk_coverage import (
    RiskCoverageCurve,
    area_under_risk_coverage,
    coverage_at_risk,
    risk_coverage_curve,
)
from instructclf.evaluation.robustness.injection import InjectionReport, injection_report
from instructclf.evaluation.robustness.label_order import LabelOrderReport, label_order_report
from instructclf.evaluation.scores import SeedScores
from instructclf.evaluation.seeds import evaluate_seeds

__all__ = [
    "AccuracySecondsDisplay",
    "ComparisonReport",
    "FewShot",
    "FoldDifference",
    "FoldScores",
    "InjectionReport",
    "Interval",
    "LabelOrderReport",
    "LearningCurve",
    "LearningCurveDisplay",
    "LossCurveDisplay",
    "PairedDifference",
    "ReliabilityDisplay",
    "RiskCoverageCurve",
    "RiskCoverageDisplay",
    "SeedScores",
    "SeedScoresDisplay",
    "area_under_risk_coverage",
    "compare",
    "confusion_display",
    "coverage_at_risk",
    "cross_validate_seeds",
    "evaluate_seeds",
    "injection_report",
    "label_order_report",
    "learning_curve",
    "mean_set_size",
    "risk_coverage_curve",
    "set_coverage",
]
