"""What is said about the package in several places is the same in all of them."""

import json
import re
import tomllib
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
