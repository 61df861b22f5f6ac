"""View → view with an adapter: LoRA, or whatever else PEFT has. The only module that imports peft.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022),
h = W0 x + (alpha / rank) B A x, with B = 0 at the start, so that an untrained adapter changes
nothing.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from instructclf.engine.models.decoder_layers import frozen_layers_pattern
from instructclf.engine.models.placement import check_not_offloaded, input_device
from instructclf.engine.models.quantization import without_layout_hint
from instructclf.engine.running.locks import process_state
from instructclf.engine.tuning.adapter_checks import (
    check_same_shapes,
    check_trained_in_full_precision,
    check_works_in_layers,
    describe,
)
from instructclf.engine.tuning.guarding import SharedWeightError, SharedWeights
from instructclf.engine.tuning.low_rank import fuse_update

WEIGHTS_FILE = "adapter_model.safetensors"
"""PEFT's name for the file."""


class AdapterSettings(Protocol):
    """A kind of adapter and its shape: all that tells `Adapter` one kind from another."""

    @property
    def n_layers(self) -> int | None:
        """In how many of the last decoder layers the adapter works. ``None`` for all."""
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
        The share of inputs that an update does not see while it is trained.
    target_modules : str or tuple of str
        The layers that get an update: ``"all-linear"``, a pattern, or names.
    n_layers : int or None, default=None
        In how many of the last decoder layers they get one. ``None`` for all.
    """

    rank: int
    alpha: float
    dropout: float
    target_modules: str | tuple[str, ...]
    n_layers: int | None = None

    @property
    def may_draw(self) -> bool:
        """Whether a forward pass in training may draw random numbers."""
        return self.dropout > 0

    def make_config(self, view: Any) -> Any:
        """Return PEFT's configuration of such an adapter on this view."""
        from peft import LoraConfig

        targets = self.target_modules
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]  # scaling may be a fraction
            lora_dropout=self.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            exclude_modules=frozen_layers_pattern(view, self.n_layers),
            task_type="CAUSAL_LM",
        )

    def check(self, wrapped: Any, view: Any, parameters: list[nn.Parameter]) -> None:
        """Do nothing: LoRA trains weights of its own, inside layers."""

    def of_average(self, n_adapters: int) -> LoraSettings:
        """Return settings whose rank and alpha are the sums of those of the adapters."""
        return replace(self, rank=n_adapters * self.rank, alpha=n_adapters * self.alpha)


@dataclass(frozen=True)
class PeftSettings:
    """An adapter of any kind that PEFT has.

    Parameters
    ----------
    config : peft.PeftConfig
        What PEFT calls its configuration. It is never changed.
    """

    config: Any
    n_layers: ClassVar[None] = None
    may_draw: ClassVar[bool] = True  # each kind has its own words for dropout

    def make_config(self, view: Any) -> Any:  # noqa: ARG002  (a configuration says all by itself)
        """Return a copy of the configuration, to be trained."""
        config = copy.deepcopy(self.config)
        config.task_type = "CAUSAL_LM"
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
    """Check what shows before there is a model: whether such an adapter can be tuned and scored.

    Parameters
    ----------
    config : object
        What was given as a configuration of PEFT.

    Raises
    ------
    ValueError
        If it is none, for another task, or of a kind that works beside the layers of a model or
        takes more than gradients to train.
    """
    with without_layout_hint():
        from peft import PeftConfig, PeftType
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    if not isinstance(config, PeftConfig):
        msg = f"an instance of peft.PeftConfig, such as peft.IA3Config(), or None. Got {config!r}"
        raise ValueError(msg)  # noqa: TRY004  (the caller says which parameter it is)
    kinds: Any = PEFT_TYPE_TO_TUNER_MAPPING
    tuner = kinds.get(config.peft_type)
    wanted: str | None = None
    is_outside = config.is_prompt_learning or getattr(config, "is_adaption_prompt", False)
    if config.task_type not in (None, "CAUSAL_LM"):
        wanted = 'for causal language models: with task_type="CAUSAL_LM", or without one'
    elif tuner is None or is_outside or config.peft_type == PeftType.XLORA:
        wanted = (
            "of a kind that PEFT puts into the layers of a model, such as peft.LoraConfig: prompt "
            "tuning, prefix tuning, adaption prompts and X-LoRA work beside them"
        )
    elif hasattr(tuner, "update_and_allocate"):
        wanted = (
            "of a kind that is trained by gradients alone, such as peft.LoraConfig: this one moves "
            "parameters between layers after each step"
        )
    if wanted is not None:
        msg = f"{wanted}. Got {describe(config)}"
        raise ValueError(msg)


