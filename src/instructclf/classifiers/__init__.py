"""The estimators: a local language model as a scikit-learn text classifier, or for one."""

from instructclf.classifiers.features import PromptFeatures
from instructclf.classifiers.instruction_tuning import InstructionTunedClassifier
from instructclf.classifiers.loading import load
from instructclf.classifiers.prompting import PromptClassifier

__all__ = ["InstructionTunedClassifier", "PromptClassifier", "PromptFeatures", "load"]
