"""Run the code on pages, so that readers who copy it get no error, and see what the page shows.

    python tools/gallery/pages.py                          # all pages listed below
    python tools/gallery/pages.py docs/how-to/abstain.md   # some of them

The Python blocks of a page are one program, run in an empty folder. Above a block that cannot run
here, a comment gives the reason: ``<!-- not run: takes a GPU -->``. A ``text`` block right after a
Python block is what it prints. Its numbers may differ a little, since processors round differently;
below ``<!-- varies: seconds -->`` they may differ at will. A line of ``…`` stands for any lines.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
REFERENCE = (
    *("installation", "prompts", "scoring", "sampling", "tuning"),
    *("scikit-learn", "evaluation", "saving", "hugging-face"),
)
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    ROOT / "docs" / "tutorial.md",
    ROOT / "docs" / "migration.md",
    ROOT / "docs" / "way-of-a-text.md",
    *(ROOT / "docs" / f"{name}.md" for name in REFERENCE),
    *sorted((ROOT / "docs" / "start").glob("*.md")),
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
)
BLOCK = re.compile(
    r"(?P<reason><!-- not run: [^\n]+ -->\n+)?^```python\n(?P<code>.*?)^```$"
    r"(?:\n+(?P<varies><!-- varies: [^\n]+ -->\n+)?^```text\n(?P<shown>.*?)^```$)?",
    re.M | re.S,
)
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
TOLERANCE = 0.02
"""How much a number may differ, or which share of it if it is large."""
ANYTHING = "…"


class OutputError(Exception):
    """A page shows something else than its code prints."""


@dataclass(frozen=True)
class Block:
    """A Python block, the number of lines above it, and what the page shows of its output."""

    code: str
    n_lines_above: int
    shown: str | None
    varies: bool


def main() -> None:
    """Run the pages on the command line, or all."""
    pages = [Path(name).resolve() for name in sys.argv[1:]] or PAGES
    wrong = []
    for page in pages:
        start = time.monotonic()
        try:
            n_blocks = run_page(page)
        except OutputError as error:
            wrong.append(str(error))
            continue
        print(
            f"{page.relative_to(ROOT)}: {n_blocks} blocks, {time.monotonic() - start:.0f} s",
            flush=True,
        )
    if wrong:
        sys.exit("\n".join(wrong))


def run_page(page: Path) -> int:
    """Run the blocks of a page in an empty folder, and return their number.

    Raises
    ------
    OutputError
        If a block prints something else than the page shows.
    """
    program = read_program(page.read_text(encoding="utf-8"))
    namespace = {"__name__": "__main__"}
    wrong = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block in program:
            printed = io.StringIO()
            # Empty lines, so that a traceback shows the lines of the page.
            code = compile("\n" * block.n_lines_above + block.code, str(page), "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            if block.shown is not None and not is_shown(block, printed.getvalue()):
                wrong.append(f"{page}:{block.n_lines_above}: printed\n{printed.getvalue()}")
    if wrong:
        raise OutputError("\n".join(wrong))
    return len(program)


def read_program(text: str) -> list[Block]:
    """Return the blocks to run."""
    return [
        Block(
            match["code"],
            text[: match.start("code")].count("\n"),
            match["shown"],
            match["varies"] is not None,
        )
        for match in BLOCK.finditer(text)
        if match["reason"] is None
    ]


def is_shown(block: Block, printed: str) -> bool:
    """Say whether a page shows what a block printed."""
    shown, found = (split(text) for text in (block.shown or "", printed))
    if ANYTHING in (block.shown or ""):
        start, _, end = (block.shown or "").partition(ANYTHING)
        before, after = split(start), split(end)
        if len(found) < len(before) + len(after):
            return False
        found = [*found[: len(before)], *found[len(found) - len(after) :]]
        shown = [*before, *after]
    return len(shown) == len(found) and all(
        is_alike(one, other, varies=block.varies) for one, other in zip(shown, found, strict=True)
    )


def split(text: str) -> list[str]:
    """Return numbers and what stands between them, without white space."""
    spaced = NUMBER.sub(lambda match: f" {match[0]} ", text)
    return spaced.split()


def is_alike(shown: str, printed: str, *, varies: bool) -> bool:
    """Say whether two words are equal, or two numbers nearly so."""
    if shown == printed:
        return True
    if not (NUMBER.fullmatch(shown) and NUMBER.fullmatch(printed)):
        return False
    one, other = (float(number.replace(",", "")) for number in (shown, printed))
    return varies or abs(one - other) <= TOLERANCE * max(1, abs(one))


if __name__ == "__main__":
    main()
