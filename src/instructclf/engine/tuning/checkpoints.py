"""A training run → a file to go on from, if the process is killed.

A file is named after all that determines the run. So runs of one folder never mix, a run that is
started again finds its own file, and one that is done is not done again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import instructclf
from instructclf.engine.models.fingerprints import take_fingerprint
from instructclf.engine.models.loading import BaseModel
from instructclf.engine.tuning.digests import digest
from instructclf.engine.tuning.examples import Example
from instructclf.exceptions import CheckpointError
from instructclf.storage import read_record, write_record

_logger = logging.getLogger(__name__)

_FORMAT = 1
_PACKAGES = ("peft", "torch", "transformers")
_REMEDY = "Delete it, and this part of the fit starts anew."
_SHARE_OF_TIME = 0.05
"""Of training, which writing may take."""

State = tuple[dict[str, Any], dict[str, Tensor]]
"""Plain values, and tensors by name."""


class Checkpoint:
    """The file of one training run.

    Parameters
    ----------
    folder : pathlib.Path
        The folder of all runs' files. It is made when there is something to write.
    fingerprint : str
        What tells the run from any other, in hexadecimal.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.path = folder / f"run-{fingerprint[:24]}.safetensors"
        self._fingerprint = fingerprint
        self._due = 0.0  # the first step is written, so that a folder that cannot be is found out

    def read(self) -> State | None:
        """Return what was written last.

        Returns
        -------
        State or None
            ``None`` where the run has not begun.

        Raises
        ------
        CheckpointError
            If the file is damaged or another run's.
        """
        if not self.path.exists():
            return None
        plain, arrays = read_record(self.path, _REMEDY)
        if plain.get("fingerprint") != self._fingerprint:
            msg = f"{self.path} is not the checkpoint of this run, as its name says. {_REMEDY}"
            raise CheckpointError(msg)
        # Copied, so that memory lies as torch lays it out and sums come out the same.
        return plain, {name: torch.from_numpy(array).clone() for name, array in arrays.items()}

    def offer(self, take: Callable[[], State]) -> None:
        """Write, unless that was done so short a while ago that it would slow training down.

        Parameters
        ----------
        take : callable
            Returns the state, where it is needed.
        """
        start = time.monotonic()
        if start >= self._due:
            self.write(take())
            end = time.monotonic()
            self._due = end + (end - start) / _SHARE_OF_TIME

    def write(self, state: State) -> None:
        """Write a state in place of the last one.

        Parameters
        ----------
        state : State
            Plain values and tensors.
        """
        plain, tensors = state
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        write_record(self.path, {**plain, "fingerprint": self._fingerprint}, arrays)
        _logger.debug("Wrote %s", self.path)


class Checkpoints:
    """The files of all runs of one fit, which differ by their seed.

    Parameters
    ----------
    folder : pathlib.Path
        Where they are.
    base : BaseModel
        The model.
    examples : sequence of Example
        What is learned.
    **settings : object
        All else that determines a run, its seed aside.
    """

    def __init__(
        self, folder: Path, base: BaseModel, examples: Sequence[Example], **settings: Any
    ) -> None:
        self._folder = folder
        self._print = digest(
            {
                "format": _FORMAT,
                "versions": {name: version(name) for name in _PACKAGES},
                "instructclf": instructclf.__version__,
                "base": take_fingerprint(base),
                "device": base.model.device.type,
                "examples": [_describe_example(example) for example in examples],
                "settings": settings,
            }
        )

    def of_seed(self, seed: int) -> Checkpoint:
        """Return the file of the run with this seed."""
        return Checkpoint(self._folder, digest([self._print, seed]))


def _describe_example(example: Example) -> Any:
    """Describe what a model reads of an example, and what it is to answer."""
    trie = example.prompt.trie
    return [
        example.prompt.ids,
        [trie.tokens, trie.parents, trie.edges, trie.n_labels],
        [example.synonyms, example.n_response_tokens, example.loss, example.weight],
    ]
