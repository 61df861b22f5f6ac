"""One tuning task for our classifier and its peers: the same prompts, rows and settings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from peers.trainers import Row, TuningSettings

from instructclf import InstructionTunedClassifier, LoRA, TrainingOptions
from instructclf.engine.tuning import training
from instructclf.exceptions import FailedRunWarning
from instructclf.prompts import TEMPLATES, write_instruction

TASK = "Decide whether the review is positive or negative."
DEFINITIONS = {
    "negative": "The customer regrets the purchase or warns others against it.",
    "positive": "The customer is content with the purchase or recommends it.",
}


def render(
    reviews: Sequence[str], labels: Sequence[str], verbalizer: dict[str, str] | None = None
) -> list[Row]:
    """Return the prompts that our classifier writes, and their responses."""
    words = verbalizer or {label: label for label in DEFINITIONS}
    instruction = write_instruction(TASK, list(words.values()), list(DEFINITIONS.values()))
    prompts = [TEMPLATES["alpaca"].render(instruction, review) for review in reviews]
    return [Row(prompt, words[label]) for prompt, label in zip(prompts, labels, strict=True)]


def our_classifier(
    model: tuple[Any, Any], settings: TuningSettings, **options: Any
) -> InstructionTunedClassifier:
    """Return our classifier with a peer's settings, and without early stopping.

    Options are named as in ``set_params``: ``adapter__n_layers=2``.
    """
    targets = settings.targets
    adapter = LoRA(
        rank=settings.rank,
        alpha=settings.alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    classifier = InstructionTunedClassifier(
        model,
        instruction=TASK,
        label_definitions=DEFINITIONS,
        calibration=None,
        adapter=adapter,
        loss="lm+label",  # which has the peers' loss as one part, and so all of their work
        learning_rate=settings.learning_rate,
        max_epochs=settings.n_epochs,
        batch_size=settings.batch_size,
        training_options=all_steps(settings.n_epochs),
        random_state=settings.seed,
    )
    return classifier.set_params(**options)


def all_steps(n_epochs: int) -> TrainingOptions:
    """Return options that keep tuning from stopping early."""
    return TrainingOptions(tol=0.0, n_iter_no_change=n_epochs + 1, target_loss=0.0)


@contextmanager
def without_restart() -> Iterator[None]:
    """Keep a run that ends no better than guessing from being restarted, since peers run once."""
    never = mock.patch.object(training, "_FAILED_LOSS", math.inf)  # fails if it is renamed
    with never, warnings.catch_warnings():
        warnings.simplefilter("error", FailedRunWarning)
        yield
