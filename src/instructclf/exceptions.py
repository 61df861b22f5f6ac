"""Errors and warnings that this package raises on its own account.

::

    Exception
    └── InstructClfError
        ├── InvalidTextsError (ValueError, TypeError)  an entry of X is no text
        ├── InvalidLabelsError (ValueError)    y, classes, definitions or words do not fit
        ├── InvalidShotsError (ValueError)     shots cannot be drawn from the rows
        ├── InvalidTemplateError (ValueError)  a template is unknown or malformed
        ├── ModelLoadingError (OSError, ValueError)  a model or tokenizer cannot be loaded
        ├── PromptTooLongError (ValueError)    the prompt leaves no room for a text
        ├── ScoringError (RuntimeError)        scores could not be computed
        ├── OtherProcessError (RuntimeError)   another process of the job failed or is gone
        ├── DataFormatError (ValueError)       a data file is not as expected
        ├── TrainingDivergedError (RuntimeError)  the training loss or its gradient is not finite
        ├── SavedClassifierError (OSError, ValueError)  a classifier cannot be saved or loaded
        │   └── CheckpointError      a checkpoint is damaged, or is of something else
        └── MissingExtraError (ImportError)    an optional dependency is missing
    UserWarning
    └── InstructClfWarning
        ├── TruncationWarning    texts were cut to fit the context
        ├── FailedRunWarning     a tuning run learned nothing and was restarted
        ├── MissingClassWarning  a defined label has no row in the data of ``fit``
        ├── NumberedLabelsWarning  labels are numbers, and nothing says what they mean
        ├── SharedDeviceWarning  several processes load a model each onto one GPU
        └── RemoteCodeWarning    a model runs code that came with it

Parameter values outside their domain raise scikit-learn's ``InvalidParameterError`` and unfitted
use raises its ``NotFittedError``, as people who catch errors of estimators expect.
"""

import inspect
import warnings

__all__ = [
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
    """The texts given are not a sequence of strings."""


class InvalidLabelsError(InstructClfError, ValueError):
    """Labels, label definitions or label words do not fit together."""


class InvalidShotsError(InstructClfError, ValueError):
    """The number of shots asked for cannot be drawn from the rows given."""


class InvalidTemplateError(InstructClfError, ValueError):
    """A prompt template is unknown or malformed."""


class ModelLoadingError(InstructClfError, OSError, ValueError):
    """A model or its tokenizer cannot be loaded."""


class PromptTooLongError(InstructClfError, ValueError):
    """Instruction, definitions and demonstrations leave no room for a text."""


class ScoringError(InstructClfError, RuntimeError):
    """Label log-likelihoods could not be computed."""


class OtherProcessError(InstructClfError, RuntimeError):
    """Another process that shares the work failed, or is gone."""


class TrainingDivergedError(InstructClfError, RuntimeError):
    """The training loss, or its gradient, is not a finite number."""


class SavedClassifierError(InstructClfError, OSError, ValueError):
    """A classifier cannot be saved, or what was saved cannot be loaded."""


class CheckpointError(SavedClassifierError):
    """What was kept of work that was cut off is damaged, or is of something else."""


class DataFormatError(InstructClfError, ValueError):
    """A data file does not have the expected format or columns."""


class MissingExtraError(InstructClfError, ImportError):
    """An optional dependency is needed and not installed."""


class InstructClfWarning(UserWarning):
    """Base of every warning raised by this package."""


class TruncationWarning(InstructClfWarning):
    """Texts were cut in their middle to fit the model's context."""


class FailedRunWarning(InstructClfWarning):
    """A tuning run ended no better than guessing and was restarted with another seed."""


class MissingClassWarning(InstructClfWarning):
    """A label that is defined has no row in the data given to ``fit``."""


class NumberedLabelsWarning(InstructClfWarning):
    """Labels are numbers, and nothing tells the model what they stand for."""


class SharedDeviceWarning(InstructClfWarning):
    """Several processes of one program load a base model each onto the same GPU."""


class RemoteCodeWarning(InstructClfWarning):
    """A model given as an object runs code that came with it, not with transformers."""


def warn_caller(message: str, category: type[InstructClfWarning]) -> None:
    """Issue a warning that points at the line of the user that led to it.

    Lines of scikit-learn, which wraps methods and calls them in searches, are passed over as well.

    Parameters
    ----------
    message : str
        What happened, and what can be done about it.
    category : type
        The warning's class.
    """
    packages = {__name__.partition(".")[0], "sklearn"}
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals["__name__"].partition(".")[0] in packages:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
