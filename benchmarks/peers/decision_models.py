"""Packages that read decisions from a causal language model, as scikit-learn classifiers.

Each imports its library when it is fitted, so that the rest of a program runs without it. Options
are the label words, each with its definition where there is one, and may be listed in any order.

AnyJev (0.3.0) needs no labels. Its ``Decider`` names the options A, B, C, reads the probability of
these letters, at level L0 once for each rotation of the options, and divides by what the model
answers to all texts of the call on average. any2jev (0.1.0) learns: a low-rank adapter, and a head
that compares the state after each option with that at the end. Its temperature stays at 1, since it
is fitted on rows that are not learned from, and of sixteen none are left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

PLAIN_CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}\n"
    "{% if loop.first %}\n{% endif %}{% endfor %}Answer:"
)
"""AnyJev's prompt for tokenizers without a chat template, after the start token that it leaves out.

On some training rows of CR, Gemma 3 270M was right more often after it than after a line break at
the end, or with the turns of Gemma's chat models.
"""


class _Decisions(ClassifierMixin, BaseEstimator):
    """Asks one question of each text."""

    def options(self) -> dict[str, str | None]:
        """Return the definition of each label's words, in the order in which they are stated."""
        words, definitions = self.verbalizer or {}, self.label_definitions or {}
        stated = self.classes_ if self.order is None else self.classes_[list(self.order)]
        return {words.get(c, str(c)): definitions.get(c) for c in stated.tolist()}

    def in_classes(self, probabilities: Any) -> NDArray[np.float64]:
        """Return columns in the order of the options as columns in that of the classes."""
        found = np.asarray(probabilities, dtype=np.float64)
        return found if self.order is None else found[:, np.argsort(self.order)]

    def predict(self, X: Sequence[str]) -> NDArray[Any]:
        """Return the most probable label of each text."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class AnyJev(_Decisions):
    """AnyJev's ``Decider``, training-free.

    Parameters
    ----------
    model : str
        A transformers folder.
    instruction : str
        The question.
    label_definitions, verbalizer : dict or None, default=None
        As of `PromptClassifier`.
    level : {"L0", "raw"}, default="L0"
        Whether to average over rotations and to correct the prior, or to read one prompt.
    order : sequence of int or None, default=None
        The positions of the classes in the order in which options are listed. ``None`` for sorted.
    dtype : str, default="bfloat16"
        The precision of the model.
    batch_size : int, default=16
        How many prompts go through the model together.
    shared_prefix : bool or "auto", default=True
        Whether all rotations share the pass over the text. ``"auto"``, which is the default of the
        library, does so from 256 tokens. On a processor the shorter ones gain as well.
    """

    def __init__(
        self,
        model: str,
        instruction: str,
        label_definitions: dict[str, str] | None = None,
        verbalizer: dict[str, str] | None = None,
        *,
        level: str = "L0",
        order: Sequence[int] | None = None,
        dtype: str = "bfloat16",
        batch_size: int = 16,
        shared_prefix: bool | str = True,
    ) -> None:
        self.model, self.instruction = model, instruction
        self.label_definitions, self.verbalizer = label_definitions, verbalizer
        self.level, self.order, self.dtype = level, order, dtype
        self.batch_size, self.shared_prefix = batch_size, shared_prefix

    def fit(self, X: Sequence[str], y: Sequence[Any]) -> Self:  # noqa: ARG002
        """Learn the names of the labels only."""
        self.classes_ = np.unique(y)
        self.backend_ = _backend(self.model, self.dtype)
        return self

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Return probabilities, which at level L0 depend on all texts."""
        from anyjev import Decider, Question

        options = [f"{w}: {d}" if d else w for w, d in self.options().items()]
        self.backend_.batch_size = self.batch_size
        decider = Decider(self.backend_, level=self.level, shared_prefix=self.shared_prefix)
        question = Question.choice(self.instruction, options)
        found = decider.decide_batch(list(X), question)
        return self.in_classes([[one.distribution[name] for name in options] for one in found])