class Adapter:
    """An adapter on a view of a base model.

    Parameters
    ----------
    view : torch.nn.Module
        A view that is the adapter's own. Its layers are wrapped in place.
    settings : AdapterSettings
        The kind of adapter and its shape.
    seed : int, default=0
        Decides the initial weights.

    Raises
    ------
    ValueError
        If such an adapter would change weights of the base model, would be trained in half
        precision, or works beside the layers.
    """

    def __init__(self, view: Any, settings: AdapterSettings, seed: int = 0) -> None:
        check_not_offloaded(view)
        self.model = view
        self._may_draw = settings.may_draw
        self._wrapped = _wrap(view, settings, seed)
        _fuse_updates(self._wrapped)
        settings.check(self._wrapped, view, self.parameters)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weights to train, in float32 whatever the base model's type."""
        return [p for p in self._wrapped.parameters() if p.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the adapter's weights, on the CPU."""
        from peft import get_peft_model_state_dict

        # Left to itself, PEFT may ask the hub whether an embedding was resized.
        weights = get_peft_model_state_dict(self._wrapped, save_embedding_layers=False)
        return {name: weight.detach().cpu().clone() for name, weight in weights.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Put in weights that ``state`` returned.

        Parameters
        ----------
        state : dict of str to Tensor
            The weights of an adapter with the same settings.

        Raises
        ------
        ValueError
            If it had others.
        """
        from peft import set_peft_model_state_dict

        check_same_shapes(state, self.state())
        set_peft_model_state_dict(self._wrapped, dict(state))

    def write(self, folder: Path, base_name: str) -> None:
        """Write weights and configuration into a folder, for ``PeftModel.from_pretrained``.

        Parameters
        ----------
        folder : pathlib.Path
            A folder that exists.
        base_name : str
            The name of the base model.
        """
        config = copy.deepcopy(self._wrapped.peft_config["default"])
        config.base_model_name_or_path = base_name
        config.inference_mode = True
        config.save_pretrained(str(folder))
        weights = {name: weight.contiguous() for name, weight in self.state().items()}
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})

    def merge(self) -> Any:
        """Add the updates to the weights of the model, which must be the adapter's own for this.

        Returns
        -------
        torch.nn.Module
            The plain model.
        """
        return self._wrapped.merge_and_unload()

    @contextmanager
    def dropping_out(self, seed: int) -> Iterator[None]:
        """Let the adapter drop inputs meanwhile, the same ones under the same seed.

        Dropout reads torch's global generators, so no other run may draw from them at the time.
        """
        if not self._may_draw:
            yield
            return
        with _seeded(self.model, seed):
            self._set_dropout(active=True)
            try:
                yield
            finally:
                self._set_dropout(active=False)

    def generator_states(self) -> dict[str, Tensor]:
        """Return where torch's generators are, inside `dropping_out`. Nothing if none is read."""
        states = {"cpu": torch.get_rng_state()} if self._may_draw else {}
        if states and self.model.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.model.device)
        return states

    def set_generator_states(self, states: Mapping[str, Tensor]) -> None:
        """Set torch's generators, inside `dropping_out`, to where they were.

        Parameters
        ----------
        states : mapping of str to Tensor
            What `generator_states` returned.
        """
        if "cpu" in states:
            torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.model.device)

    def _set_dropout(self, *, active: bool) -> None:
        """Switch the adapter's own dropout on or off. The base model never drops anything."""
        for module in _adapter_modules(self._wrapped):
            module.training = active


def _wrap(view: Any, settings: AdapterSettings, seed: int) -> Any:
    """Let PEFT put an adapter into a view, and nothing into the weights that it shares."""
    with without_layout_hint():
        from peft import get_peft_model

    config = settings.make_config(view)
    shared = SharedWeights(view)
    try:
        with _seeded(view, seed), warnings.catch_warnings(), shared.guarded():
            # GPT-2's Conv1D layers store weights transposed; peft notices, sets it right and warns.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            # peft 0.21 reads a property that transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*deprecated")
            wrapped = get_peft_model(view, config)
        shared.check_kept()
    except SharedWeightError:
        msg = (
            f"This peft_config changes weights of the base model, which all classifiers share: "
            f"{describe(config)}. Choose an initialisation that leaves them, such as "
            "init_lora_weights=True, or another kind."
        )
        raise ValueError(msg) from None
    view.eval()
    shared.own_trained(view.parameters())
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
    config.base_model_name_or_path = None  # which may be elsewhere now, and is checked by its print
    return config


def _fuse_updates(wrapped: nn.Module) -> None:
    """Let plain LoRA layers add their updates in one step. Whatever else PEFT has stays PEFT's."""
    from peft.tuners.lora.layer import Linear

    for module in wrapped.modules():
        plain = type(module) is Linear and type(module.base_layer) is nn.Linear
        if plain and not module.lora_variant:
            fuse_update(module)


@contextmanager
def _seeded(view: Any, seed: int) -> Iterator[None]:
    """Seed the global generators, which initialisation reads, for this thread alone."""
    device = input_device(view)
    devices = [device] if device.type == "cuda" else []
    with process_state, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
