"""Local language models as scikit-learn text classifiers, by prompting or instruction tuning.

The public names are resolved on first use: importing this package imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instructclf.classifiers import (
        BagOfWordsClassifier,
        BlendedClassifier,
        ConformalClassifier,
        DistilledClassifier,
        InstructionTunedClassifier,
        LoRA,
        ModelOptions,
        MultiOutputPromptClassifier,
        OrdinalClassifier,
        PromptClassifier,
        PromptFeatures,
        SelectiveClassifier,
        TrainingOptions,
        clear_models,
        list_approaches,
        load,
    )
    from instructclf.prompts import PromptTemplate

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
    "PromptTemplate",
    "SelectiveClassifier",
    "TrainingOptions",
    "__version__",
    "clear_models",
    "list_approaches",
    "load",
]

__version__ = "0.1.0"

_ROOMS = {
    "BagOfWordsClassifier": "instructclf.classifiers",
    "BlendedClassifier": "instructclf.classifiers",
    "ConformalClassifier": "instructclf.classifiers",
    "DistilledClassifier": "instructclf.classifiers",
    "InstructionTunedClassifier": "instructclf.classifiers",
    "OrdinalClassifier": "instructclf.classifiers",
    "PromptClassifier": "instructclf.classifiers",
    "LoRA": "instructclf.classifiers",
    "ModelOptions": "instructclf.classifiers",
    "MultiOutputPromptClassifier": "instructclf.classifiers",
    "PromptFeatures": "instructclf.classifiers",
    "TrainingOptions": "instructclf.classifiers",
    "PromptTemplate": "instructclf.prompts",
    "SelectiveClassifier": "instructclf.classifiers",
    "clear_models": "instructclf.classifiers",
    "list_approaches": "instructclf.classifiers",
    "load": "instructclf.classifiers",
}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return getattr(import_module(_ROOMS[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
