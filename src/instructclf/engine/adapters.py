"""View → view with a LoRA adapter. The only module that imports peft.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022),
h = W0 x + (alpha / rank) B A x, with B = 0 at the start, so that an untrained adapter changes
nothing.
"""

from __future__ import annotations

import copy
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from instructclf.engine.decoder_layers import n_frozen_layers, named_decoder_layers
from instructclf.engine.low_rank import linear_with_update
from instructclf.engine.quantization import without_layout_hint

_initialisation = threading.Lock()
_WEIGHTS = "adapter_model.safetensors"
"""PEFT's name for the file."""


@dataclass(frozen=True)
class LoraSettings:
    """What a LoRA adapter looks like.

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


class Adapter:
    """A LoRA adapter on a view of a base model.

    Parameters
    ----------
    view : torch.nn.Module
        A view that is the adapter's own. Its layers are wrapped in place.
    settings : LoraSettings
        What the adapter looks like.
    seed : int, default=0
        Decides the initial weights.
    """

    def __init__(self, view: Any, settings: LoraSettings, seed: int = 0) -> None:
        with without_layout_hint():
            from peft import LoraConfig, get_peft_model

        targets = settings.target_modules
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]  # scaling may be a fraction
            lora_dropout=settings.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            exclude_modules=_lower_layers(view, settings.n_layers),
            task_type="CAUSAL_LM",
        )
        with _seeded(view, seed), warnings.catch_warnings():
            # GPT-2's Conv1D layers store weights transposed; peft notices, sets it right and warns.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            # peft 0.21 reads a property that transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*deprecated")
            self._wrapped = get_peft_model(view, config)
        self.model = view
        self._has_dropout = settings.dropout > 0
        if not self._has_dropout:
            _fuse_updates(self._wrapped)
        self._set_dropout(active=False)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weights to train, in float32 whatever the base model's type."""
        return [p for p in self._wrapped.parameters() if p.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the adapter's weights, on the CPU."""
        from peft import get_peft_model_state_dict

        weights = get_peft_model_state_dict(self._wrapped)
        return {name: weight.detach().cpu().clone() for name, weight in weights.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Put in weights that ``state`` returned."""
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self._wrapped, state)

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
        save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})

    @contextmanager
    def dropping_out(self, seed: int) -> Iterator[None]:
        """Let the adapter drop inputs meanwhile, the same ones under the same seed.

        Dropout reads torch's global generators, so no other run may draw from them at the time.
        """
        if not self._has_dropout:
            yield
            return
        with _seeded(self.model, seed):
            self._set_dropout(active=True)
            try:
                yield
            finally:
                self._set_dropout(active=False)

    def _set_dropout(self, *, active: bool) -> None:
        """Switch the adapter's own dropout on or off. The base model never drops anything."""
        for module in self._wrapped.modules():
            dropout = getattr(module, "lora_dropout", None)
            if isinstance(dropout, nn.Module):
                dropout.train(active)


def merge_adapter(model: Any, settings: LoraSettings, state: dict[str, Tensor]) -> Any:
    """Return a copy of a model with an adapter's updates added to its weights.

    Parameters
    ----------
    model : torch.nn.Module
        The base model, which stays as it is.
    settings : LoraSettings
        What the adapter looks like.
    state : dict of str to Tensor
        Its weights.

    Returns
    -------
    torch.nn.Module
        A plain model, in the precision of the base.
    """
    adapter = Adapter(copy.deepcopy(model), settings)
    adapter.load(state)
    return adapter._wrapped.merge_and_unload()  # noqa: SLF001  (it is this class's own)


def read_adapter(folder: Path) -> dict[str, Tensor] | None:
    """Return the weights that `Adapter.write` wrote, or ``None`` where there are none."""
    path = folder / _WEIGHTS
    return load_file(path) if path.is_file() else None


def average_adapters(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the adapter whose updates are the mean of others' updates, exactly.

    The mean of ``B_i A_i`` is one product of the ``B_i`` side by side, divided by their number, and
    the ``A_i`` one above the other. A mean of the ``A_i`` times a mean of the ``B_i`` would not be.

    Parameters
    ----------
    states : sequence of dict of str to Tensor
        The weights of adapters of one rank, scale and target.

    Returns
    -------
    dict of str to Tensor
        Weights of an adapter whose rank and alpha are the sums of theirs.

    Raises
    ------
    ValueError
        If weights are not those of plain LoRA.
    """
    found = {}
    for name in states[0]:
        parts = [state[name] for state in states]
        if "lora_A" in name or "lora_embedding_A" in name:
            found[name] = torch.cat(parts, dim=0)
        elif "lora_B" in name or "lora_embedding_B" in name:
            found[name] = torch.cat(parts, dim=1) / len(parts)
        else:
            msg = (
                f"The adapter's weight {name!r} belongs to no plain LoRA update, and has no exact "
                "mean. Set seed_average='log_proba'."
            )
            raise ValueError(msg)
    return found


def _lower_layers(view: Any, n_tuned: int | None) -> str | None:
    """Return a pattern for all that is inside the layers that are not tuned."""
    frozen = list(named_decoder_layers(view))[: n_frozen_layers(view, n_tuned)]
    return "|".join(rf"{re.escape(name)}\..*" for name in frozen) or None


def _fuse_updates(wrapped: nn.Module) -> None:
    """Let plain LoRA layers add their updates in one step. Whatever else PEFT has stays PEFT's."""
    from peft.tuners.lora.layer import Linear

    for module in wrapped.modules():
        plain = type(module) is Linear and type(module.base_layer) is nn.Linear
        if plain and not module.lora_variant:
            module.forward = partial(_forward_fused, module)


def _forward_fused(layer: Any, x: Tensor) -> Tensor:
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return linear_with_update(layer.base_layer, x, a, b, layer.scaling[name])


@contextmanager
def _seeded(view: Any, seed: int) -> Iterator[None]:
    """Seed the global generators, which initialisation reads, for this thread alone."""
    device = view.get_input_embeddings().weight.device
    devices = [device] if device.type == "cuda" else []
    with _initialisation, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
