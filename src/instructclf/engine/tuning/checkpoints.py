"""A training run → a file from which it continues if the process is killed.

The name of a file is a fingerprint of all that determines the run. So runs never mix, a run that is
started again finds its file, and a run that is done is not repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import instructclf
from instructclf.engine.models.fingerprints import take_fingerprint
from instructclf.engine.models.loading import BaseModel
from instructclf.engine.tokens.tries import LabelTrie
from instructclf.engine.tuning.examples import Example
from instructclf.exceptions import CheckpointError
from instructclf.storage import read_record, write_record
from instructclf.storage.identity import fingerprint

_logger = logging.getLogger(__name__)

_FORMAT = 2
_PACKAGES = ("peft", "torch", "transformers")
_REMEDY = "Delete it, and this part of the fit starts anew."
_SHARE_OF_TIME = 0.05
"""The largest share of training time that may be spent writing."""

State = tuple[dict[str, Any], dict[str, Tensor]]
"""JSON-serialisable values, and tensors by name."""


class Checkpoint:
    """The file of one training run.

    Parameters
    ----------
    folder : pathlib.Path
        The folder with the files of all runs. It is made with the first file.
    run : str
        The fingerprint of the run.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.path = folder / f"run-{run[:24]}.safetensors"
        self._run = run
        self._due = 0.0  # write the first step at once, so that a read-only folder is noticed

    def read(self) -> State | None:
        """Return the state that was written last, ``None`` if the run has not begun.

        Raises
        ------
        CheckpointError
            If the file is damaged or belongs to another run.
        """
        if not self.path.exists():
            return None
        values, arrays = read_record(self.path, _REMEDY)
        if values.get("fingerprint") != self._run:
            msg = (
                f"{self.path} is not the checkpoint of the run that its name stands for. {_REMEDY}"
            )
            raise CheckpointError(msg)
        # Cloned into torch's memory layout, in which sums are rounded as before the interruption.
        return values, {name: torch.from_numpy(array).clone() for name, array in arrays.items()}

    def offer(self, take: Callable[[], State]) -> None:
        """Write the state that ``take`` returns, unless this would slow training down."""
        start = time.monotonic()
        if start >= self._due:
            self.write(take())
            end = time.monotonic()
            self._due = end + (end - start) / _SHARE_OF_TIME

    def write(self, state: State) -> None:
        """Replace the file by one with this state."""
        values, tensors = state
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        write_record(self.path, {**values, "fingerprint": self._run}, arrays)
        _logger.debug("Wrote %s", self.path)


class Checkpoints:
    """The files of all runs of one fit, which differ by their seed.

    Parameters
    ----------
    folder : pathlib.Path
        The folder of the files.
    base : BaseModel
        The model.
    examples : sequence of Example
        The rows to learn from.
    start : mapping of str to Tensor or None
        The weights that the runs start from.
    **settings : object
        Everything else that determines a run, except its seed.
    """

    def __init__(
        self,
        folder: Path,
        base: BaseModel,
        examples: Sequence[Example],
        *,
        start: Mapping[str, Tensor] | None,
        **settings: Any,
    ) -> None:
        self._folder = folder
        self._fit = fingerprint(
            {
                "format": _FORMAT,
                "versions": {name: version(name) for name in _PACKAGES},
                "instructclf": instructclf.__version__,
                "base": take_fingerprint(base),
                "device": base.model.device.type,
                "examples": _describe_examples(examples),
                # Sorted, because weights from a file come in another order than those of a fit.
                "start": None if start is None else sorted(start.items()),
                "settings": settings,
            }
        )

    def of_seed(self, seed: int) -> Checkpoint:
        """Return the file of the run with this seed."""
        return Checkpoint(self._folder, fingerprint([self._fit, seed]))


def _describe_examples(examples: Sequence[Example]) -> list[Any]:
    """Describe the tokens that a model reads of each example, and the answer that it is to give."""
    tries: dict[LabelTrie, str] = {}  # shared by most examples, and slow to take fingerprints of
    described = []
    for example in examples:
        trie = example.prompt.trie
        if trie not in tries:
            tries[trie] = fingerprint(trie)
        answer = [tries[trie], example.synonyms, example.n_response_tokens, example.loss]
        described.append([np.array(example.prompt.ids), answer, example.weight])
    return described
