"""A fitted classifier → a model card, as the Hugging Face hub reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instructclf.storage import is_repo_id

_TITLE = "A text classifier made with instructclf"


def write_card(
    classifier: Any,
    model_name: str,
    source: str,
    versions: Mapping[str, str],
    scores: Mapping[str, float],
) -> str:
    """Write what a reader must know of a saved classifier, in Markdown with hub metadata."""
    parts = [
        _metadata(classifier, model_name),
        f"# {_TITLE}\n",
        _use(classifier, model_name, source),
        "## Labels\n\n" + _labels(classifier),
        "## How it was made\n\n" + _parameters(classifier),
        "## Scores\n\n" + _scores(scores),
        "## Versions\n\n" + _table(("package", "version"), versions.items()),
    ]
    return "\n".join(parts)


def _metadata(classifier: Any, model_name: str) -> str:
    tuned = hasattr(classifier, "adapter_")
    lines = [
        "---",
        f"library_name: {'peft' if tuned else 'instructclf'}",
        "pipeline_tag: text-classification",
        "tags:",
        "- instructclf",
        *(["- lora"] if tuned else []),
    ]
    repo_id, _, _ = model_name.partition("@")  # a revision may follow
    if is_repo_id(repo_id) and not Path(model_name).exists():  # the hub knows no folders
        lines.insert(1, f"base_model: {json.dumps(repo_id)}")
    return "\n".join([*lines, "---", ""])


def _use(classifier: Any, model_name: str, source: str) -> str:
    return (
        f"`{type(classifier).__name__}` on the base model `{model_name}`.\n\n"
        "```python\nimport instructclf\n\n"
        f'classifier = instructclf.load("{source}")\nclassifier.predict(["a text"])\n```\n'
    )


def _labels(classifier: Any) -> str:
    definitions = classifier.label_definitions or {}
    rows = [
        (label, ", ".join(words), definitions.get(label, ""))
        for label, words in zip(classifier.classes_.tolist(), classifier.label_words_, strict=True)
    ]
    return _table(("label", "words", "definition"), rows)


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


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(_cell(value) for value in row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def _cell(value: Any) -> str:
    """Return a value that stays in its cell, whatever it holds."""
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