@cache
def _backend(model: str, dtype: str) -> Any:
    """Return a loaded model, and give its tokenizer a chat template if it has none."""
    from anyjev.backends.hf import HFBackend

    backend = HFBackend(model, device="cpu", dtype=dtype)
    backend.tokenizer.chat_template = backend.tokenizer.chat_template or PLAIN_CHAT
    return backend


class Any2Jev(_Decisions):
    """any2jev, trained on the rows it is fitted on.

    Parameters
    ----------
    model : str
        A transformers folder.
    instruction : str
        The question.
    label_definitions, verbalizer : dict or None, default=None
        As of `PromptClassifier`.
    order : sequence of int or None, default=None
        The positions of the classes in the order in which options are listed when it predicts.
    epochs : float, default=10.0
        Passes over the rows. The default of the library, 2, is for thousands of rows, and too few
        for sixteen.
    batch_size : int, default=8
        How many texts are predicted together.
    random_state : int or None, default=None
        Decides the order of rows and options, and the weights at the start.
    """

    def __init__(
        self,
        model: str,
        instruction: str,
        label_definitions: dict[str, str] | None = None,
        verbalizer: dict[str, str] | None = None,
        *,
        order: Sequence[int] | None = None,
        epochs: float = 10.0,
        batch_size: int = 8,
        random_state: int | None = None,
    ) -> None:
        self.model, self.instruction = model, instruction
        self.label_definitions, self.verbalizer = label_definitions, verbalizer
        self.order, self.epochs = order, epochs
        self.batch_size, self.random_state = batch_size, random_state

    def fit(self, X: Sequence[str], y: Sequence[Any]) -> Self:
        """Train on requests with answers."""
        from any2jev import DecisionModel
        from any2jev.train import TrainConfig, train

        self.classes_ = np.unique(y)
        stated = [*self.set_params(order=None).options()]
        answers = [stated[code] for code in np.searchsorted(self.classes_, y)]
        requests = [
            {"state": text, "questions": {"label": self._question() | {"label": answer}}}
            for text, answer in zip(X, answers, strict=True)
        ]
        with TemporaryDirectory() as folder:
            rows = Path(folder) / "rows.jsonl"
            rows.write_text("".join(json.dumps(one) + "\n" for one in requests), encoding="utf-8")
            settings = TrainConfig(
                base=_with_delimiters(self.model, Path(folder) / "base"),
                data=str(rows),
                out=f"{folder}/out",
                epochs=self.epochs,
                seed=self.random_state or 0,
                device="cpu",
            )
            trained = train(settings, log=lambda _: None)
            self.model_ = DecisionModel.load(trained, device="cpu", merge=True)
        return self

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Return the probabilities of the head."""
        from any2jev.schema import SystemOneRequest, to_specs

        found: list[NDArray[np.float64]] = []
        asked = {"label": self._question()}
        packs = [
            self.model_.encode(text, to_specs(SystemOneRequest(state=text, questions=asked)))
            for text in X
        ]
        for start in range(0, len(packs), self.batch_size):
            said = self.model_.probs(packs[start : start + self.batch_size])
            found += [probabilities.numpy() for (probabilities,) in said]
        return self.in_classes(found)

    def _question(self) -> dict[str, Any]:
        return {"type": "choice", "instructions": self.instruction, "criteria": self.options()}


def _with_delimiters(model: str, folder: Path) -> str:
    """Return a model folder whose tokenizer has any2jev's special tokens.

    It reuses reserved tokens of Qwen, Llama 3 and Gemma. To any other tokenizer it would add its
    own with an argument that transformers 5 no longer has.
    """
    from any2jev.packing import NEW_DELIM_TOKENS, REUSABLE_DELIM_SETS
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    if any(set(tokens) <= tokenizer.get_vocab().keys() for tokens in REUSABLE_DELIM_SETS):
        return model
    folder.mkdir()
    for file in Path(model).iterdir():
        (folder / file.name).symlink_to(file)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    tokenizer.add_special_tokens({"additional_special_tokens": NEW_DELIM_TOKENS})
    tokenizer.save_pretrained(folder)
    return str(folder)
