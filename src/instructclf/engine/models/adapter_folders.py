"""Folder with a PEFT adapter → the model that it was trained on, with the adapter merged into it.

What PEFT, TRL, the Trainer or a classifier of this package has saved becomes a base model like any
other. Merging needs peft, which is imported only when a model turns out to be such a folder.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from instructclf.engine.models.quantization import without_repacking_hint
from instructclf.exceptions import ModelLoadingError
from instructclf.storage import fetch_file, fetch_folder, is_repo_id

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_BASE = "base_model_name_or_path"


def find_adapter_folder(source: str) -> Path | None:
    """Return the folder of an adapter, or ``None`` for whole models and what does not exist.

    An adapter on the hub is downloaded.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        is_adapter = (folder / _CONFIG).is_file() and not (folder / "config.json").is_file()
        return folder if is_adapter else None
    if not is_repo_id(source) or fetch_file(source, "config.json") is not None:
        return None
    if fetch_file(source, _CONFIG) is None:
        return None
    return fetch_folder(source, _CONFIG, files=["*.json", _WEIGHTS])


def read_base_name(folder: Path, source: str) -> str:
    """Return the name of the model that an adapter was trained on. Errors call it ``source``.

    Raises
    ------
    ModelLoadingError
        If the folder has no safetensors weights, or does not name the model.
    """
    if not (folder / _WEIGHTS).is_file():
        msg = (
            f"The adapter {source!r} has no safetensors weights: it lacks the file {_WEIGHTS}. "
            "Save it again with a current version of PEFT: model.save_pretrained(folder)."
        )
        raise ModelLoadingError(msg)
    try:
        name = json.loads((folder / _CONFIG).read_text(encoding="utf-8")).get(_BASE)
    except (ValueError, AttributeError) as error:
        msg = f"The {_CONFIG} of the adapter {source!r} is not a JSON object: {error}."
        raise ModelLoadingError(msg) from error
    if not isinstance(name, str) or not name or Path(name).expanduser() == Path(source):
        msg = (
            f"The adapter {source!r} does not say which model it was trained on: {_BASE} in its "
            f"{_CONFIG} is {name!r}. Write the model's folder or hub id there."
        )
        raise ModelLoadingError(msg)
    return name


def check_mergeable(source: str, quantization: str | None, device_map: object = None) -> None:
    """Raise ``ModelLoadingError`` if weights would be quantised, or spread over devices."""
    if device_map is None and quantization is None:
        return
    if device_map is not None:
        why = f"needs the whole model on one device, and device_map={device_map!r} spreads it"
        remedy = "model_options=ModelOptions(device_map=None)"
    else:
        why = f"is impossible in weights stored in {quantization}"
        remedy = "model_options=ModelOptions(quantization=None)"
    msg = (
        f"{source!r} is an adapter. Merging it into its model {why}. Use {remedy}, or merge the "
        "adapter first and save the whole model."
    )
    raise ModelLoadingError(msg)


def merge_adapter_folder(model: Any, folder: Path, source: str) -> Any:
    """Add an adapter's updates to a model's weights, in place, and keep their precision.

    The result has no adapter layers.

    Raises
    ------
    ModelLoadingError
        If the adapter is for another task, works outside the layers, or does not fit the model.
    """
    with without_repacking_hint():
        from peft import PeftConfig, PeftModel

    try:
        config = PeftConfig.from_pretrained(str(folder))
        _check_can_be_merged(config, source)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*deprecated")
            return PeftModel.from_pretrained(model, str(folder), config=config).merge_and_unload()
    except ModelLoadingError:
        raise
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError, UserWarning) as error:
        said = " ".join(str(error).split("\n\t")[:2])  # PEFT may list hundreds of weights
        msg = (
            f"The adapter {source!r} could not be merged into the model that it names: the two do "
            f"not fit, or weights are missing. PEFT said: {said}"
        )
        raise ModelLoadingError(msg) from error


def _check_can_be_merged(config: Any, source: str) -> None:
    """Refuse adapters that do not update the weights of a causal language model."""
    is_outside = config.is_prompt_learning or getattr(config, "is_adaption_prompt", False)
    if config.task_type not in (None, "CAUSAL_LM"):
        what = f"made for the task {config.task_type}"
        remedy = "Labels are scored as the continuation of a prompt, so use a CAUSAL_LM adapter."
    elif is_outside:
        what = f"of the kind {getattr(config.peft_type, 'value', config.peft_type)}"
        remedy = (
            "Use an adapter that changes weights, such as LoRA. This one works outside the layers."
        )
    else:
        return
    msg = f"The adapter {source!r} is {what}, and cannot be merged into a language model. {remedy}"
    raise ModelLoadingError(msg)
