"""Estimators, texts, seeds → scores and tables: how good and how fast, and how sure that is."""

from instructclf.evaluation.comparison import ComparisonReport, compare
from instructclf.evaluation.seeds import SeedScores, evaluate_seeds

__all__ = ["ComparisonReport", "SeedScores", "compare", "evaluate_seeds"]
