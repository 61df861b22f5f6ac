"""TRL's ``SFTTrainer`` with completion-only loss, on the same adapter, rows and steps.

Its defaults, checkpointed activations and bfloat16, are turned off. On a CPU it computes logits at
all positions, in tiles that it computes again in the backward pass. TRL is imported when it is
used, so that tables can be made without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

from peers.trainers import (
    Row,
    TuningSettings,
    add_adapter,
    make_configuration,
    silenced,
    training_arguments,
)


def fit_with_trl(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: TuningSettings,
    *,
    is_grouped: bool = False,
) -> None:
    """Train with TRL's ``SFTTrainer`` on the completion only."""
    with tempfile.TemporaryDirectory() as folder:
        make_trl_trainer(model, tokenizer, rows, settings, folder, is_grouped=is_grouped).train()


def make_trl_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: TuningSettings,
    folder: str,
    *,
    is_grouped: bool = False,
) -> Any:
    """Return a trainer that is ready to train, with a temporary folder."""
    import datasets  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    datasets.disable_progress_bars()
    datasets.disable_caching()
    columns = {
        "prompt": [row.prompt for row in rows],
        "completion": [row.response for row in rows],
    }
    arguments = training_arguments(model, rows, settings, folder, is_grouped=is_grouped)
    arguments |= {"remove_unused_columns": True, "completion_only_loss": True, "max_length": None}
    trainer = SFTTrainer(
        model=add_adapter(model, settings),
        args=make_configuration(SFTConfig, arguments),
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=tokenizer,
    )
    return silenced(trainer)
