"""LoRA tuning against the trainers that people use: seconds, memory, and time beyond steps.

All train the same adapter on the same base weights and rows, with the same batch size and number of
optimiser steps. The peers minimise the language loss of the response. We also minimise the loss of
the label among the labels, read from the same logits. ``agreement.py`` shows that losses and
gradients are equal where the objective is.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import agreement
import models
import texts
import torch
import transformers
from fits import our_classifier, render, without_restart
from measuring import Settings, as_json, interleave, peak_memory, run_fresh, set_threads
from peers.trainers import (
    TuningSettings,
    fit_with_loop,
    fit_with_trainer,
    tokenised,
)
from peers.trl_sft import fit_with_trl
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from tuning_cases import (
    CASES,
    LOOP,
    LOOP_BF16,
    OURS,
    OURS_BF16,
    OURS_UPPER,
    TRAINER,
    TRAINER_GROUPED,
    TRL,
    TRL_GROUPED,
    UPPER_CASES,
    Case,
)
from tuning_tables import tabulate

from instructclf.engine.models.views import shared_view

__all__ = ["measure", "peak_of_fit", "tabulate"]

_PEERS: dict[str, Callable[..., None]] = {
    TRAINER: fit_with_trainer,
    TRAINER_GROUPED: lambda *fit: fit_with_trainer(*fit, is_grouped=True),
    TRL: fit_with_trl,
    TRL_GROUPED: lambda *fit: fit_with_trl(*fit, is_grouped=True),
    LOOP: fit_with_loop,
    LOOP_BF16: fit_with_loop,
}
_UPPER_SHARE = 8 / 30
"""The share of layers that are tuned where only the upper ones are."""


class Bench:
    """A model in memory with the rows of a case, and every way to tune on them.

    Parameters
    ----------
    case : Case
        Rows and variants.
    toy : bool
        Whether to take a model of two small layers.
    seed : int
        Decides texts and random weights.
    """

    def __init__(self, case: Case, *, toy: bool, seed: int) -> None:
        self.case = case
        self._loaded: dict[str, Any] = {}
        self._load = lambda: models.load(case.model, toy=toy, seed=seed)
        self._loaded["float32"], self.tokenizer = self._load()
        rows = (
            texts.reviews(case.n_rows)
            if case.texts == "reviews"
            else texts.paired_reviews(
                self.tokenizer, texts.TEXT, case.n_rows, texts.TWO_LABELS, seed=seed
            )
        )
        self.texts, self.labels = rows.texts, rows.labels
        self.settings = TuningSettings(n_epochs=case.n_epochs, targets=case.targets)
        self.rows = render(self.texts, self.labels)

    def model(self, variant: str) -> Any:
        """Return the base model of a variant, converted at its first use."""
        dtype = "bfloat16" if variant in {OURS_BF16, LOOP_BF16} else "float32"
        if dtype not in self._loaded:
            self._loaded[dtype] = self._load()[0].to(getattr(torch, dtype))
        return self._loaded[dtype]

    def keep_only(self, variant: str) -> None:
        """Forget the models that this variant does not read, before memory is measured."""
        wanted = self.model(variant)
        self._loaded = {name: model for name, model in self._loaded.items() if model is wanted}

    def fit(self, variant: str) -> Any:
        """Tune once."""
        if variant in {OURS, OURS_BF16, OURS_UPPER}:
            return self._fit_ours(variant)
        # The peers change the model. A view costs milliseconds and shares all weights.
        view = shared_view(self.model(variant))
        return _PEERS[variant](view, self.tokenizer, self.rows, self.settings)

    def _fit_ours(self, variant: str) -> Any:
        model = self.model(variant)
        options: dict[str, Any] = {}
        if variant == OURS_UPPER:
            n_layers = model.config.num_hidden_layers
            options["adapter__n_layers"] = max(1, round(n_layers * _UPPER_SHARE))
        classifier = our_classifier((model, self.tokenizer), self.settings, **options)
        with without_restart():
            return classifier.fit(self.texts, self.labels)

    def n_tokens(self) -> dict[str, float]:
        """Return the mean and the largest length of the prompts, and that of an empty prompt."""
        lengths = [len(row["input_ids"]) for row in tokenised(self.rows, self.tokenizer)]
        empty = self.tokenizer(render([""], ["positive"])[0].prompt).input_ids
        return {"mean": statistics.mean(lengths), "longest": max(lengths), "empty": len(empty)}


class StepClock:
    """Separates the optimiser's steps from everything else in a fit, with any trainer.

    Steps begin with the first forward pass that keeps gradients and end with the last update.
    Times are CPU seconds.
    """

    def __init__(self) -> None:
        self.n_steps = 0
        self._first: float | None = None
        self._last = 0.0

    def __enter__(self) -> StepClock:
        self._forward = register_module_forward_pre_hook(self._before_forward)
        self._step = register_optimizer_step_post_hook(self._after_step)
        self._start = time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self._end = time.process_time()
        self._forward.remove()
        self._step.remove()

    def _before_forward(self, *_: Any) -> None:
        if torch.is_grad_enabled():
            self._first = time.process_time()
            self._forward.remove()

    def _after_step(self, *_: Any) -> None:
        self.n_steps += 1
        self._last = time.process_time()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of one step, and those of the fit beyond its steps."""
        inside = self._last - (self._first or 0.0)
        return {
            "step_s": inside / self.n_steps,
            "beyond_s": self._end - self._start - inside,
            "n_steps": self.n_steps,
        }


