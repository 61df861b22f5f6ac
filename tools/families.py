"""Compare scores of every family of language models with ordinary forward passes.

python -m tools.families                 # writes docs/families.md
python -m tools.families llama rwkv      # only prints the outcomes of these
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)

from tests.families import (
    TOLERANCE,
    Outcome,
    check_encoder_decoder,
    check_encoder_decoder_tuning,
    check_family,
    list_encoder_decoders,
    list_families,
)

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
_INTRODUCTION = """\
# Families of models

<!-- Written by "python -m tools.families". -->

transformers {transformers} registers {n} families of causal language models. Each was built
small, with random weights, and scored by `PromptClassifier`, with labels of one token and with
labels that share their beginnings.

- **{exact} families are exact:** all log-likelihoods are within {tolerance:.0e} of one full
  forward pass for each text and label (torch {torch}, CPU).
- {refused} are refused with an error.
- None is silently wrong.
- {unbuilt} could not be built small, and were not tested.

Families of encoders are built here as decoders (`is_decoder=True`). Their published checkpoints
are encoders, which are refused.

Exact does not mean fast: in families where sharing a prefix is not exact, full prompts go through
the model. See [Scoring and calibration](scoring.md#the-same-numbers-computed-faster).
[Encoder-decoder models](#encoder-decoder-models) are at the end.
"""
_ENCODER_DECODERS = """
## Encoder-decoder models

transformers registers {n} families whose encoder reads a text and whose decoder writes another one.
They were tested in the same way, with random weights, against transformers' own passes with
`labels=`. No published checkpoint was.

- **`PromptClassifier`:** the largest difference of log-likelihoods. {prompting}
- **`InstructionTunedClassifier`:** the difference of the gradients of an adapter in all linear
  layers, relative to their norm, for prompts of several lengths and the loss `"lm+label"`. {tuning}
- `PromptFeatures` refuses all of them.

| family | class | prompting | tuning |
|---|---|---|---|
"""


def write_page(
    outcomes: dict[str, Outcome], prompted: dict[str, Outcome], tuned: dict[str, Outcome]
) -> str:
    """Return the page of all outcomes, the last two of them those of encoder-decoder models."""
    kinds = {kind: _of_kind(outcomes, kind) for kind in ("exact", "refused", "not built")}
    page = [
        _INTRODUCTION.format(
            transformers=transformers.__version__,
            torch=torch.__version__.partition("+")[0],
            n=len(outcomes),
            tolerance=TOLERANCE,
            exact=len(kinds["exact"]),
            refused=len(kinds["refused"]),
            unbuilt=len(kinds["not built"]),
        ),
        "## Exact\n\n| family | class | largest difference |\n|---|---|---|",
        *_lines(kinds["exact"]),
        "\n## Refused\n\n| family | class | what the error says |\n|---|---|---|",
        *_lines(kinds["refused"]),
        "\n## Not built\n\n| family | class | why |\n|---|---|---|",
        *_lines(kinds["not built"]),
        write_encoder_decoders(prompted, tuned),
    ]
    return "\n".join(page)


def write_encoder_decoders(prompted: dict[str, Outcome], tuned: dict[str, Outcome]) -> str:
    """Return the part of the page about encoder-decoder models."""
    introduction = _ENCODER_DECODERS.format(
        n=len(prompted), prompting=_count(prompted), tuning=_count(tuned)
    )
    lines = [
        f"| {name} | {MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[CONFIG_MAPPING[name]].__name__} | "
        f"{_describe(prompted[name])} | {_describe(tuned[name])} |"
        for name in prompted
    ]
    return introduction + "\n".join(lines) + "\n"


def _count(outcomes: dict[str, Outcome]) -> str:
    exact, refused, unbuilt = (
        len(_of_kind(outcomes, kind)) for kind in ("exact", "refused", "not built")
    )
    return f"Exact: {exact}. Refused with an error: {refused}. Not built: {unbuilt}."


def _describe(outcome: Outcome) -> str:
    return f"{outcome.kind}: {_escape(outcome.detail)}"


def _lines(outcomes: dict[str, Outcome]) -> list[str]:
    return [
        f"| {name} | {_class_of(name)} | {_escape(outcome.detail)} |"
        for name, outcome in outcomes.items()
    ]


def _of_kind(outcomes: dict[str, Outcome], kind: str) -> dict[str, Outcome]:
    return {name: outcome for name, outcome in outcomes.items() if outcome.kind == kind}


def _class_of(name: str) -> str:
    return MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[name]].__name__


def _escape(detail: str) -> str:
    sentence = " ".join(detail.split()).replace("|", "\\|")
    for sign, entity in {"<": "&lt;", "*": "\\*", "_": "\\_"}.items():
        sentence = sentence.replace(sign, entity)
    return sentence if len(sentence) <= 200 else f"{sentence[:200]} …"


def main() -> None:
    """Check the families named, or all of them."""
    warnings.simplefilter("ignore")  # models warn when they are made
    transformers.logging.set_verbosity_error()
    named = sys.argv[1:]
    outcomes = [
        _check_all([name for name in names if not named or name in named], check)
        for names, check in (
            (list_families(), check_family),
            (list_encoder_decoders(), check_encoder_decoder),
            (list_encoder_decoders(), check_encoder_decoder_tuning),
        )
    ]
    wrong = [name for found in outcomes for name in _of_kind(found, "wrong")]
    if wrong:
        sys.exit(f"Silently wrong: {', '.join(wrong)}")
    if not named:
        PAGE.write_text(write_page(*outcomes), encoding="utf-8")


def _check_all(names: list[str], check: Callable[[str], Outcome]) -> dict[str, Outcome]:
    outcomes = {}
    for name in names:
        outcomes[name] = check(name)
        print(f"{name}: {outcomes[name].kind}, {outcomes[name].detail[:160]}", flush=True)
    return outcomes


if __name__ == "__main__":
    main()
