"""A model of the shape of Llama-7B on one accelerator: prompting, tuning, tuned prediction.

    PYTHONPATH=src python benchmarks/gpu.py --out results       minutes, unattended
    PYTHONPATH=src python benchmarks/gpu.py --toy               on a CPU too, to see that it works

Weights are random, drawn on the device in bfloat16, so nothing here is about accuracy. Results are
written after each part, so that a crash in one loses no other, and parts that would begin after
``--minutes`` are left out. ``gpu.json`` holds everything, ``gpu.md`` the table.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import texts
import torch
from fits import DEFINITIONS, TASK, our_classifier, render, without_restart
from measuring import RESULTS, Settings, environment, peak_memory
from models import Arithmetic
from peers.trainers import TuningSettings, fit_with_loop, fit_with_trainer
from tables import Table, at_least, at_most, number, page, save_page, save_record, small, times
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from instructclf import ModelOptions, PromptClassifier, bundled
from instructclf.engine.models.views import shared_view

_LLAMA_7B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11_008,
    "vocab_size": 32_000,
}
_TOY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 8192,
}
_TEXT = range(110, 131)
"""Tokens of a text: about 120."""
_PREDICTION_TARGET, _TUNING_TARGET, _TUNED_TARGET = 0.6, 0.4, 1.1
_GIB = 2**30
_N_WARM = 512
"""Texts predicted before the clock starts: several whole batches, so that kernels are loaded."""
_N_COUNTED = 200
"""Texts whose tokens are counted, to estimate the length of all."""


@dataclass(frozen=True)
class Size:
    """The sizes of the benchmark.

    Parameters
    ----------
    shape : dict
        The shape of the model.
    n_texts, n_shots, n_epochs : int
        Texts to predict, shots in the prompt, and passes over the 16 rows to tune on.
    n_checked : int
        Texts whose scores are compared with a forward pass for each prompt and label.
    ceiling : int
        Side of the square matrices whose product is the ceiling.
    ceiling_s : float
        The least seconds of a measured product. Clocks of a device fall after a short burst.
    budgets : tuple of int
        Tokens of a batch, tried in turn.
    """

    shape: dict[str, int]
    n_texts: int = 4000
    n_shots: int = 16
    n_epochs: int = 20
    n_checked: int = 16
    ceiling: int = 8192
    ceiling_s: float = 2.0
    budgets: tuple[int, ...] = (4096, 8192, 16_384, 32_768)


FULL = Size(_LLAMA_7B)
TOY = Size(
    _TOY, n_texts=32, n_epochs=2, n_checked=4, ceiling=256, ceiling_s=0.05, budgets=(256, 512)
)


@dataclass(frozen=True)
class Work:
    """The wall-clock seconds of a part, device included, and the arithmetic done in them."""

    seconds: float
    operations: float
    peak_gib: float
    ceiling: float

    def record(self, **more: Any) -> dict[str, Any]:
        rate = self.operations / self.seconds / 1e12
        return {
            "seconds": self.seconds,
            "tflop": self.operations / 1e12,
            "tflop_per_s": rate,
            "share": rate / self.ceiling if self.ceiling else None,
            "peak_gib": self.peak_gib,
            **more,
        }


class Bench:
    """The model on the device, and each part of the benchmark.

    Parameters
    ----------
    size : Size
        The sizes of the benchmark.
    device : torch.device
        The device of the model.
    seed : int
        Decides weights and texts.
    """

    def __init__(self, size: Size, device: torch.device, seed: int) -> None:
        self.size, self.device, self.seed = size, device, seed
        self.ceiling = 0.0
        self._tuned: Any = None

    # Parts, in the order in which they run

    def measure_ceiling(self) -> dict[str, Any]:
        """Return TFLOP/s of a large matrix product, and of those of the model's layers."""
        side = self.size.ceiling
        square = [self._product_rate([(side, side, side)]) for _ in range(3)]
        layer = self._product_rate(Arithmetic(**_arithmetic(self.size.shape)).products(2 * side))
        self.ceiling = max(square)
        return {"square": square, "layer": layer, "side": side}

    def build(self) -> dict[str, Any]:
        """Draw the model's weights on the device."""
        self.tokenizer = AutoTokenizer.from_pretrained(str(bundled.model_path()))
        config = AutoConfig.for_model(
            "llama",
            **self.size.shape,
            max_position_embeddings=4096,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        torch.manual_seed(self.seed)
        with self._timed() as clock, torch.device(self.device):
            model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        self.model = model.requires_grad_(requires_grad=False).eval()
        self.arithmetic = Arithmetic.of(self.model)
        n_weights = sum(parameter.numel() for parameter in self.model.parameters())
        self._make_rows()
        return {"seconds": clock.seconds, "n_weights": n_weights, "peak_gib": clock.peak_gib}

    def prompt(self) -> dict[str, Any]:
        """Predict all texts under a prompt with shots."""
        return self._predict(self._prompting(self.size.n_shots, texts.TWO_LABELS))

    def prompt_six_labels(self) -> dict[str, Any]:
        """Predict with six labels of several tokens and shared beginnings."""
        return self._predict(self._prompting(self.size.n_shots, texts.SIX_LABELS))

    def sweep_budgets(self) -> dict[str, Any]:
        """Predict a part of the texts with batches of several sizes."""
        some = self.texts[: max(8, len(self.texts) // 8)]
        return {
            str(budget): self._predict(
                self._prompting(
                    self.size.n_shots,
                    texts.TWO_LABELS,
                    model_options=ModelOptions(max_batch_tokens=budget),
                ),
                some,
            )
            for budget in self.size.budgets
        }

    def check(self) -> dict[str, Any]:
        """Compare scores with one forward pass for each prompt and label, and time these."""
        classifier = self._prompting(self.size.n_shots, texts.SIX_LABELS)
        checked = self.texts[: self.size.n_checked]
        ours = classifier.label_log_likelihood(checked)
        with self._timed() as clock:
            single = self._single_scores(classifier, checked)
        n_tokens = sum(len(ids) for ids in self._prompt_ids(classifier, checked))
        work = self._work(clock, len(texts.SIX_LABELS) * self._forward(n_tokens, len(checked)))
        return work.record(
            largest_difference=float(np.abs(ours - single).max()),
            rows_with_the_same_label=float((ours.argmax(1) == single.argmax(1)).mean()),
            n_texts=len(checked),
        )

    def tune(self) -> dict[str, Any]:
        """Tune all linear layers on 16 rows."""
        self._tuned, record = self._tune("all-linear")
        return record

    def tune_queries_and_values(self) -> dict[str, Any]:
        """Tune queries and values on 16 rows."""
        return self._tune(("q_proj", "v_proj"))[1]

    def predict_tuned(self) -> dict[str, Any]:
        """Predict all texts through the tuned model, and through the base model."""
        if self._tuned is None:
            self._tuned, _ = self._tune("all-linear")
        base = self._predict(self._prompting(0, texts.TWO_LABELS))
        tuned = self._predict(self._tuned)
        return {**tuned, "over_base": tuned["seconds"] / base["seconds"], "base": base}

    def tune_loop(self) -> dict[str, Any]:
        """Tune queries and values with a hand-written loop over full logits."""
        return self._tune_peer(fit_with_loop)

    def tune_trainer(self) -> dict[str, Any]:
        """Tune queries and values with ``transformers.Trainer``."""
        return self._tune_peer(fit_with_trainer)

    def profile(self) -> dict[str, Any]:
        """Name the kernels that take most of a prediction and of a tuning step."""
        classifier = self._prompting(self.size.n_shots, texts.TWO_LABELS)
        some = self.texts[: max(8, len(self.texts) // 8)]
        classifier.label_log_likelihood(some[:8])
        settings = self._settings("all-linear", n_epochs=2)
        return {
            "prompt": self._profiled(lambda: classifier.label_log_likelihood(some)),
            "tune": self._profiled(lambda: self._fit_ours(settings)),
        }

    # What the parts share

    def _make_rows(self) -> None:
        labels = texts.TWO_LABELS
        make = texts.paired_reviews
        rows = make(self.tokenizer, _TEXT, self.size.n_texts, labels, split="test", seed=self.seed)
        self.texts = rows.texts
        shots = make(self.tokenizer, texts.SHOT, 16, labels, split="train", seed=self.seed)
        self.shots = shots

    def _prompting(self, n_shots: int, labels: tuple[str, ...], **options: Any) -> Any:
        definitions = DEFINITIONS if labels == texts.TWO_LABELS else dict.fromkeys(labels, "Such.")
        classifier = PromptClassifier(
            (self.model, self.tokenizer),
            instruction=TASK,
            label_definitions=definitions,
            n_shots=n_shots,
            calibration=None,
            random_state=self.seed,
            **options,
        )
        shown = self.shots.texts
        return classifier.fit(shown, [labels[i % len(labels)] for i in range(len(shown))])

    def _predict(self, classifier: Any, some: Sequence[str] | None = None) -> dict[str, Any]:
        chosen = self.texts if some is None else list(some)
        with self._timed() as first:
            classifier.label_log_likelihood(chosen[:8])  # computes the prefix
        classifier.label_log_likelihood(chosen[:_N_WARM])
        with self._timed() as clock:
            scores = classifier.label_log_likelihood(chosen)
        # Tokenising all full prompts would take longer than predicting.
        ids = self._prompt_ids(classifier, chosen[:_N_COUNTED])
        n_shared = _n_shared(ids)
        lengths = [len(row) - n_shared for row in ids]
        each = [self.arithmetic.forward(length, n_shared, 1) for length in lengths]
        return self._work(clock, len(chosen) * float(np.mean(each))).record(
            first_s=first.seconds,
            host_cpu_s=clock.host_cpu_s,
            n_texts=len(chosen),
            n_prefix=n_shared,
            tokens_a_text=float(np.mean(lengths)),
            texts_per_s=len(chosen) / clock.seconds,
            is_finite=bool(np.isfinite(scores).all()),
        )

    def _prompt_ids(self, classifier: Any, some: Sequence[str]) -> list[list[int]]:
        prompts = [classifier.get_prompt(text) for text in some]
        return self.tokenizer(prompts)["input_ids"]

    def _single_scores(self, classifier: Any, some: Sequence[str]) -> np.ndarray:
        scores = np.empty((len(some), len(classifier.classes_)))
        for row, text in enumerate(some):
            n_prompt = len(self.tokenizer(classifier.get_prompt(text))["input_ids"])
            for column, label in enumerate(classifier.classes_):
                ids = self.tokenizer(classifier.get_prompt(text, label))["input_ids"]
                scores[row, column] = self._log_likelihood(ids, n_prompt)
        return scores

    @torch.inference_mode()
    def _log_likelihood(self, ids: list[int], n_prompt: int) -> float:
        inputs = torch.tensor([ids], device=self.device)
        n_label = len(ids) - n_prompt
        logits = self.model(inputs, use_cache=False, logits_to_keep=n_label + 1).logits[0, :-1]
        chosen = logits.float().log_softmax(-1).gather(1, inputs[0, n_prompt:].unsqueeze(1))
        return float(chosen.double().sum())

    def _settings(self, targets: str | tuple[str, ...], n_epochs: int | None = None) -> Any:
        return TuningSettings(
            n_epochs=n_epochs or self.size.n_epochs, targets=targets, rank=16, alpha=32
        )

    def _fit_ours(self, settings: TuningSettings) -> Any:
        classifier = our_classifier((self.model, self.tokenizer), settings)
        with without_restart():
            return classifier.fit(self.shots.texts, self.shots.labels)

    def _tune(self, targets: str | tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
        settings = self._settings(targets)
        self._fit_ours(self._settings(targets, n_epochs=1))  # chooses kernels and allocates memory
        with self._timed() as clock:
            tuned = self._fit_ours(settings)
        ids = self._prompt_ids(tuned, self.shots.texts)
        n_shared = _n_shared(ids)
        n_steps = settings.n_steps(len(ids))
        rows = sum(self._tuning_operations(len(row) - n_shared, n_shared, 2) for row in ids)
        prefix = self._tuning_operations(n_shared, 0, 0)
        operations = rows * settings.n_epochs + prefix * n_steps
        record = self._work(clock, operations).record(
            n_steps=n_steps, ms_a_step=1e3 * clock.seconds / n_steps, n_prefix=n_shared,
            tokens_a_row=float(np.mean([len(row) for row in ids])), losses=tuned.loss_curve_,
        )  # fmt: skip
        return tuned, record

    def _tuning_operations(self, tokens: int, before: int, outputs: int) -> float:
        """Return the operations of a row, forward and backward, with frozen weights.

        The backward pass of a frozen product takes one of the same size, that of attention two. The
        products of the adapter are left out.
        """
        forward = self.arithmetic.forward(tokens, before, outputs)
        seen = tokens * before + tokens * (tokens + 1) / 2
        shape = self.arithmetic
        return 2 * forward + 4 * shape.layers * shape.heads * shape.width * seen

    def _tune_peer(self, fit: Callable[..., None]) -> dict[str, Any]:
        rows = render(self.shots.texts, self.shots.labels)
        settings = self._settings(("q_proj", "v_proj"))
        fit(shared_view(self.model), self.tokenizer, rows, self._settings(settings.targets, 1))
        with self._timed() as clock:
            fit(shared_view(self.model), self.tokenizer, rows, settings)
        lengths = [len(ids) for ids in self.tokenizer([r.prompt for r in rows])["input_ids"]]
        operations = sum(self._tuning_operations(length, 0, length) for length in lengths)
        n_steps = settings.n_steps(len(rows))
        return self._work(clock, operations * settings.n_epochs).record(
            n_steps=n_steps, ms_a_step=1e3 * clock.seconds / n_steps
        )

    def _forward(self, n_tokens: int, n_rows: int) -> float:
        length = n_tokens / n_rows
        return n_rows * self.arithmetic.forward(length, 0, 1)

    def _work(self, clock: Clock, operations: float) -> Work:
        return Work(clock.seconds, operations, clock.peak_gib, self.ceiling)

    def _product_rate(self, shapes: Sequence[tuple[int, int, int]]) -> float:
        operands = [
            (
                torch.randn(m, k, device=self.device, dtype=torch.bfloat16),
                torch.randn(n, k, device=self.device, dtype=torch.bfloat16),
            )
            for m, k, n in shapes
        ]
        n_loops = 1
        while True:
            with self._timed() as clock:
                for _ in range(n_loops):
                    for left, right in operands:
                        torch.nn.functional.linear(left, right)
            if clock.seconds >= self.size.ceiling_s:
                break
            n_loops *= 2
        operations = n_loops * sum(2 * m * k * n for m, k, n in shapes)
        return operations / clock.seconds / 1e12

    def _profiled(self, call: Callable[[], Any]) -> list[dict[str, Any]]:
        is_cuda = self.device.type == "cuda"
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
        with profile(activities=kinds) as profiler:
            call()
            self._synchronise()
        kind = "self_device_time_total" if is_cuda else "self_cpu_time_total"
        events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, kind))
        return [
            {"name": event.key[:120], "ms": getattr(event, kind) / 1e3, "calls": event.count}
            for event in events[:25]
        ]

    @contextlib.contextmanager
    def _timed(self) -> Iterator[Clock]:
        clock = Clock()
        with peak_memory() as host:
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            self._synchronise()
            start, cpu = time.perf_counter(), time.process_time()
            yield clock
            self._synchronise()
            clock.seconds = time.perf_counter() - start
            clock.host_cpu_s = time.process_time() - cpu
        clock.peak_gib = host.peak / 1024
        if self.device.type == "cuda":
            clock.peak_gib = torch.cuda.max_memory_allocated(self.device) / _GIB

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass
class Clock:
    """Wall-clock seconds, CPU seconds of the host and the peak of memory of a finished block."""

    seconds: float = 0.0
    host_cpu_s: float = 0.0
    peak_gib: float = 0.0


def _arithmetic(shape: dict[str, int]) -> dict[str, int]:
    heads = shape["num_attention_heads"]
    return {
        "layers": shape["num_hidden_layers"],
        "hidden": shape["hidden_size"],
        "heads": heads,
        "key_heads": shape["num_key_value_heads"],
        "width": shape["hidden_size"] // heads,
        "feed_forward": shape["intermediate_size"],
        "vocabulary": shape["vocab_size"],
    }


def _n_shared(ids: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all prompts have in common."""
    shortest = min(map(len, ids))
    matrix = np.array([row[:shortest] for row in ids])
    differs = (matrix != matrix[0]).any(axis=0)
    return int(differs.argmax()) if differs.any() else shortest


# Running


PARTS = (
    "measure_ceiling",
    "build",
    "prompt",
    "tune",
    "predict_tuned",
    "check",
    "tune_queries_and_values",
    "tune_loop",
    "tune_trainer",
    "prompt_six_labels",
    "sweep_budgets",
    "profile",
)
"""In order of importance."""


def main() -> None:
    arguments = _parse()
    device = torch.device(arguments.device)
    settings = Settings(
        models=("llama-7b shape",),
        rounds=1,
        toy=arguments.toy,
        threads=torch.get_num_threads(),
        out=arguments.out,
    )
    record = {"environment": {**environment(settings), **_describe(device)}, "parts": {}}
    bench = Bench(TOY if arguments.toy else FULL, device, settings.seed)
    start = time.perf_counter()
    for name in arguments.parts or PARTS:
        if time.perf_counter() - start > 60 * arguments.minutes:
            record["parts"][name] = {"error": f"not begun within {arguments.minutes} minutes"}
        else:
            record["parts"][name] = _run(bench, name)
        record["seconds"] = time.perf_counter() - start
        save_record(record, "gpu", settings.out)
        save_page(page(record, tabulate(record)), "gpu", settings.out)
    print(page(record, tabulate(record)), flush=True)


def _run(bench: Bench, name: str) -> dict[str, Any]:
    """Run one part. An error is recorded and does not stop the others."""
    print(f"{name} …", flush=True)
    start = time.perf_counter()
    try:
        result = getattr(bench, name)()
    except Exception:  # an unattended run must go on
        result = {"error": traceback.format_exc()}
        print(result["error"], flush=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    result["part_s"] = time.perf_counter() - start
    print(f"{name}: {result['part_s']:.1f} s", flush=True)
    return result


def _describe(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"device": "cpu"}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "device_gib": properties.total_memory / _GIB,
        "cuda": torch.version.cuda,
    }


def tabulate(record: dict[str, Any]) -> list[Table]:
    """Return the table of all parts that have run so far."""
    parts = record["parts"]
    rows = [_row(name, parts[name]) for name in PARTS if "tflop_per_s" in parts.get(name, {})]
    for budget, part in parts.get("sweep_budgets", {}).items():
        if isinstance(part, dict):
            rows.append(_row(f"batches of {budget} tokens", part))
    header = ("", "s", "TFLOP/s", "share of ceiling", "peak GiB", "details", "target")
    notes = [_ceiling_note(parts.get("measure_ceiling", {}))]
    notes += [f"{name} failed; see the JSON." for name in parts if "error" in parts[name]]
    device = record["environment"]["device"]
    return [Table(f"Llama-7B shape in bfloat16 on {device}", header, rows, notes)]


_TITLES = {
    "prompt": "predict under 16 shots, two labels",
    "prompt_six_labels": "predict under 16 shots, six labels",
    "check": "a forward pass for each text and label",
    "tune": "tune on 16 rows, all linear layers",
    "tune_queries_and_values": "tune on 16 rows, queries and values",
    "tune_loop": "the same in a hand-written loop",
    "tune_trainer": "the same with Trainer",
    "predict_tuned": "predict through the tuned model",
}


def _row(name: str, part: dict[str, Any]) -> tuple[str, ...]:
    return (
        _TITLES.get(name, name),
        number(part["seconds"]),
        number(part["tflop_per_s"]),
        number(part["share"]),
        number(part["peak_gib"]),
        _details(part),
        _target(name, part),
    )


def _details(part: dict[str, Any]) -> str:
    details = []
    if "tokens_a_text" in part:
        details.append(
            f"{part['n_texts']} texts of {part['tokens_a_text']:.0f} tokens after "
            f"{part['n_prefix']} shared ones; first 8 in {number(part['first_s'])} s; "
            f"host busy for {number(part['host_cpu_s'])} s"
        )
    if "ms_a_step" in part:
        details.append(f"{part['n_steps']} steps of {number(part['ms_a_step'])} ms")
    if "largest_difference" in part:
        details.append(
            f"{part['n_texts']} texts; ours differ by {small(part['largest_difference'])} at most"
        )
    if "over_base" in part:
        details.append(f"{times(part['over_base'])} the base model's time")
    return "; ".join(details)


def _target(name: str, part: dict[str, Any]) -> str:
    if name == "prompt":
        return at_least(part["share"], _PREDICTION_TARGET)
    if name == "tune":
        return at_least(part["share"], _TUNING_TARGET)
    if name == "predict_tuned":
        return at_most(part["over_base"], _TUNED_TARGET)
    return ""


def _ceiling_note(ceiling: dict[str, Any]) -> str:
    if "square" not in ceiling:
        return "The ceiling was not measured."
    return (
        f"The ceiling is a bfloat16 product of two square matrices of side {ceiling['side']}: "
        f"{number(max(ceiling['square']))} TFLOP/s. Products of the model's layers reach "
        f"{number(ceiling['layer'])}. The arithmetic counts shared tokens once, attention to "
        "earlier tokens only, no padding, and in tuning the backward pass through frozen weights. "
        "Peaks include the weights."
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--toy", action="store_true", help="tiny sizes, on any device")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins after so many")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    if arguments.device == "cpu" and not arguments.toy:
        parser.error("7 billion weights need an accelerator; on a CPU use --toy")
    return arguments


if __name__ == "__main__":
    main()
