"""Stretches of a prompt → HTML that is readable on any page, light or dark, and without colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from instructclf.classifiers.showing.characters import LINE_BREAK, without_controls
from instructclf.classifiers.showing.stretches import Stretch

# Text has the colour of the page. What tells kinds apart is a tint that shows on white and on
# black, and a tag with the kind's name, so that nobody has to see colours. Styles stand on the
# elements, since some notebooks strip style sheets.
_HUES = {
    "instruction": "38,120,210",
    "definitions": "0,158,140",
    "shot": "222,150,0",
    "answer": "214,84,20",
    "text": "136,90,220",
    "cue": "127,127,127",
    "label": "214,40,110",
    "cut": "127,127,127",
}
_MEANINGS = {
    "template": "fixed text of the template",
    "instruction": "the task, and the labels to choose from",
    "definitions": "what each label means",
    "shot": "a labelled text, shown as an example",
    "answer": "the words of its label",
    "text": "the text to classify",
    "cue": "where the model goes on",
    "label": "the words that are scored",
    "cut": "where a text was too long",
}
_BOX = "border:1px solid rgba(127,127,127,.4);border-radius:6px;padding:.6em .8em;max-width:60em"
_PROMPT = (
    "white-space:pre-wrap;overflow-wrap:anywhere;font-family:ui-monospace,Menlo,Consolas,monospace;"
    "font-size:.9em;line-height:1.65;margin:.6em 0"
)
_SMALL = "font-family:system-ui,sans-serif;font-size:.85em;line-height:1.6"
_LEGEND = f"{_SMALL};list-style:none;display:flex;flex-wrap:wrap;gap:.15em 1.1em;margin:0;padding:0"
# What is no part of the prompt is not copied with it.
_ASIDE = "user-select:none;-webkit-user-select:none"
_TAG = (
    f"{_ASIDE};font-family:system-ui,sans-serif;font-size:.72em;font-weight:600;padding:0 .4em;"
    "margin-right:.35em;border-radius:3px;white-space:nowrap"
)


def write_prompt(stretches: Sequence[Stretch], notes: Sequence[str]) -> str:
    """Return a prompt with a legend."""
    kinds = dict.fromkeys(own.kind for own in stretches)
    legend = "".join(
        f'<li style="margin:0">{_tag(kind, kind)}{escape(_MEANINGS[kind])}</li>'
        for kind in _MEANINGS
        if kind in kinds
    )
    prompt = "".join(
        _write_stretch(own, goes_on=before is not None and before.kind == "cut")
        for before, own in zip([None, *stretches], stretches, strict=False)
    )
    below = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return (
        f'<div style="{_BOX}" role="region" aria-label="Prompt">'
        f'<ul style="{_LEGEND}" aria-label="Legend">{legend}</ul>'
        f'<div style="{_PROMPT}">{prompt}</div>'
        f'<div style="{_SMALL};opacity:.8">{below}</div></div>'
    )


def _write_stretch(stretch: Stretch, *, goes_on: bool) -> str:
    """Return a stretch, tagged after the line breaks that it begins with unless it goes on."""
    if stretch.kind == "template":
        return f'<span title="template" style="opacity:.75">{_write_text(stretch.text)}</span>'
    rest = stretch.text.lstrip("\n")
    breaks = stretch.text[: len(stretch.text) - len(rest)]
    style = f"background:rgba({_HUES[stretch.kind]},.16);border-radius:3px;unicode-bidi:isolate"
    return (
        f'{_write_text(breaks)}<span title="{stretch.name}" style="{style}">'
        f"{'' if goes_on else _tag(stretch.kind, stretch.name)}{_write_text(rest)}</span>"
    )


def _tag(kind: str, name: str) -> str:
    if kind == "template":
        return f'<span style="{_TAG};border:1px dashed rgba(127,127,127,.6)">{name}</span>'
    hue = _HUES[kind]
    style = f"{_TAG};background:rgba({hue},.3);border:1px solid rgba({hue},.8)"
    return f'<span style="{style}">{name}</span>'


def _write_text(text: str) -> str:
    sign = f'<span style="{_ASIDE};opacity:.4" aria-hidden="true">{LINE_BREAK}</span>\n'
    return escape(without_controls(text)).replace("\n", sign)
