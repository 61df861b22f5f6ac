"""What a model is asked → HTML that stands below scikit-learn's diagram of an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from instructclf.classifiers.showing.characters import without_controls
from instructclf.classifiers.showing.prompt_html import write_prompt
from instructclf.classifiers.showing.stretches import Stretch

# As for prompts: the colours of the page, and styles on the elements, which notebooks keep.
_CARD = (
    "font-family:system-ui,sans-serif;font-size:.9em;line-height:1.5;margin:.6em 0;max-width:60em"
)
_CELL = (
    "text-align:left;vertical-align:top;padding:.15em 1.2em .15em 0;overflow-wrap:break-word;"
    "background:none;border:0;border-bottom:1px solid rgba(127,127,127,.3)"
)
_LONG = 1500
"""Characters. A longer prompt is folded away at first."""


@dataclass(frozen=True)
class Card:
    """What stands below the diagram of an estimator.

    Parameters
    ----------
    facts : sequence of str
        What there is to say in a line.
    labels : sequence of (str, str, str)
        Each label, its words and its definition.
    stretches : sequence of Stretch
        The prompt, if it is known.
    """

    facts: Sequence[str]
    labels: Sequence[tuple[str, str, str]]
    stretches: Sequence[Stretch]


def write_card(card: Card) -> str:
    """Return facts, a table of labels, and the prompt, which can be folded away."""
    parts = [f'<div style="opacity:.85">{_write(" · ".join(card.facts))}</div>']
    if card.labels:
        parts.append(_write_labels(card.labels))
    if card.stretches:
        parts.append(_write_preview(card.stretches))
    inner = "".join(parts)
    return f'<div style="{_CARD}" role="region" aria-label="Prompt and labels">{inner}</div>'


def _write_labels(labels: Sequence[tuple[str, str, str]]) -> str:
    names = ("label", "words", "definition")
    says_more = (True, any(row[0] != row[1] for row in labels), any(row[2] for row in labels))
    kept = [i for i in range(3) if says_more[i]]
    head = "".join(f'<th scope="col" style="{_CELL};font-weight:600">{names[i]}</th>' for i in kept)
    rows = [[f'<td style="{_CELL}">{_write(row[i])}</td>' for i in kept] for row in labels]
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        '<table style="border-collapse:collapse;margin:.5em 0;font-size:1em">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _write_preview(stretches: Sequence[Stretch]) -> str:
    n_characters = sum(len(own.text) for own in stretches)
    state = " open" if n_characters <= _LONG else ""
    return (
        f'<details{state}><summary style="cursor:pointer;margin:.3em 0">Prompt '
        f'<span style="opacity:.7">({n_characters:,} characters without a text)</span></summary>'
        f"{write_prompt(stretches, ())}</details>"
    )


def _write(text: str) -> str:
    return escape(without_controls(text))
