"""A fitted classifier → a model card, as the Hugging Face hub reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instructclf.storage import is_repo_id

_TITLE = "A text classifier made with instructclf"
_LIBRARY = "library_name: instructclf"
_HEAD: tuple[str, ...] = (
    "---",
    _LIBRARY,
    "pipeline_tag: text-classification",
    "tags:",
    "- instructclf",
)


def write_card(
    classifier: Any,
    model_name: str,
    source: str,
    versions: Mapping[str, str],
    scores: Mapping[str, float],
) -> str:
    """Write what a reader must know of a saved classifier, in Markdown with hub metadata."""
    parts = [
        _metadata(_head_of(classifier), [model_name]),
        f"# {_TITLE}\n",
        _use(f"`{type(classifier).__name__}` on the base model `{model_name}`.", source),
        "## Labels\n\n" + _labels(classifier),
        "## How it was made\n\n" + _parameters(classifier),
    ]
    return "\n".join([*parts, *_ending(scores, versions)])


def write_plain_card(
    classifier: Any,
    versions: Mapping[str, str],
    *,
    what: str,
    table: tuple[Sequence[str], Sequence[Sequence[Any]]],
    model_names: Sequence[str],
    source: str,
    scores: Mapping[str, float],
) -> str:
    """Write the card of a classifier without a prompt of its own: what it is, and one table.

    ``model_names`` are the base models of the classifiers inside.
    """
    parts = [
        _metadata(_HEAD, model_names),
        f"# {_TITLE}\n",
        _use(f"`{type(classifier).__name__}`: {what}", source),
        "## Labels\n\n" + _table(("label",), [(label,) for label in classifier.classes_.tolist()]),
        "## How it was made\n\n" + _table(*table),
    ]
    return "\n".join([*parts, *_ending(scores, versions)])


def _ending(scores: Mapping[str, float], versions: Mapping[str, str]) -> list[str]:
    return [
        "## Scores\n\n" + _scores(scores),
        "## Versions\n\n" + _table(("package", "version"), versions.items()),
    ]


def _head_of(classifier: Any) -> Sequence[str]:
    """Return the metadata of a prompted classifier, which PEFT can read if it is tuned."""
    if not hasattr(classifier, "adapter_"):
        return _HEAD
    return [*("library_name: peft" if line == _LIBRARY else line for line in _HEAD), "- lora"]


def _metadata(head: Sequence[str], model_names: Sequence[str]) -> str:
    found = [name.partition("@")[0] for name in model_names if not Path(name).exists()]
    repos = [name for name in found if is_repo_id(name)]  # the hub knows no folders
    bases = [f"base_model: {json.dumps(repos[0] if len(repos) == 1 else repos)}"] if repos else []
    return "\n".join([head[0], *bases, *head[1:], "---", ""])


def _use(what: str, source: str) -> str:
    return (
        f"{what}\n\n"
        "```python\nimport instructclf\n\n"
        f'classifier = instructclf.load("{source}")\nclassifier.predict(["a text"])\n```\n'
    )


def _labels(classifier: Any) -> str:
    definitions = classifier.label_definitions or {}
    if hasattr(classifier, "questions_"):
        each = zip(classifier.questions_.tolist(), classifier.classes_, strict=True)
        rows = [
            (name, ", ".join(map(str, classes.tolist())), _say(definitions.get(name, "")))
            for name, classes in each
        ]
        return _table(("question", "labels", "definition"), rows)
    rows = [
        (label, ", ".join(words), definitions.get(label, ""))
        for label, words in zip(classifier.classes_.tolist(), classifier.label_words_, strict=True)
    ]
    return _table(("label", "words", "definition"), rows)


def _say(defined: str | Mapping[Any, str]) -> str:
    """Return the definitions of a question's labels in one cell."""
    if isinstance(defined, str):
        return defined
    return " ".join(f"{label}: {sentence}" for label, sentence in defined.items())


def _parameters(classifier: Any) -> str:
    names = ("template", "instruction", "n_shots", "n_seeds", "calibration", "random_state")
    rows = [(f"`{name}`", getattr(classifier, name)) for name in names]
    rows.append(("rows used", len(classifier.shots_)))
    rows += [
        (name, getattr(classifier, name))
        for name in ("n_iter_", "stopped_by_")
        if hasattr(classifier, name)
    ]
    note = (
        "\nThe texts of the solved examples are in `classifier.json`.\n"
        if not hasattr(classifier, "adapter_") and len(classifier.shots_)
        else ""
    )
    return _table(("what", "value"), rows) + note


def _scores(scores: Mapping[str, float]) -> str:
    return _table(("figure", "value"), scores.items()) if scores else "None were given.\n"


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(_cell(value) for value in row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def _cell(value: Any) -> str:
    """Return a value that stays in its cell, whatever it holds."""
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
