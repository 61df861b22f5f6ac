"""Pages made from scripts say what the scripts say, print and draw, and grow stale with them."""

import importlib
import re
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FOLDER = TESTS.parent / "tools" / "gallery"
SCRIPT = """\
# %% [markdown]
# # Two and two

# %% tags=["hidden"]
two = 2
print("from a hidden cell")

# %%
from pathlib import Path

assert Path(__file__).with_name("numbers.txt").read_text() == "1 2"
print("four is", two + two)

# %%
from matplotlib import pyplot as plt

plt.plot([1, 2])
plt.title("A line")
"""


@pytest.fixture
def load(monkeypatch):
    """Return a function that imports a script of the gallery, forgotten after the test."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", ["build.py"])
    for name in ("build", "pages"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in ("build", "pages"):
        sys.modules.pop(name, None)


@pytest.fixture
def gallery(tmp_path):
    """Return a folder of examples with one script, one for pages, and a file for weights."""
    examples, pages, weights = tmp_path / "examples", tmp_path / "pages", tmp_path / "weights"
    examples.mkdir()
    (examples / "sum.py").write_text(SCRIPT)
    (examples / "numbers.txt").write_text("1 2")
    weights.write_text("0.5")
    return examples, pages, weights


@pytest.fixture
def built(load, gallery):
    """Return the builder after it has made the page of the script."""
    build = load("build")
    examples, pages, weights = gallery
    page, pictures = build.make_page(examples / "sum.py", weights)
    build.write_page(pages, examples / "sum.py", page, pictures)
    return build


def test_page_holds_text_code_output_and_pictures_in_order(built, gallery):
    _, pages, _ = gallery
    page = (pages / "sum.md").read_text()
    parts = [
        "# Two and two",
        "```text\nfrom a hidden cell\n```",
        "```python\nfrom pathlib import Path\n\nassert",
        "```text\nfour is 4\n```",
        'plt.title("A line")\n```',
        "![A line](pictures/sum-1.png)",
    ]
    positions = [page.index(part) for part in parts]
    assert positions == sorted(positions)
    assert "two = 2" not in page
    assert (pages / "pictures" / "sum-1.png").read_bytes().startswith(b"\x89PNG")


def test_page_of_a_program_holds_its_story_its_output_and_its_code(built, gallery):
    examples, _, weights = gallery
    program = '"""Takes arguments.\n\nAnd adds them.\n"""\nimport sys\nprint(len(sys.argv))\n'
    (examples / "program.py").write_text(program)
    page, pictures = built.make_page(examples / "program.py", weights)
    parts = ["# Takes arguments.", "And adds them.", "```text\n1\n```", "```python\n" + program]
    positions = [page.index(part) for part in parts]
    assert positions == sorted(positions)
    assert pictures == []


def test_error_names_the_script_and_the_cell(load, gallery):
    examples, _, weights = gallery
    script = examples / "broken.py"
    script.write_text("# %%\nx = 1\n\n# %%\ny = x / 0\n")
    with pytest.raises(ZeroDivisionError) as caught:
        load("build").make_page(script, weights)
    assert caught.value.__notes__ == ["in the cell of broken.py that begins with: y = x / 0"]
    assert caught.traceback[-1].lineno + 1 == 5


def test_fresh_pages_are_not_stale(built, gallery):
    assert built.find_stale(*gallery) == []


@pytest.mark.parametrize("changed", ["examples/sum.py", "examples/numbers.txt", "weights"])
def test_page_is_stale_when_what_it_was_made_from_changes(built, gallery, tmp_path, changed):
    file = tmp_path / changed
    file.write_text(file.read_text() + "\n")
    (sentence,) = built.find_stale(*gallery)
    assert sentence.endswith("give now. Run: python tools/gallery/build.py sum")


def test_missing_page_and_page_without_script_are_stale(built, gallery):
    examples, pages, weights = gallery
    (pages / "sum.md").rename(pages / "gone.md")
    assert built.find_stale(examples, pages, weights) == [
        "docs/examples/gone.md has no script.",
        "examples/sum.py has no page. Run: python tools/gallery/build.py sum",
    ]


def test_blocks_of_a_page_are_one_program_run_in_an_empty_folder(load, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nfrom pathlib import Path\n\nx = 1\n```\n\n"
        "<!-- not run: takes a GPU -->\n\n```python\nraise SystemExit\n```\n\n"
        "```text\nnot Python\n```\n\n"
        "```python\nassert x == 1 and list(Path().iterdir()) == []\n```\n"
    )
    assert load("pages").run_page(page) == 2


def test_error_in_a_block_names_the_line_of_the_page(load, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nx = 1\nx / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        load("pages").run_page(page)
    assert caught.traceback[-1].lineno + 1 == 5


PAGE = "```python\nprint({printed!r})\n```\n\n{varies}```text\n{shown}\n```\n"
VARIES = "<!-- varies: seconds -->\n\n"


def run_block(load, folder, printed, shown, varies=""):
    page = folder / "page.md"
    page.write_text(PAGE.format(printed=printed, shown=shown, varies=varies))
    return load("pages").run_page(page)


@pytest.mark.parametrize(
    ("printed", "shown", "varies"),
    [
        ("a 0.70\nb  1", "a 0.71\nb 1", ""),  # processors round differently
        ("18,040 texts", "17,901 texts", ""),
        ("a\nb 1\nc 2\nd", "a\n…\nd", ""),
        ("0.70 in 3 s", "0.70 in 12 s", VARIES),
        ("[1, 2]", "[1, 2]", ""),
    ],
)
def test_a_page_shows_what_its_code_prints(load, tmp_path, printed, shown, varies):
    assert run_block(load, tmp_path, printed, shown, varies) == 1


@pytest.mark.parametrize(
    ("printed", "shown", "varies"),
    [
        ("a 0.70", "a 0.75", ""),
        ("positive", "negative", ""),
        ("positive 1", "negative 1", VARIES),
        ("a\nb", "a", ""),
        ("a\nb", "a\n…\nc", ""),
        ("a", "a\n…\na", ""),
        ("18,040 texts", "16,901 texts", ""),
        ("[1, 2]", "[1, 2, 3]", ""),
    ],
)
def test_a_page_that_shows_something_else_is_an_error(load, tmp_path, printed, shown, varies):
    with pytest.raises(Exception, match=r"page\.md:1: printed") as caught:
        run_block(load, tmp_path, printed, shown, varies)
    assert caught.typename == "OutputError"


def test_tests_that_the_page_on_reliability_names_exist():
    page = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    sources = [file.read_text(encoding="utf-8") for file in TESTS.rglob("test_*.py")]
    tests = {name for source in sources for name in re.findall(r"def (test_\w+)", source)}
    files = {str(file.relative_to(TESTS.parent)) for file in TESTS.rglob("test_*.py")}
    assert set(re.findall(r"\b(test_\w+)\b(?!\.py)", page)) - tests == set()
    assert set(re.findall(r"\btests/[\w/]+\.py", page)) - files == set()
