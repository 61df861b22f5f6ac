"""Folders of schema 1, whose parameters were flat → the same in today's schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instructclf.exceptions import SavedClassifierError

_MODEL = (
    "max_length",
    "max_batch_tokens",
    "device",
    "dtype",
    "quantization",
    "device_map",
    "distributed",
)
_AUTO = ("max_batch_tokens", "device", "dtype")
"""Parameters in which ``None`` meant what ``"auto"`` means now."""
_LORA = {
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "target_modules",
    "n_tuned_layers": "n_layers",
}
_TRAINING = (
    "warmup_ratio",
    "tol",
    "n_iter_no_change",
    "target_loss",
    "gradient_checkpointing",
    "warm_start",
    "seed_average",
)
_DELETED = ("adversarial_augment",)
_SAVED = ("classes", "prompt", "label_words", "max_length", "calibration", "shots")


def upgrade(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``classifier.json`` as this version would have written it.

    Raises
    ------
    SavedClassifierError
        If it has a calibration that no longer exists.
    """
    return {
        **{name: record[name] for name in ("format", "versions", "base", "class", "files")},
        "schema": 2,
        "parameters": _upgrade_parameters(record["parameters"]),
        "fitted": _upgrade_fitted(record),
    }


def _upgrade_parameters(old: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in old.items() if name not in _DELETED}
    options = {name: found.pop(name) for name in _MODEL if name in found}
    for name in _AUTO:
        options[name] = options.get(name) or "auto"
    found["model_options"] = _estimator("ModelOptions", options)
    found["sampler"] = _rename_sampler(found["sampler"])
    if "lora_rank" not in found:
        return found
    lora = {new: found.pop(name) for name, new in _LORA.items()}
    peft = found.pop("peft_config", None)
    found["adapter"] = _estimator("LoRA", lora) if peft is None else peft
    found["batch_size"] = found.pop("train_batch_size")
    training = {name: found.pop(name) for name in _TRAINING}
    found["training_options"] = _estimator("TrainingOptions", training)
    return found


def _estimator(kind: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {"estimator": kind, "parameters": {"dict": [[*pair] for pair in parameters.items()]}}


def _rename_sampler(sampler: Any) -> Any:
    if not isinstance(sampler, dict):
        return sampler
    return {"estimator": sampler["sampler"], "parameters": sampler["parameters"]}


def _upgrade_fitted(record: Mapping[str, Any]) -> dict[str, Any]:
    if not record["seeds"]:
        return _upgrade_labeller(record, n_adapters=1)
    seeds = record["seeds"]
    has_average = "prompt_" in record["attributes"]
    return {
        "members": [_upgrade_labeller(seed, n_adapters=1) for seed in seeds],
        "seeds": [seed["parameters"]["random_state"] for seed in seeds],
        "average": _upgrade_labeller(record, n_adapters=len(seeds)) if has_average else None,
    }


def _upgrade_labeller(record: Mapping[str, Any], *, n_adapters: int) -> dict[str, Any]:
    attributes = record["attributes"]
    _check_calibration(attributes["calibration_"])
    return {
        **{name: attributes[f"{name}_"] for name in _SAVED},
        "shots_per_text": _upgrade_own_shots(record),
        "training": _upgrade_training(attributes),
        "adapter": _upgrade_adapter(record["parameters"], n_adapters),
    }


def _check_calibration(calibration: Any) -> None:
    if calibration.get("record") == "BatchCalibration":
        msg = (
            "The saved classifier has calibration='batch', which this version does not have. Fit "
            "it again with calibration='auto'."
        )
        raise SavedClassifierError(msg)


def _upgrade_own_shots(record: Mapping[str, Any]) -> Any:
    if record["own_shots"] is None:
        return None
    sampler = _rename_sampler(record["parameters"]["sampler"])
    if isinstance(sampler, str):  # the only one of this kind that had a name
        sampler = _estimator("KNNSampler", {})
    return {"tuple": [sampler, *record["own_shots"]["tuple"]]}


def _upgrade_training(attributes: Mapping[str, Any]) -> Any:
    if "loss_curve_" not in attributes:
        return None
    values = {
        "loss_curve": attributes["loss_curve_"],
        "label_loss_curve": [],
        "stopped_by": attributes["stopped_by_"],
    }
    return {"dict": [[*pair] for pair in values.items()]}


def _upgrade_adapter(parameters: Mapping[str, Any], n_adapters: int) -> Any:
    if "lora_rank" not in parameters:
        return None
    if parameters.get("peft_config") is not None:
        return parameters["peft_config"]
    rank, alpha, targets = (
        parameters[name] for name in ("lora_rank", "lora_alpha", "target_modules")
    )
    settings = {
        "rank": n_adapters * rank,
        "alpha": n_adapters * (2 * rank if alpha is None else alpha),
        "dropout": parameters["lora_dropout"],
        "target_modules": {"tuple": targets} if isinstance(targets, list) else targets,
        "n_layers": parameters["n_tuned_layers"],
    }
    fields = {"dict": [[*pair] for pair in settings.items()]}
    return {"record": "LoraSettings", "fields": fields}
