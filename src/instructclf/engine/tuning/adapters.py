"""View → view with an adapter: LoRA or another kind of PEFT. The only module that trains with peft.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022):
h = W0 x + (alpha / rank) B A x. B is 0 at first, so an untrained adapter changes nothing.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import save_file
from torch import Tensor, nn

from instructclf.engine.models.decoder_layers import frozen_layers_pattern
from instructclf.engine.models.merging import merge_adapters, merge_earlier_adapters, task_type_of
from instructclf.engine.models.names import split_revision
from instructclf.engine.models.placement import (
    check_not_offloaded,
    generator_states,
    seeded,
    set_generator_states,
)
from instructclf.engine.models.quantization import without_repacking_hint
from instructclf.engine.tuning.adapter_checks import (
    check_same_shapes,
    check_task_type,
    check_trained_in_full_precision,
    check_works_in_layers,
    describe,
)
from instructclf.engine.tuning.fused_updates import fuse_updates
from instructclf.engine.tuning.guarding import SharedWeightError, SharedWeights

WEIGHTS_FILE = "adapter_model.safetensors"
"""PEFT's name for the file."""


class AdapterSettings(Protocol):
    """A kind of adapter and its shape. A new kind of adapter is a class with these members."""

    @property
    def n_layers(self) -> int | None:
        """The number of last decoder layers that are tuned. ``None`` for all."""
        ...

    @property
    def may_draw(self) -> bool:
        """Whether a forward pass in training may draw random numbers."""
        ...

    def make_config(self, view: Any) -> Any:
        """Return PEFT's configuration of such an adapter on this view."""
        ...

    def check(self, wrapped: Any, view: Any, parameters: list[nn.Parameter]) -> None:
        """Raise ``ValueError`` if an adapter that PEFT has made cannot be tuned or scored."""
        ...

    def of_average(self, n_adapters: int) -> AdapterSettings:
        """Describe the adapter whose updates are the mean of those of several such adapters."""
        ...


@dataclass(frozen=True)
class LoraSettings:
    """The shape of a LoRA adapter.

    Parameters
    ----------
    rank : int
        The rank of each update.
    alpha : float
        Updates are scaled by ``alpha / rank``.
    dropout : float
        The share of its inputs that an update drops in training.
    target_modules : str or tuple of str
        The modules that get an update: ``"all-linear"``, a pattern, or names.
    n_layers : int or None, default=None
        Only modules in so many of the last decoder layers get one. ``None`` for all layers.
    """

    rank: int
    alpha: float
    dropout: float
    target_modules: str | tuple[str, ...]
    n_layers: int | None = None

    @property
    def may_draw(self) -> bool:
        """Whether dropout draws random numbers in training."""
        return self.dropout > 0

    def make_config(self, view: Any) -> Any:
        """Return the configuration of LoRA in the tuned layers of this view."""
        from peft import LoraConfig

        targets = self.target_modules
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]  # scaling may be a fraction
            lora_dropout=self.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            exclude_modules=frozen_layers_pattern(view, self.n_layers),
            task_type=task_type_of(view),
        )

    def check(self, wrapped: Any, view: Any, parameters: list[nn.Parameter]) -> None:
        """Do nothing: LoRA trains only new weights, in float32, and works inside the layers."""

    def of_average(self, n_adapters: int) -> LoraSettings:
        """Return settings whose rank and alpha are the sums of those of the adapters."""
        return replace(self, rank=n_adapters * self.rank, alpha=n_adapters * self.alpha)


