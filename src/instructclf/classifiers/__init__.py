"""The estimators: a local language model as a scikit-learn text classifier, or for one."""

from instructclf.classifiers.chunks import predict_in_chunks
from instructclf.classifiers.features import PromptFeatures
from instructclf.classifiers.instruction_tuning import InstructionTunedClassifier
from instructclf.classifiers.loading import load
from instructclf.classifiers.prompting import PromptClassifier
from instructclf.classifiers.sharing import clear_models

__all__ = [
    "InstructionTunedClassifier",
    "PromptClassifier",
    "PromptFeatures",
    "clear_models",
    "load",
    "predict_in_chunks",
]
