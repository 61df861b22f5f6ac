"""Temporary paths, what killed processes left of them, and syncing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from instructclf.storage.files import remove_abandoned, replacing_file, sync, temporary_path


@pytest.fixture(scope="module")
def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_temporary_paths_differ_and_lie_in_the_same_folder(tmp_path):
    path = tmp_path / "file"
    one, other = temporary_path(path), temporary_path(path)
    assert one != other
    assert one.parent == other.parent == tmp_path


@pytest.mark.parametrize("name", ["file", "runs [1]*?"])
def test_files_and_folders_of_ended_processes_are_removed_and_others_stay(name, tmp_path, ended):
    path = tmp_path / name.replace("*?", "" if os.name == "nt" else "*?")
    left = [path.with_name(f".{path.name}.new-{ended}-{number}") for number in ("0a", "0b")]
    left[0].mkdir()
    left[1].write_text("half")
    names = [f".{path.name}.new-{os.getpid()}-0a", f".{path.name}.new-mine-0a", ".other.new-1-0a"]
    for other in names:
        (tmp_path / other).write_text("of others")
    remove_abandoned(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)


def test_folders_and_read_only_files_can_be_synced(tmp_path):
    file = tmp_path / "file"
    file.write_text("text")
    file.chmod(0o444)
    sync(file)
    sync(tmp_path)


def test_a_new_file_gets_its_parents_and_replaces_an_old_one(tmp_path):
    path = tmp_path / "one" / "two"
    for text in ("first", "second"):
        with replacing_file(path) as fresh:
            fresh.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]
