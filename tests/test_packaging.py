"""What is said about the package in several places is the same in all of them."""

import importlib
import json
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import instructclf

ROOT = Path(__file__).parents[1]


def test_citation_has_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == instructclf.__version__


def test_citation_has_the_licence_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["license"] == project["license"]


def test_changelog_speaks_of_this_version():
    assert f"\n## {instructclf.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_dependency_is_pinned_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
    ]
    needed = {re.split(r"[\[<>=!~;]", one)[0].strip() for one in named} - {"instructclf"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.split("==")[0] for line in lines if not line.startswith("#")]
    assert len(pinned) == len(set(pinned))
    # sentence-transformers is installed for no test.
    assert needed - set(pinned) <= {"sentence-transformers"}


@pytest.mark.parametrize(
    "file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda file: file.name
)
def test_workflows_and_forms_are_yaml(file):
    assert json.dumps(yaml.safe_load(file.read_text(encoding="utf-8")), default=str) != "null"


@pytest.fixture
def check(monkeypatch):
    """Return the script that checks packages, forgotten after the test."""
    monkeypatch.syspath_prepend(ROOT / "tools" / "packaging")
    monkeypatch.delitem(sys.modules, "check", raising=False)
    yield importlib.import_module("check")
    sys.modules.pop("check", None)


LICENCE = "instructclf-0.1.0.dist-info/licenses/LICENSE"
PAGE = "# instructclf\n\n[Tests](https://example.org)."


def make_wheel(folder, names, page=PAGE):
    wheel = folder / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, "")
        archive.writestr("instructclf-0.1.0.dist-info/METADATA", f"Name: instructclf\n\n{page}")
    return wheel


def test_whole_wheel_is_accepted(check, tmp_path, capsys):
    check.check_wheel(make_wheel(tmp_path, [*check.IN_THE_WHEEL, LICENCE]))
    assert capsys.readouterr().out == f"some.whl: {len(check.IN_THE_WHEEL) + 2} files, 0.0 MB\n"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("", "some.whl has no README"),
        ("# instructclf\n\n[Tests](docs/tests.md)", r"does not have: \['\]\(docs/tests.md\)'\]"),
        ("# instructclf\n\n![Two](docs/two.svg)", "links to files that an index does not have"),
    ],
)
def test_wheels_with_a_page_of_dead_links_are_refused(check, tmp_path, page, message):
    wheel = make_wheel(tmp_path, [*check.IN_THE_WHEEL, LICENCE], page)
    with pytest.raises(SystemExit, match=message):
        check.check_wheel(wheel)


@pytest.mark.parametrize(
    ("missing", "extra", "message"),
    [
        ({"instructclf/py.typed"}, set(), r"some.whl lacks \['instructclf/py.typed'\]"),
        (set(), {"tests/fixtures.py"}, r"has unexpected files: \['tests/fixtures.py'\]"),
        (set(), set(), "some.whl has no licence"),
    ],
    ids=["without a file", "with a stranger", "without a licence"],
)
def test_other_wheels_are_refused(check, tmp_path, missing, extra, message):
    wheel = make_wheel(tmp_path, sorted({*check.IN_THE_WHEEL} - missing | extra))
    with pytest.raises(SystemExit, match=message):
        check.check_wheel(wheel)
