"""A name, or loaded objects → a `LanguageModel` that runs in this process with torch."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from instructclf.engine.interfaces import (
    FilledPrompt,
    LabelledTexts,
    LanguageModel,
    Question,
    ScoredToken,
    ScoredTokens,
    Tuned,
)
from instructclf.engine.models.fingerprints import take_fingerprint
from instructclf.engine.models.loading import BaseModel, DeviceMap
from instructclf.engine.models.registry import get_base_model
from instructclf.engine.models.views import shared_view
from instructclf.engine.running.torch_state import own_torch_state
from instructclf.engine.scoring.budgets import TokenBudget
from instructclf.engine.scoring.encoder_decoder.forward import find_decoder_start
from instructclf.engine.scoring.encoder_decoder.reading import EncoderDecoderReader
from instructclf.engine.scoring.label_scoring import LocalLabelScorer, TokenScores
from instructclf.engine.scoring.states import NO_LABELS, StateReader
from instructclf.engine.tokens.chat import chat_template
from instructclf.engine.tokens.demonstrations import fit_demonstrations
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tokens.tokenising import control_strings, find_breaker, token_pieces
from instructclf.engine.tokens.variants import VariantEncoder
from instructclf.engine.tuning.adapters import AdapterSettings
from instructclf.engine.tuning.fitted_adapters import FittedAdapter
from instructclf.engine.tuning.training import TrainingSettings, tune_adapter
from instructclf.exceptions import ModelLoadingError
from instructclf.prompts import Prompt, PromptTemplate

_N_LAST = 6
"""How many of the prompt's last tokens are shown."""


@own_torch_state(inference=False)
def open_language_model(
    model: str | PathLike[str] | tuple[Any, Any] | LanguageModel,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str | None = None,
    device_map: DeviceMap = None,
    max_batch_tokens: int | None = None,
    verbose: int | bool = False,
) -> LanguageModel:
    """Return the language model of this name, loaded at most once per process.

    Parameters
    ----------
    model : str, path, tuple of (model, tokenizer) or LanguageModel
        ``"bundled"``, a folder or a hub id; loaded objects of transformers; or an engine of its
        own, which comes back unchanged.
    device, dtype : str, default="auto"
        Where a model that is loaded runs, and in which precision.
    quantization : str or None, default=None
        ``"4bit"`` stores weights in 4 bits while loading them.
    device_map : str, dict or None, default=None
        Where the parts of a model that is loaded go, instead of all of it to ``device``.
    max_batch_tokens : int or None, default=None
        The most tokens that go through the model at once. ``None`` takes what suits the device.
    verbose : int or bool, default=False
        Whether a line says that a file is converted before it is loaded, if that takes long.

    Returns
    -------
    LanguageModel
        The model.

    Raises
    ------
    ModelLoadingError
        If the model cannot be loaded.
    """
    if hasattr(model, "label_scorer"):
        return model  # pyright: ignore[reportReturnType]  # an engine, by what it can do
    base = get_base_model(
        model,  # pyright: ignore[reportArgumentType]  # no engine, so a name or a pair
        device=device,
        dtype=dtype,
        quantization=quantization,
        device_map=device_map,
        verbose=verbose,
    )
    return LocalModel(base, max_batch_tokens)


class QuestionScorer(LocalLabelScorer):
    """Scores one question. It holds the base model, so that the registry finds that meanwhile."""

    def __init__(
        self, base: BaseModel, view: Any, question: Question, max_batch_tokens: int | None
    ) -> None:
        encoder = _make_encoder(base, question)
        whole = _read_whole(base, encoder) if base.is_encoder_decoder else None
        super().__init__(view, encoder, max_batch_tokens=max_batch_tokens, whole=whole)
        self._base = base

    def fill_prompt(self, text: str) -> FilledPrompt:
        """Return the prompt of a text, cut to fit."""
        return _fill_prompt(self.encoder, text)

    def read_tokens(self, text: str) -> ScoredTokens:
        """Score each token of each answer, and name the characters that it stands for."""
        scores = self.score_tokens(text)
        return _name_tokens(self._base.tokenizer, scores, self.encoder.end_token)


class QuestionReader(StateReader):
    """Reads states at the end of one question's prompts. It holds the base model."""

    def __init__(self, base: BaseModel, question: Question, max_batch_tokens: int | None) -> None:
        encoder = _make_encoder(base, question)
        super().__init__(shared_view(base.model), encoder, max_batch_tokens=max_batch_tokens)
        self._base = base

    def fill_prompt(self, text: str) -> FilledPrompt:
        """Return the prompt of a text, cut to fit."""
        return _fill_prompt(self.encoder, text)