@dataclass(frozen=True)
class PeftSettings:
    """An adapter of any kind that `check_peft_config` accepts.

    Parameters
    ----------
    config : peft.PeftConfig
        The configuration, which is never changed.
    """

    config: Any

    @property
    def n_layers(self) -> int | None:
        """The configuration chooses its layers itself."""
        return None

    @property
    def may_draw(self) -> bool:
        """Every kind names its dropout differently, so draws are always possible."""
        return True

    def make_config(self, view: Any) -> Any:
        """Return a copy of the configuration, to be trained."""
        check_task_type(self.config, view)
        config = copy.deepcopy(self.config)
        config.task_type = task_type_of(view)
        config.inference_mode = False
        return config

    def check(self, wrapped: Any, view: Any, parameters: list[nn.Parameter]) -> None:
        """Raise if the adapter trains weights in half precision, or works outside the layers."""
        check_trained_in_full_precision(parameters, self.config)
        check_works_in_layers(wrapped, view, parameters, self.config)

    def of_average(self, n_adapters: int) -> PeftSettings:  # noqa: ARG002  (as the protocol says)
        """Raise: of all kinds of adapters only LoRA is known to have an exact mean."""
        msg = (
            f"{describe(self.config)} has no exact mean over several adapters. Use "
            "adapter=LoRA(...), or training_options=TrainingOptions(seed_average='log_proba')."
        )
        raise ValueError(msg)


def check_peft_config(config: Any) -> None:
    """Raise ``ValueError`` unless adapters of this kind can be tuned and scored on some model.

    The text of the error continues a sentence such as "The 'adapter' parameter must be".
    """
    with without_repacking_hint():
        from peft import PeftConfig, PeftType
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    if not isinstance(config, PeftConfig):
        msg = f"an instance of peft.PeftConfig, such as peft.IA3Config(), or None. Got {config!r}"
        raise ValueError(msg)  # noqa: TRY004  (the caller names the parameter)
    kinds: Any = PEFT_TYPE_TO_TUNER_MAPPING
    tuner = kinds.get(config.peft_type)
    wanted: str | None = None
    is_outside = config.is_prompt_learning or getattr(config, "is_adaption_prompt", False)
    if config.task_type not in (None, "CAUSAL_LM", "SEQ_2_SEQ_LM"):
        wanted = 'for language models: with task_type="CAUSAL_LM", "SEQ_2_SEQ_LM", or without one'
    elif tuner is None or is_outside or config.peft_type == PeftType.XLORA:
        wanted = (
            "of a kind that PEFT puts into the layers of a model, such as peft.LoraConfig: prompt "
            "tuning, prefix tuning, adaption prompts and X-LoRA work outside them"
        )
    elif hasattr(tuner, "update_and_allocate"):
        wanted = (
            "of a kind that is trained by gradients alone, such as peft.LoraConfig: this kind "
            "moves parameters between layers after each step"
        )
    if wanted is not None:
        msg = f"{wanted}. Got {describe(config)}"
        raise ValueError(msg)


