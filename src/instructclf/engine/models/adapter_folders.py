"""Folder with a PEFT adapter → the model that it was trained on, with the adapter merged into it.

What PEFT, TRL, the Trainer or a classifier of this package has saved becomes a base model like any
other. Merging needs peft, which is imported only when a model turns out to be such a folder.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from instructclf.engine.models.merging import merge_adapters, task_type_of
from instructclf.engine.models.names import A_NAME, find_path, split_source
from instructclf.engine.models.quantization import dequantised, without_repacking_hint
from instructclf.engine.models.weight_files import holds_weights
from instructclf.exceptions import ModelLoadingError, SavedClassifierError
from instructclf.storage import fetch_file, fetch_folder, has_file, is_cached, is_repo_id

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_SAVED = "classifier.json"
_BASE = "base_model_name_or_path"
_TOKENIZERS = ("*.json", "*.jinja", "*.model", "*.txt")


def find_adapter_folder(source: str) -> Path | None:
    """Return the folder of an adapter, or ``None`` for whole models and what does not exist.

    An adapter on the hub is downloaded. What trainers leave next to an adapter, such as the
    configuration of its model, makes no whole model as long as there are no weights.

    Raises
    ------
    ModelLoadingError
        If the hub cannot be reached, and the model was not fetched before.
    """
    path = find_path(source)
    if path is not None:
        is_whole = (path / "config.json").is_file() and holds_weights(path)
        return path if (path / _CONFIG).is_file() and not is_whole else None
    parts = split_source(source)
    if parts.file is not None or not (parts.may_be_on_hub and is_repo_id(parts.location)):
        return None
    try:
        return _fetch_adapter(parts.location, parts.revision)
    except SavedClassifierError as error:
        if is_cached(parts.location, "config.json", parts.revision):
            return None
        msg = f"The model {source!r} could not be loaded: it must be {A_NAME}. {error}"
        raise ModelLoadingError(msg) from error


def _fetch_adapter(repo_id: str, revision: str | None) -> Path | None:
    if fetch_file(repo_id, _CONFIG, revision) is None:
        return None
    if fetch_file(repo_id, "config.json", revision) is not None and any(
        has_file(repo_id, f"model.safetensors{ending}", revision) for ending in ("", ".index.json")
    ):
        return None
    return fetch_folder(repo_id, _CONFIG, revision, files=[*_TOKENIZERS, _WEIGHTS])


def read_base_name(folder: Path, source: str) -> str:
    """Return the name of the model that an adapter was trained on. Errors call it ``source``.

    The name includes the revision that the adapter states. A relative path may begin at the folder.

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
        described = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        name, revision = described.get(_BASE), described.get("revision")
    except (ValueError, AttributeError) as error:
        msg = f"The {_CONFIG} of the adapter {source!r} is not a JSON object: {error}."
        raise ModelLoadingError(msg) from error
    path = find_path(name) if isinstance(name, str) else None
    if not isinstance(name, str) or not name or (path is not None and path.samefile(folder)):
        msg = (
            f"The adapter {source!r} does not say which model it was trained on: {_BASE} in its "
            f"{_CONFIG} is {name!r}. Write the model's folder or hub id there."
        )
        raise ModelLoadingError(msg)
    if path is not None:
        return name
    is_pinned = isinstance(revision, str) and revision not in ("", "main") and is_repo_id(name)
    return _find_from(folder, name, source) or (f"{name}@{revision}" if is_pinned else name)


def _find_from(folder: Path, name: str, source: str) -> str | None:
    """Return the path of a base model that is named from the adapter's folder, if it is one.

    The folder of a saved classifier says where its model is from there.
    """
    if find_path(str(folder / name)) is not None:
        return str(folder / name)
    try:
        base_path = json.loads((folder / _SAVED).read_text(encoding="utf-8")).get("base_path")
    except (OSError, ValueError, AttributeError):
        return None
    if base_path is None or (folder / base_path).exists():
        return base_path and str((folder / base_path).resolve())
    msg = (
        f"The adapter {source!r} was trained on {name!r}, which is a path that does not exist here."
        f" Write the path of its model into {_CONFIG}, as {_BASE}."
    )
    raise ModelLoadingError(msg)


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
        _check_can_be_merged(config, model, source)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*deprecated")
            warnings.filterwarnings("ignore", message="Model has.*tie")  # merging unties weights
            model = dequantised(model, source)
            wrapped = PeftModel.from_pretrained(model, str(folder), config=config)
        return merge_adapters(wrapped, f"the adapter {source!r}", _remedy(model))
    except ModelLoadingError:
        raise
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError, UserWarning) as error:
        said = " ".join(str(error).split("\n\t")[:2])  # PEFT may list hundreds of weights
        msg = (
            f"The adapter {source!r} could not be merged into the model that it names: the two do "
            f"not fit, or weights are missing. PEFT said: {said}"
        )
        raise ModelLoadingError(msg) from error


def _remedy(model: Any) -> str:
    kind = "Seq2SeqLM" if task_type_of(model) == "SEQ_2_SEQ_LM" else "CausalLM"
    return (
        "Load the adapter with PEFT, and give the loaded objects: "
        f"model=(AutoPeftModelFor{kind}.from_pretrained(folder), tokenizer)."
    )


def _check_can_be_merged(config: Any, model: Any, source: str) -> None:
    """Refuse adapters that do not update the weights of a language model of this kind."""
    is_outside = config.is_prompt_learning or getattr(config, "is_adaption_prompt", False)
    wanted = task_type_of(model)
    if config.task_type not in (None, wanted):
        what = f"made for the task {config.task_type}"
        remedy = f"For a {type(model).__name__}, use a {wanted} adapter."
    elif is_outside:
        what = f"of the kind {getattr(config.peft_type, 'value', config.peft_type)}"
        remedy = (
            "Use an adapter that changes weights, such as LoRA. This one works outside the layers."
        )
    else:
        return
    msg = f"The adapter {source!r} is {what}, and cannot be merged into a language model. {remedy}"
    raise ModelLoadingError(msg)
