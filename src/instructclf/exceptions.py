"""Errors and warnings of this package.

::

    Exception
    └── InstructClfError
        ├── InvalidTextsError (ValueError, TypeError)  X is not a sequence of strings
        ├── InvalidLabelsError (ValueError)    labels, definitions or words do not fit together
        ├── InvalidShotsError (ValueError)     shots cannot be drawn from the rows
        ├── InvalidTemplateError (ValueError)  a template is unknown or malformed
        ├── ModelLoadingError (OSError, ValueError)  a model or tokenizer cannot be loaded
        ├── PromptTooLongError (ValueError)    the prompt leaves no room for a text
        ├── ScoringError (RuntimeError)        scores could not be computed
        ├── OtherProcessError (RuntimeError)   another process of the job failed or ended
        ├── DataFormatError (ValueError)       a data file is not as expected
        ├── TrainingDivergedError (RuntimeError)  the training loss or its gradient is not finite
        ├── SavedClassifierError (OSError, ValueError)  a classifier cannot be saved or loaded
        │   └── CheckpointError      a checkpoint is damaged, or belongs to other work
        └── MissingExtraError (ImportError)    an optional dependency is missing
    UserWarning
    └── InstructClfWarning
        ├── AllAbstainedWarning  no threshold keeps the stated risk, so no text gets a label
        ├── TruncationWarning    texts were cut to fit the context
        ├── FailedRunWarning     a tuning run learned nothing and was restarted
        ├── ChanceLevelWarning   held-out rows are labelled no better than by chance
        ├── MissingClassWarning  a defined label has no row in the data of ``fit``
        ├── NumberedLabelsWarning  labels are numbers without definitions
        ├── SharedDeviceWarning  several processes each load a model onto one GPU
        └── RemoteCodeWarning    a model runs code from its repository

As in scikit-learn, a parameter value outside its domain raises ``InvalidParameterError``, and using
an unfitted estimator raises ``NotFittedError``.
"""

import inspect
import warnings

__all__ = [
    "AllAbstainedWarning",
    "ChanceLevelWarning",
    "CheckpointError",
    "DataFormatError",
    "FailedRunWarning",
    "InstructClfError",
    "InstructClfWarning",
    "InvalidLabelsError",
    "InvalidShotsError",
    "InvalidTemplateError",
    "InvalidTextsError",
    "MissingClassWarning",
    "MissingExtraError",
    "ModelLoadingError",
    "NumberedLabelsWarning",
    "OtherProcessError",
    "PromptTooLongError",
    "RemoteCodeWarning",
    "SavedClassifierError",
    "ScoringError",
    "SharedDeviceWarning",
    "TrainingDivergedError",
    "TruncationWarning",
    "warn_caller",
]


class InstructClfError(Exception):
    """Base of every error raised by this package."""


class InvalidTextsError(InstructClfError, ValueError, TypeError):
    """``X`` is not a sequence of strings."""


class InvalidLabelsError(InstructClfError, ValueError):
    """Labels, label definitions or label words do not fit together."""


class InvalidShotsError(InstructClfError, ValueError):
    """The requested number of shots cannot be drawn from the rows."""


class InvalidTemplateError(InstructClfError, ValueError):
    """A prompt template is unknown or malformed."""


class ModelLoadingError(InstructClfError, OSError, ValueError):
    """A model or its tokenizer cannot be loaded."""


class PromptTooLongError(InstructClfError, ValueError):
    """Instruction, definitions and demonstrations leave no room for a text."""


class ScoringError(InstructClfError, RuntimeError):
    """Label log-likelihoods could not be computed."""


class OtherProcessError(InstructClfError, RuntimeError):
    """Another process that shares the work failed or ended."""


class TrainingDivergedError(InstructClfError, RuntimeError):
    """The training loss or its gradient is not finite."""


class SavedClassifierError(InstructClfError, OSError, ValueError):
    """A classifier cannot be saved or loaded."""


class CheckpointError(SavedClassifierError):
    """A checkpoint of interrupted work is damaged, or belongs to other work."""


class DataFormatError(InstructClfError, ValueError):
    """A data file does not have the expected format or columns."""


class MissingExtraError(InstructClfError, ImportError):
    """An optional dependency is needed but not installed."""


class InstructClfWarning(UserWarning):
    """Base of every warning raised by this package."""


class AllAbstainedWarning(InstructClfWarning):
    """No threshold keeps the risk that was stated, so that no text gets a label."""


class TruncationWarning(InstructClfWarning):
    """Texts were shortened to fit the model's context."""


class FailedRunWarning(InstructClfWarning):
    """A tuning run did no better than guessing and was restarted with another seed."""


class ChanceLevelWarning(InstructClfWarning):
    """A fitted classifier labels the rows that calibrate it no better than chance would."""


class MissingClassWarning(InstructClfWarning):
    """A defined label has no row in the data given to ``fit``."""


class NumberedLabelsWarning(InstructClfWarning):
    """Labels are numbers, and nothing tells the model what they mean."""


class SharedDeviceWarning(InstructClfWarning):
    """Several processes of one program each load a base model onto the same GPU."""


class RemoteCodeWarning(InstructClfWarning):
    """A model given as an object runs code from its repository, not from transformers."""


def warn_caller(message: str, category: type[InstructClfWarning]) -> None:
    """Issue a warning that points at the user's line of code.

    Frames of this package are skipped, and those of scikit-learn and contextlib, which wrap its
    methods.

    Parameters
    ----------
    message : str
        The problem and its remedy.
    category : type
        The warning's class.
    """
    packages = {__name__.partition(".")[0], "contextlib", "sklearn"}
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals["__name__"].partition(".")[0] in packages:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
