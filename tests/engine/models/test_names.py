"""Names are split into parts, and what is on this machine is never looked up elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from instructclf.engine.models.names import (
    Source,
    check_exists,
    find_path,
    list_parts,
    split_revision,
    split_source,
)
from instructclf.exceptions import MissingExtraError, ModelLoadingError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder, which is the home folder too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def models(here):
    """Return the folder ``models`` with a model and a GGUF file."""
    (here / "models" / "x").mkdir(parents=True)
    (here / "models" / "good.gguf").touch()
    return here / "models"


# On the hub


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("owner/name", Source("owner/name", None)),
        ("owner/name@v1", Source("owner/name", None, "v1")),
        ("owner/name/tiny-Q8_0.gguf", Source("owner/name", "tiny-Q8_0.gguf")),
        ("owner/name/TINY.GGUF", Source("owner/name", "TINY.GGUF")),
        ("owner/name@v1/tiny.gguf", Source("owner/name", "tiny.gguf", "v1")),
        ("gpt2", Source("gpt2", None)),
    ],
)
def test_hub_ids_have_a_location_a_file_and_a_revision(name, source):
    assert split_source(name) == source
    assert source.may_be_on_hub
    check_exists(name, source)


def test_arguments_for_transformers_are_the_parts_that_are_given():
    assert split_source("owner/name@v1").options == {"revision": "v1"}
    assert split_source("owner/name/a.gguf").options == {"gguf_file": "a.gguf"}


@pytest.mark.parametrize("name", ["a", "a/b", "a/b@c", "a/b/c@d"])
def test_only_hub_ids_have_revisions(name):
    location, _, revision = split_revision(name)
    assert (location, revision) == (("a/b", "c") if name == "a/b@c" else (name, None))


# On this machine


@pytest.mark.parametrize("name", ["models/x", "~/models/x", "./models/x", "models/../models/x"])
def test_a_folder_that_exists_is_no_hub_id(name, models):
    source = split_source(name)
    assert Path(source.location).samefile(models / "x")
    assert not source.may_be_on_hub


@pytest.mark.parametrize("name", ["models/good.gguf", "~/models/good.gguf", "./models/good.gguf"])
def test_a_gguf_file_that_exists_is_no_hub_id(name, models):
    source = split_source(name)
    assert (Path(source.location) / source.file).samefile(models / "good.gguf")
    assert not source.may_be_on_hub


def test_a_folder_with_a_revision_in_its_name_is_a_folder(here):
    (here / "owner" / "name@v1").mkdir(parents=True)
    assert split_source("owner/name@v1") == Source("owner/name@v1", None)


def test_a_folder_whose_name_ends_like_a_file_is_a_folder(here):
    (here / "odd.gguf").mkdir()
    assert split_source("odd.gguf") == Source("odd.gguf", None)


# Neither


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("none.gguf", r"The folder '\.' has no file 'none\.gguf'. Name one that it holds"),
        ("models/none.gguf", r"The folder 'models' has no file 'none\.gguf'"),
        ("~/none.gguf", r"The folder '~' has no file 'none\.gguf'"),
        (
            "other/none.gguf",
            r"There is no file 'other/none\.gguf': it is '/.*/other/none\.gguf'\. Gi",
        ),
        ("a/b/c/none.gguf", r"There is no file 'a/b/c/none\.gguf'"),
    ],
)
@pytest.mark.usefixtures("models")
def test_a_gguf_file_that_does_not_exist_is_an_error(name, match):
    with pytest.raises(ModelLoadingError, match=match):
        split_source(name)


@pytest.mark.parametrize(
    "name",
    [
        *("./x", "/x/y/z", "~/x", "a/b/c", "models/model.safetensors", "config.json", "a/b.bin"),
        *("C:\\models\\x", "some words", "a\0b", "a" * 300, "~nobody-of-this-name/x"),
    ],
)
def test_other_names_that_are_nowhere_are_an_error_and_never_told_to_the_hub(name):
    source = split_source(name)
    assert find_path(name) is None
    assert not source.may_be_on_hub
    with pytest.raises(
        ModelLoadingError, match=r"does not exist: it is .* a hub id \(owner/name\)"
    ):
        check_exists(name, source)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    match = r'needs gguf\. Install it with pip install "instructclf\[gguf\]"'
    with pytest.raises(MissingExtraError, match=match):
        split_source("owner/name/tiny.gguf")


@pytest.mark.parametrize("ending", [".gguf", ".GGUF"])
def test_the_first_part_stands_for_all_parts(ending):
    names = [f"Q4/big-0000{number}-of-00003{ending}" for number in (1, 2, 3)]
    assert list_parts(names[0]) == names
    for later in (names[2], f"big-00004-of-00003{ending}", f"big-00000-of-00003{ending}"):
        with pytest.raises(ModelLoadingError, match=r"split into 3 files\. Name the first of them"):
            list_parts(later)


@pytest.mark.parametrize(
    "name", ["tiny.gguf", "a-1-of-2.gguf", "a-00001-of-00001.gguf", "a-00001-of-00000.gguf"]
)
def test_other_files_are_whole_models(name):
    assert list_parts(name) == [name]