# Measuring


def measure(settings: Settings) -> dict[str, Any]:
    """Measure every case, and compare losses and gradients."""
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning)
    cases = [_measure_case(case, settings) for case in _chosen(CASES, settings)]
    upper = [_measure_case(case, settings) for case in _chosen(UPPER_CASES, settings)]
    return {"cases": cases, "upper": upper, "agreement": agreement.measure(settings)}


def _chosen(cases: Sequence[Case], settings: Settings) -> list[Case]:
    """Return the cases of the chosen models; at toy size only the first."""
    chosen = [case for case in cases if case.model in settings.models]
    if not settings.toy:
        return chosen
    return [replace(case, n_epochs=1) for case in chosen[:1]]


def _measure_case(case: Case, settings: Settings) -> dict[str, Any]:
    print(f"tuning: {case.title}", flush=True)
    bench = Bench(case, toy=settings.toy, seed=settings.seed)
    clocks: dict[str, list[dict[str, float]]] = {variant: [] for variant in case.variants}

    def fit(variant: str) -> None:
        with StepClock() as clock:
            bench.fit(variant)
        clocks[variant].append(clock.seconds())

    for variant in case.variants:
        bench.model(variant)  # converted before anything is timed
    _warm_up(case, settings.seed)
    rounds = min(settings.rounds, case.at_most_rounds)
    calls = {variant: _call(fit, variant) for variant in case.variants}
    timings = interleave(calls, rounds)
    _check_steps(case, bench, clocks)
    return {
        "title": case.title,
        "tokens": bench.n_tokens(),
        "case": asdict(case),
        "timings": {variant: as_json(measured) for variant, measured in timings.items()},
        "steps": clocks,
        "peaks": _peaks(case, settings) if case.measures_memory else {},
    }


def _call(fit: Callable[[str], None], variant: str) -> Callable[[], None]:
    return lambda: fit(variant)


def _warm_up(case: Case, seed: int) -> None:
    """Fit every variant once on a model of two small layers, so that all imports are done."""
    small = Bench(replace(case, n_rows=2, n_epochs=1, texts="long"), toy=True, seed=seed)
    for variant in case.variants:
        small.fit(variant)


def _check_steps(case: Case, bench: Bench, clocks: dict[str, list[dict[str, float]]]) -> None:
    expected = bench.settings.n_steps(case.n_rows)
    for variant, measured in clocks.items():
        if any(clock["n_steps"] != expected for clock in measured):
            msg = f"{variant} took {measured[0]['n_steps']} steps, and the others {expected}."
            raise RuntimeError(msg)


def _peaks(case: Case, settings: Settings) -> dict[str, float]:
    """Return each variant's peak in MiB above the loaded model, each in a new process."""
    short = asdict(replace(case, n_epochs=1))  # the peak is that of the largest batch
    return {
        variant: run_fresh(
            "tuning:peak_of_fit",
            case=short,
            variant=variant,
            toy=settings.toy,
            seed=settings.seed,
            threads=settings.threads,
        )
        for variant in ((TRAINER, OURS) if settings.toy else case.variants)
    }


def peak_of_fit(case: dict[str, Any], variant: str, toy: bool, seed: int, threads: int) -> float:  # noqa: FBT001  (called by name, with what JSON knows)
    """Return the peak memory of one fit above the memory used before it, in MiB."""
    set_threads(threads)
    if isinstance(case["targets"], list):
        case["targets"] = tuple(case["targets"])
    single = Case(**{**case, "variants": (variant,)})
    _warm_up(single, seed)
    bench = Bench(single, toy=toy, seed=seed)
    bench.keep_only(variant)
    _read_once(bench.model(variant))
    with peak_memory() as memory:
        bench.fit(variant)
    return memory.extra


def _read_once(model: Any) -> None:
    """Read all weights: those of a mapped file count as memory only after that."""
    for parameter in model.parameters():
        parameter.sum()
