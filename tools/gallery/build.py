"""Examples → pages: run each script, and write its text, output and figures as Markdown.

    python tools/gallery/build.py                  # all of examples/ → docs/examples/
    python tools/gallery/build.py quick_start      # one of them
    python tools/gallery/build.py --small          # run all on few rows, write nothing
    python tools/gallery/build.py --check          # is every page up to date?

Examples are scripts in the percent format of jupytext, or programs such as ``sentiment.py``, whose
page has its docstring, its output without arguments, and its code. Each runs in a separate process,
so that none depends on another. A page ends with a digest of its sources: the script, the data
files that it names, and the bundled model. ``--check`` compares these digests, and runs nothing.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import io
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jupytext

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGES = ROOT / "docs" / "examples"
WEIGHTS = ROOT / "src" / "instructclf" / "bundled" / "model" / "model.safetensors"
SMALL = "EXAMPLES_SMALL"
"""The environment variable that limits an example to a few rows."""
SMALL_ARGUMENTS = ("--shots", "4", "--seeds", "1", "--test-size", "40")
"""The arguments that limit a program in the same way."""
FRONT_MATTER = "---\nsearch:\n  boost: 0.3\n---"
"""What a page begins with: a search for a name finds its reference first."""


def main() -> None:
    """Run the examples, or check their pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="examples, without .py (default: all)")
    parser.add_argument("--small", action="store_true", help="run on few rows, write no pages")
    parser.add_argument("--check", action="store_true", help="compare digests; run nothing")
    arguments = parser.parse_args()
    if arguments.check:
        sys.exit("\n".join(find_stale(EXAMPLES, PAGES, WEIGHTS)) or 0)
    if arguments.small:
        os.environ[SMALL] = "1"
    os.environ["MPLBACKEND"] = "Agg"
    scripts = [EXAMPLES / f"{name}.py" for name in arguments.names] or list_scripts(EXAMPLES)
    # Each runs in a fresh interpreter, as it does for a reader.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for script in scripts:
            start = time.monotonic()
            page, pictures = pool.submit(make_page, script, WEIGHTS).result()
            if not arguments.small:
                write_page(PAGES, script, page, pictures)
            print(f"{script.name}: {time.monotonic() - start:.0f} s", flush=True)


def list_scripts(examples: Path) -> list[Path]:
    """Return the scripts."""
    return sorted(examples.glob("*.py"))


def make_page(script: Path, weights: Path) -> tuple[str, list[bytes]]:
    """Run a script and return its page and its pictures."""
    source = script.read_text(encoding="utf-8")
    make = run_cells if source.startswith("# %%") else run_program
    parts, pictures = make(script, source)
    parts += [f"*The whole script: `examples/{script.name}`.*", digest_line(script, weights)]
    return "\n\n".join(part for part in (FRONT_MATTER, *parts) if part) + "\n", pictures


def run_program(script: Path, source: str) -> tuple[list[str], list[bytes]]:
    """Run a program, and return the parts of its page: docstring, output and code."""
    sys.argv = [str(script), *(SMALL_ARGUMENTS if os.environ.get(SMALL) else ())]
    title, _, story = (ast.get_docstring(ast.parse(source)) or script.stem).partition("\n")
    printed = run_cell(source, script, {"__name__": "__main__", "__file__": str(script)})
    parts = [f"# {title}", story.strip("\n"), "It prints:", fence(printed, "text")]
    return [*parts, "## The program", fence(source, "python")], []


def run_cells(script: Path, source: str) -> tuple[list[str], list[bytes]]:
    """Run a script cell by cell, and return the parts of its page, and its pictures."""
    sys.argv = [str(script)]
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(script)}
    parts: list[str] = []
    pictures: list[bytes] = []
    for cell in jupytext.reads(source, fmt="py:percent").cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        printed = run_cell(cell.source, script, namespace)
        hidden = "hidden" in cell.metadata.get("tags", [])
        parts += [*([] if hidden else [fence(cell.source, "python")]), fence(printed, "text")]
        for alt, picture in draw_figures():
            pictures.append(picture)
            parts.append(f"![{alt}](pictures/{picture_name(script, len(pictures))})")
    return parts, pictures


def run_cell(code: str, script: Path, namespace: dict[str, Any]) -> str:
    """Run code, and return its output."""
    n_lines_above = script.read_text(encoding="utf-8").partition(code)[0].count("\n")
    padded = "\n" * n_lines_above + code  # so that a traceback shows the right lines
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(padded, str(script), "exec"), namespace)
    except BaseException as error:
        error.add_note(f"in the cell of {script.name} that begins with: {code.splitlines()[0]}")
        raise
    return printed.getvalue()


def fence(content: str, language: str) -> str:
    """Return a block of code or output, or an empty string if it is empty."""
    content = content.strip("\n")
    ticks = "`" * 4 if "```" in content else "`" * 3
    return f"{ticks}{language}\n{content}\n{ticks}" if content.strip() else ""


def draw_figures() -> list[tuple[str, bytes]]:
    """Return the title and PNG of every open figure, and close all."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    plt = sys.modules["matplotlib.pyplot"]
    drawn = []
    for number in plt.get_fignums():
        figure, file = plt.figure(number), io.BytesIO()
        figure.savefig(file, dpi=120, bbox_inches="tight", metadata={"Software": None})
        axes = figure.axes[0]
        labels = [axes.get_ylabel(), axes.get_xlabel()]
        alt = axes.get_title() or " over ".join(label for label in labels if label)
        drawn.append((alt, file.getvalue()))
    plt.close("all")
    return drawn


def picture_name(script: Path, number: int) -> str:
    """Return the file name of a script's picture."""
    return f"{script.stem}-{number}.png"


def write_page(pages: Path, script: Path, page: str, pictures: list[bytes]) -> None:
    """Write a page and its pictures, and remove its old pictures."""
    folder = pages / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{script.stem}-[0-9].png"):
        old.unlink()
    for number, picture in enumerate(pictures, start=1):
        (folder / picture_name(script, number)).write_bytes(picture)
    (pages / f"{script.stem}.md").write_text(page, encoding="utf-8")


def digest_line(script: Path, weights: Path) -> str:
    """Return the last line of a page, the digest of its sources."""
    source = script.read_text(encoding="utf-8")
    files = (file for file in sorted(script.parent.iterdir()) if file.is_file())
    digest = hashlib.sha256(source.encode())
    for file in (*(file for file in files if file.name in source), weights):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"<!-- made by tools/gallery/build.py from {digest.hexdigest()} -->"


def find_stale(examples: Path, pages: Path, weights: Path) -> list[str]:
    """Return a sentence for each page that is missing, out of date, or without a script."""
    scripts = {script.stem: script for script in list_scripts(examples)}
    written = {page.stem: page for page in pages.glob("*.md") if page.name != "index.md"}
    stale = [f"docs/examples/{name}.md has no script." for name in sorted({*written} - {*scripts})]
    for name, script in scripts.items():
        remedy = f"Run: python tools/gallery/build.py {name}"
        if name not in written:
            stale.append(f"examples/{name}.py has no page. {remedy}")
        elif digest_line(script, weights) not in written[name].read_text(encoding="utf-8"):
            stale.append(
                f"docs/examples/{name}.md is not what its script and the bundled model give now. "
                f"{remedy}"
            )
    return stale


if __name__ == "__main__":
    main()
