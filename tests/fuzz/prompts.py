"""Feed prompts what a fuzzer finds. For a maintainer, with ``pip install atheris``:

    python tests/fuzz/prompts.py -max_total_time=300

It ends at the first text that crashes, that smuggles a marker or a special token in, or that is
broken up differently the second time.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from instructclf.prompts import TEMPLATES, Prompt, neutralise
    from instructclf.prompts.neutralising import fold

CONTROLS = ("</s>", "<s>", "<|im_end|>")
PROMPT = Prompt(TEMPLATES["alpaca"], "Task.", (("a", "x"),), CONTROLS)
FRAME = fold(PROMPT.render(""))
FIXED = [fold(own) for own in (*PROMPT.template.markers, *CONTROLS)]


def check_one(data: bytes) -> None:
    """Render one text, and look for what must not be in it."""
    text = atheris.FuzzedDataProvider(data).ConsumeUnicodeNoSurrogates(len(data))
    rendered = fold(PROMPT.render(text))
    for own in FIXED:
        assert rendered.count(own) == FRAME.count(own), (text, own)
    broken = PROMPT.as_data(text)
    assert neutralise(broken, PROMPT.template.markers, CONTROLS) == broken, text


if __name__ == "__main__":
    atheris.Setup(sys.argv, check_one)
    atheris.Fuzz()
