"""Run the code on pages, so that readers who copy it get no error.

    python tools/gallery/pages.py                          # all pages listed below
    python tools/gallery/pages.py docs/how-to/abstain.md   # some of them

The Python blocks of a page are one program, run in an empty folder. Above a block that cannot run
here, a comment gives the reason: ``<!-- not run: takes a GPU -->``.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    ROOT / "docs" / "tutorial.md",
    ROOT / "docs" / "migration.md",
    ROOT / "docs" / "way-of-a-text.md",
    *sorted((ROOT / "docs" / "start").glob("*.md")),
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
)
BLOCK = re.compile(
    r"(?P<reason><!-- not run: [^\n]+ -->\n+)?^```python\n(?P<code>.*?)^```$", re.M | re.S
)


def main() -> None:
    """Run the pages on the command line, or all."""
    pages = [Path(name).resolve() for name in sys.argv[1:]] or PAGES
    for page in pages:
        start = time.monotonic()
        n_blocks = run_page(page)
        print(
            f"{page.relative_to(ROOT)}: {n_blocks} blocks, {time.monotonic() - start:.0f} s",
            flush=True,
        )


def run_page(page: Path) -> int:
    """Run the blocks of a page in an empty folder, and return their number."""
    program = read_program(page.read_text(encoding="utf-8"))
    namespace = {"__name__": "__main__"}
    printed = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(printed),
    ):
        for n_lines_above, code in program:
            # Empty lines, so that a traceback shows the lines of the page.
            exec(compile("\n" * n_lines_above + code, str(page), "exec"), namespace)
    return len(program)


def read_program(text: str) -> list[tuple[int, str]]:
    """Return the blocks to run, each with the number of lines above it."""
    return [
        (text[: match.start("code")].count("\n"), match["code"])
        for match in BLOCK.finditer(text)
        if match["reason"] is None
    ]


if __name__ == "__main__":
    main()
