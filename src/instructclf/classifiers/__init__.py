"""The estimators: thin scikit-learn shells over one fitted value, a `Labeller`.

``fitting`` builds a labeller from checked rows, ``labellers`` holds it, ``label_scores`` reads its
scores. ``saving`` writes and reads it, ``showing`` draws it. ``wrapping`` has what stands around
any classifier.
"""

from instructclf.classifiers.features import PromptFeatures
from instructclf.classifiers.instruction_tuning import InstructionTunedClassifier
from instructclf.classifiers.loading import load
from instructclf.classifiers.options import LoRA, ModelOptions, TrainingOptions
from instructclf.classifiers.prompting import PromptClassifier
from instructclf.classifiers.several.outputs import MultiOutputPromptClassifier
from instructclf.classifiers.sharing import clear_models
from instructclf.classifiers.wrapping.approaches import list_approaches
from instructclf.classifiers.wrapping.bag_of_words import BagOfWordsClassifier
from instructclf.classifiers.wrapping.blending import BlendedClassifier
from instructclf.classifiers.wrapping.conformal import ConformalClassifier
from instructclf.classifiers.wrapping.distilling import DistilledClassifier
from instructclf.classifiers.wrapping.ordinal import OrdinalClassifier
from instructclf.classifiers.wrapping.selective import SelectiveClassifier

__all__ = [
    "BagOfWordsClassifier",
    "BlendedClassifier",
    "ConformalClassifier",
    "DistilledClassifier",
    "InstructionTunedClassifier",
    "LoRA",
    "ModelOptions",
    "MultiOutputPromptClassifier",
    "OrdinalClassifier",
    "PromptClassifier",
    "PromptFeatures",
    "SelectiveClassifier",
    "TrainingOptions",
    "clear_models",
    "list_approaches",
    "load",
]
