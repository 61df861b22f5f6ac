"""The estimators: thin scikit-learn shells over one fitted value, a `Labeller`.

``fitting`` builds a labeller from checked rows, ``labellers`` holds it, ``label_scores`` reads its
scores. ``saving`` writes and reads it, ``showing`` draws it.
"""

from instructclf.classifiers.features import PromptFeatures
from instructclf.classifiers.instruction_tuning import InstructionTunedClassifier
from instructclf.classifiers.loading import load
from instructclf.classifiers.options import LoRA, ModelOptions, TrainingOptions
from instructclf.classifiers.prompting import PromptClassifier
from instructclf.classifiers.sharing import clear_models

__all__ = [
    "InstructionTunedClassifier",
    "LoRA",
    "ModelOptions",
    "PromptClassifier",
    "PromptFeatures",
    "TrainingOptions",
    "clear_models",
    "load",
]
