"""Temporary paths, what killed processes left of them, syncing, renaming and permissions."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from instructclf.storage import files
from instructclf.storage.files import (
    remove_abandoned,
    rename,
    replacing_file,
    sync,
    temporary_path,
)


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


def test_no_signal_is_sent_to_find_out_whether_a_process_runs(windows, tmp_path, ended):
    running, left = (tmp_path / f".file.new-{pid}-0123abcd" for pid in (os.getppid(), ended))
    running.mkdir()
    left.mkdir()
    remove_abandoned(tmp_path / "file")
    assert not windows
    assert list(tmp_path.iterdir()) == [running]


@pytest.mark.parametrize("hours", [1, 25])
def test_a_file_of_another_machine_is_removed_after_a_day(hours, tmp_path, ended, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(platform, "node", lambda: "another machine")
        elsewhere.setattr(os, "getpid", lambda: ended)  # here a process of this number has ended
        left = temporary_path(tmp_path / "file")
    left.touch()
    seconds = left.stat().st_mtime - hours * 60 * 60
    os.utime(left, (seconds, seconds))
    remove_abandoned(tmp_path / "file")
    assert left.exists() == (hours < 24)


def test_files_are_synced_where_only_writable_ones_can_be(windows, tmp_path, monkeypatch):
    writable, read_only = tmp_path / "file", tmp_path / "read only"
    for file in (writable, read_only):
        file.write_text("text")
    read_only.chmod(0o444)
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(fsync(handle)))
    for path in (writable, read_only, tmp_path):
        sync(path)
    assert len(synced) == 1


def test_a_full_disk_is_noticed_when_syncing(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        sync(tmp_path)


def test_a_file_is_replaced_once_another_program_has_closed_it(windows, tmp_path):
    path = tmp_path / "file"
    path.write_text("first")
    reader = path.open()
    threading.Timer(0.2, reader.close).start()
    with replacing_file(path) as fresh:
        fresh.write_text("second")
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_stays_open_is_an_error_and_stays_as_it_was(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_WAITS", (0.01,))
    path = tmp_path / "file"
    path.write_text("first")
    with (
        path.open(),
        pytest.raises(PermissionError, match="cannot access the file"),
        replacing_file(path) as fresh,
    ):
        fresh.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_rename_that_is_forbidden_is_not_tried_again(tmp_path, monkeypatch):
    tries = []

    def forbid(old, new):
        tries.append(old)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", forbid)
    with pytest.raises(PermissionError):
        rename(tmp_path / "old", tmp_path / "new")
    assert len(tries) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions.")
@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077], ids=oct)
def test_a_library_that_writes_private_files_does_not_decide_the_permissions(umask, tmp_path):
    before = os.umask(umask)
    try:
        with replacing_file(tmp_path / "file") as fresh:
            save_file({}, fresh)
            fresh.chmod(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_file_system_without_permissions_can_be_written_to(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with replacing_file(tmp_path / "file") as fresh:
        fresh.write_text("text")
        fresh.chmod(0o600)
        monkeypatch.setattr(Path, "chmod", refuse)
    assert (tmp_path / "file").read_text() == "text"
