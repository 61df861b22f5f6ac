"""The trainers that people use for LoRA tuning, each on the same adapter, rows and steps.

Each wraps a loaded model with a peft adapter, trains it, and leaves hooks and a patched ``forward``
behind: give each a separate view. Settings are the fastest that a user can choose without writing
code: nothing is logged, saved or evaluated, and no worker processes are started.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import DataCollatorForSeq2Seq, PrinterCallback, Trainer, TrainingArguments

IGNORE_INDEX = -100


@dataclass(frozen=True)
class TuningSettings:
    """The adapter and its training, equal for us and every peer.

    Parameters
    ----------
    n_epochs : int
        Passes over the rows.
    batch_size : int
        Rows of an optimiser step.
    targets : str or tuple of str
        The layers that get an update.
    rank, alpha : int
        Rank of the updates, and their scale times the rank.
    learning_rate : float
        The highest. It rises over the first tenth of the steps, then falls to 0.
    seed : int
        Decides initial weights and the order of rows.
    """

    n_epochs: int
    batch_size: int = 8
    targets: str | tuple[str, ...] = ("q_proj", "v_proj")
    rank: int = 8
    alpha: int = 16
    learning_rate: float = 2e-4
    seed: int = 0

    def n_steps(self, n_rows: int) -> int:
        return math.ceil(n_rows / self.batch_size) * self.n_epochs


@dataclass(frozen=True)
class Row:
    """A rendered prompt, and the response to learn."""

    prompt: str
    response: str


def add_adapter(model: Any, settings: TuningSettings) -> Any:
    """Wrap the layers of a model, as peft does it, in place."""
    torch.manual_seed(settings.seed)
    targets = settings.targets
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*deprecated")
        return get_peft_model(model, config)


def tokenised(rows: Sequence[Row], tokenizer: Any) -> list[dict[str, list[int]]]:
    """Encode rows as alpaca-lora does: as one string, of which the response is the target."""
    encoded = []
    complete = tokenizer([row.prompt + row.response for row in rows]).input_ids
    prompts = tokenizer([row.prompt for row in rows]).input_ids
    for ids, prompt_ids in zip(complete, prompts, strict=True):
        full = [*ids, tokenizer.eos_token_id]
        targets = [IGNORE_INDEX] * len(prompt_ids) + full[len(prompt_ids) :]
        encoded.append({"input_ids": full, "attention_mask": [1] * len(full), "labels": targets})
    return encoded


def fit_with_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: TuningSettings,
    *,
    is_grouped: bool = False,
) -> None:
    """Train with ``transformers.Trainer`` the alpaca-lora way, padded to the longest of a batch."""
    with tempfile.TemporaryDirectory() as folder:
        make_trainer(model, tokenizer, rows, settings, folder, is_grouped=is_grouped).train()


def make_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: TuningSettings,
    folder: str,
    *,
    is_grouped: bool = False,
) -> Any:
    """Return a trainer that is ready to train, with a temporary folder."""
    arguments = training_arguments(model, rows, settings, folder, is_grouped=is_grouped)
    trainer = Trainer(
        model=add_adapter(model, settings),
        args=make_configuration(TrainingArguments, arguments),
        train_dataset=tokenised(rows, tokenizer),
        data_collator=DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8, padding=True),
    )
    return silenced(trainer)


def silenced(trainer: Any) -> Any:
    """Keep a trainer from printing its metrics, which it does without a progress bar."""
    trainer.remove_callback(PrinterCallback)
    return trainer


def training_arguments(
    model: Any, rows: Sequence[Row], settings: TuningSettings, folder: str, *, is_grouped: bool
) -> dict[str, Any]:
    """Return the arguments of a trainer: the given settings, and nothing that takes time."""
    return {
        "output_dir": folder,
        "num_train_epochs": settings.n_epochs,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": math.ceil(settings.n_steps(len(rows)) / 10),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": settings.seed,
        "train_sampling_strategy": "group_by_length" if is_grouped else "random",
        "activation_checkpointing": False,
        "bf16": False,
        "fp16": False,
        "use_cpu": model.device.type == "cpu",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": model.device.type != "cpu",
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
    }


def make_configuration(kind: Any, arguments: dict[str, Any]) -> Any:
    """Make a configuration, with the names of the installed version of transformers."""
    known = {field.name for field in fields(kind)}
    arguments = dict(arguments)
    if "activation_checkpointing" not in known:
        arguments["gradient_checkpointing"] = arguments.pop("activation_checkpointing")
    return kind(**arguments)


def fit_with_loop(
    model: Any, tokenizer: Any, rows: Sequence[Row], settings: TuningSettings
) -> None:
    """Train with a hand-written loop: padded to the longest, all logits, in float32."""
    model = add_adapter(model, settings)
    examples = tokenised(rows, tokenizer)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
    n_steps = settings.n_steps(len(rows))
    n_warmup = math.ceil(n_steps / 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / n_warmup, (n_steps - step) / max(1, n_steps - n_warmup)),
    )
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.n_epochs):
        order = torch.randperm(len(examples), generator=generator).tolist()
        for start in range(0, len(order), settings.batch_size):
            batch = [examples[i] for i in order[start : start + settings.batch_size]]
            loop_loss(model, batch, tokenizer.pad_token_id).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)


def loop_loss(model: Any, batch: Sequence[dict[str, list[int]]], pad: int) -> Tensor:
    """Return the mean negative log-likelihood of the targets of a batch."""
    longest = max(len(example["input_ids"]) for example in batch)
    ids, seen, targets = (
        torch.tensor(
            [[*example[name], *[fill] * (longest - len(example[name]))] for example in batch],
            device=model.device,
        )
        for name, fill in (("input_ids", pad), ("attention_mask", 0), ("labels", IGNORE_INDEX))
    )
    logits = model(input_ids=ids, attention_mask=seen, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), targets[:, 1:].flatten(), ignore_index=IGNORE_INDEX
    )