@dataclass(frozen=True, eq=False)
class LocalModel:
    """A base model of the registry, asked by one estimator.

    Parameters
    ----------
    base : BaseModel
        The model, which other estimators read too.
    max_batch_tokens : int or None
        The most tokens that go through it at once. ``None`` takes what suits the device.
    """

    base: BaseModel
    max_batch_tokens: int | None

    @property
    def name(self) -> str:
        """Where the model came from."""
        return self.base.name

    @property
    def context_length(self) -> int | None:
        """How many tokens the model was made for."""
        return self.base.context_length

    @property
    def reads_side_by_side(self) -> bool:
        """Whether it reads the alternatives of a prompt, as far as its architecture allows."""
        return not self.base.is_encoder_decoder

    def chat_template(self) -> PromptTemplate:
        """Return the tokenizer's chat template."""
        return chat_template(self.base.tokenizer)

    def protect(self, prompt: Prompt) -> Prompt:
        """Return the prompt with the special tokens that no text may contain."""
        tokenizer = self.base.tokenizer
        return replace(
            prompt,
            control_strings=control_strings(tokenizer),
            breaker=find_breaker(tokenizer, prompt.template.markers),
        )

    def fit_demonstrations(self, question: Question, texts: Sequence[str]) -> Question:
        """Cut demonstrations so that prompts with texts like these fit the context."""
        prompt = fit_demonstrations(
            self.base.tokenizer,
            question.prompt,
            question.label_words,
            max_length=question.max_length,
            texts=texts,
            has_decoder=self.base.is_encoder_decoder,
        )
        return replace(question, prompt=prompt)

    @own_torch_state(inference=False)
    def label_scorer(
        self, question: Question, adapter: FittedAdapter | None = None
    ) -> QuestionScorer:
        """Return what scores the answers of a question, on a view of its own."""
        view = shared_view(self.base.model)
        model = view if adapter is None else adapter.apply(view)
        return QuestionScorer(self.base, model, question, self.max_batch_tokens)

    @own_torch_state(inference=False)
    def state_reader(self, question: Question) -> QuestionReader:
        """Return what reads hidden states at the end of prompts, with or without labels.

        Raises
        ------
        ModelLoadingError
            If the model is an encoder-decoder, whose states are not at the end of a prompt.
        """
        if self.base.is_encoder_decoder:
            msg = (
                "Reading hidden states (PromptFeatures) needs a decoder-only model, and "
                f"{self.base.name!r} is an encoder-decoder ({self.base.model.config.model_type}). "
                "Use PromptClassifier or InstructionTunedClassifier, which score labels with such "
                "models, or take a decoder-only model."
            )
            raise ModelLoadingError(msg)
        return QuestionReader(self.base, question, self.max_batch_tokens)

    @own_torch_state(inference=False)
    def tune(
        self,
        question: Question,
        rows: LabelledTexts,
        *,
        adapter: AdapterSettings,
        training: TrainingSettings,
        seeds: tuple[int, int],
        start: FittedAdapter | None = None,
        checkpoints: Path | None = None,
        verbose: int | bool = 0,
    ) -> Tuned:
        """Train an adapter on rows."""
        base = self.base
        if any(weight.is_inference() for weight in base.model.parameters()):
            # The caller loaded it under torch.inference_mode, and such tensors pass no gradient.
            base = replace(base, model=copy.deepcopy(base.model))
        trained, record = tune_adapter(
            base,
            _make_encoder(self.base, question),
            rows.texts,
            rows.codes,
            adapter=adapter,
            settings=training,
            seeds=seeds,
            weights=rows.weights,
            start=None if start is None else start.weights,
            checkpoints=checkpoints,
            verbose=verbose,
        )
        scorer = QuestionScorer(self.base, trained.model, question, self.max_batch_tokens)
        return Tuned(FittedAdapter(adapter, trained.state()), record, scorer)

    @own_torch_state(inference=False)
    def fingerprint(self) -> dict[str, Any]:
        """Return what tells this model from any other, in JSON's types."""
        return take_fingerprint(self.base)

    @own_torch_state(inference=False)
    def write_adapter(self, adapter: FittedAdapter, folder: Path, model_name: str) -> None:
        """Write an adapter into a folder, as PEFT does."""
        adapter.write(shared_view(self.base.model), folder, model_name)

    @own_torch_state(inference=False)
    def export(self, adapter: FittedAdapter, folder: Path) -> None:
        """Write model and adapter as one model into a folder, with the tokenizer."""
        adapter.merge_into(self.base.model).save_pretrained(folder)
        self.base.tokenizer.save_pretrained(folder)


def _make_encoder(base: BaseModel, question: Question) -> PromptEncoder:
    words = question.label_words or NO_LABELS
    common = (base.tokenizer, question.prompt, words, question.max_length)
    options: dict[str, Any] = {
        "n_embeddings": getattr(base.model.get_input_embeddings(), "num_embeddings", None),
        "groups": question.groups,
        "has_decoder": base.is_encoder_decoder,
    }
    if question.demonstrations_for is None:
        return PromptEncoder(*common, **options)
    return VariantEncoder(*common, question.demonstrations_for, **options)


def _read_whole(
    base: BaseModel, encoder: PromptEncoder
) -> Callable[[Any, TokenBudget], EncoderDecoderReader]:
    start = find_decoder_start(base.model, *encoder.framed_label)
    return lambda view, budget: EncoderDecoderReader(view, start, budget)


def _fill_prompt(encoder: PromptEncoder, text: str) -> FilledPrompt:
    (encoded,) = encoder.encode([text])
    return FilledPrompt(encoder.prompt_for(text), encoder.shorten(text), encoded.n_tokens)


def _name_tokens(tokenizer: Any, scores: TokenScores, end_token: int | None) -> ScoredTokens:
    ids, trie = scores.prompt.ids, scores.prompt.trie
    edges = list(zip(trie.edges, scores.log_likelihoods.tolist(), strict=True))
    users: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for (answer, node, token), _ in edges:
        users[node, token].append(answer)

    def name(answer: int) -> tuple[ScoredToken, ...]:
        scored = [(edge[1:], value) for edge, value in edges if edge[0] == answer]
        pieces = token_pieces(tokenizer, [token for (_, token), _ in scored], ids)
        return tuple(
            ScoredToken(
                edge[1],
                piece,
                value,
                is_end=edge[1] == end_token,
                sharers=tuple(user for user in users[edge] if user != answer),
            )
            for (edge, value), piece in zip(scored, pieces, strict=True)
        )

    return ScoredTokens(
        answers=tuple(map(name, range(trie.n_labels))),
        n_prompt_tokens=len(ids),
        n_shared_tokens=scores.n_shared,
        prompt_end=tuple(token_pieces(tokenizer, ids[-_N_LAST:], ids[:-_N_LAST])),
        was_cut=scores.prompt.was_cut,
    )