class Adapter:
    """An adapter on a view of a base model.

    Parameters
    ----------
    view : torch.nn.Module
        A view that nothing else uses, wrapped in place. Adapters that it has are merged before.
    settings : AdapterSettings
        The kind of adapter and its shape.
    seed : int, default=0
        Decides the initial weights.

    Raises
    ------
    ValueError
        If weights are offloaded, or such an adapter would change weights of the base model, be
        trained in half precision, or work outside the layers.
    """

    def __init__(self, view: Any, settings: AdapterSettings, seed: int = 0) -> None:
        check_not_offloaded(view)
        self.model = view = merge_earlier_adapters(view)
        self._may_draw = settings.may_draw
        self._wrapped = _wrap(view, settings, seed)
        _fuse_updates(view, self._wrapped)
        settings.check(self._wrapped, view, self.parameters)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weights to train."""
        return [p for p in self._wrapped.parameters() if p.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the adapter's weights, on the CPU."""
        from peft import get_peft_model_state_dict

        # By default, PEFT may ask the hub whether an embedding was resized.
        weights = get_peft_model_state_dict(self._wrapped, save_embedding_layers=False)
        return {name: weight.detach().cpu().clone() for name, weight in weights.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Set the weights to a result of `state`. Raise ``ValueError`` if they do not fit."""
        from peft import set_peft_model_state_dict

        check_same_shapes(state, self.state())
        set_peft_model_state_dict(self._wrapped, dict(state))

    def write(self, folder: Path, base_name: str) -> None:
        """Write weights and configuration into a folder: see `FittedAdapter.write`."""
        config = copy.deepcopy(self._wrapped.peft_config["default"])
        base = split_revision(base_name)
        config.base_model_name_or_path, config.revision = base.location, base.revision
        config.inference_mode = True
        config.save_pretrained(str(folder))
        weights = {name: weight.contiguous() for name, weight in self.state().items()}
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})

    def merge(self) -> Any:
        """Add the updates to the weights, and return the model without adapter layers.

        The model must be a copy, not a view, which shares its weights.
        """
        remedy = "Save the classifier, which keeps the adapter apart."
        return merge_adapters(self._wrapped, "this adapter", remedy)

    @contextmanager
    def dropping_out(self, seed: int) -> Iterator[None]:
        """Let the adapter drop inputs inside the block, the same ones with the same seed.

        Dropout draws from torch's global generators, so no other run may draw at the same time.
        """
        if not self._may_draw:
            yield
            return
        with seeded(self.model, seed):
            self._set_dropout(active=True)
            try:
                yield
            finally:
                self._set_dropout(active=False)

    def generator_states(self) -> dict[str, Tensor]:
        """Return the states of torch's generators, inside `dropping_out`, if dropout reads them."""
        return generator_states(self.model) if self._may_draw else {}

    def set_generator_states(self, states: Mapping[str, Tensor]) -> None:
        """Set torch's generators, inside `dropping_out`, to what `generator_states` returned."""
        set_generator_states(self.model, states)

    def _set_dropout(self, *, active: bool) -> None:
        """Switch dropout in the adapter's modules on or off. The base model never drops inputs."""
        for module in _adapter_modules(self._wrapped):
            module.training = active


def _wrap(view: Any, settings: AdapterSettings, seed: int) -> Any:
    """Let PEFT put an adapter into a view, without a change to the weights that the view shares."""
    with without_repacking_hint():
        from peft import get_peft_model

    config = settings.make_config(view)
    shared = SharedWeights(view)
    try:
        with seeded(view, seed), warnings.catch_warnings(), shared.guarded():
            # GPT-2's Conv1D layers store weights transposed. PEFT adapts to it, and warns.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            # peft 0.21 reads a property that transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*deprecated")
            warnings.filterwarnings("ignore", message="Model has.*tie")  # merging unties weights
            wrapped = get_peft_model(view, config)
        shared.check_unchanged()
    except SharedWeightError:
        msg = (
            f"This adapter changes weights of the base model, which all classifiers share: "
            f"{describe(config)}. Choose an initialisation that does not, such as "
            "init_lora_weights=True, or another kind of adapter."
        )
        raise ValueError(msg) from None
    view.eval()
    shared.copy_trained(view.parameters())
    return wrapped


def _adapter_modules(wrapped: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that PEFT has added, without the layers that they wrap."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in wrapped.modules():
        if isinstance(layer, BaseTunerLayer):
            yield layer
            for name, child in layer.named_children():
                if name != "base_layer":
                    yield from child.modules()


def read_config(folder: Path) -> Any:
    """Return the configuration that `Adapter.write` wrote, ready to be trained with."""
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = False
    config.base_model_name_or_path = None  # a path may be outdated; fingerprints are compared
    return config


def _fuse_updates(view: Any, wrapped: nn.Module) -> None:
    """Let LoRA on linear layers add its updates in one step. PEFT computes all other adapters."""
    from peft.tuners.lora.layer import Linear

    lora = [module for module in wrapped.modules() if type(module) is Linear]
    plain = [m for m in lora if type(m.base_layer) is nn.Linear and not m.lora_variant]
    fuse_updates(view, plain)
