"""A folder has its old or its new contents at any time, also if its replacement is cut off."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from instructclf.exceptions import SavedClassifierError
from instructclf.storage import files, find_folder, folders, replacing_folder

MARKER = "classifier.json"


def write(folder, text):
    with replacing_folder(folder, MARKER) as fresh:
        (fresh / MARKER).write_text(text)


def write_half(folder):
    with replacing_folder(folder, MARKER) as fresh:
        (fresh / MARKER).write_text("half")
        (fresh / "missing" / "file").write_text("the other half")


def test_a_folder_is_made_with_its_parents(tmp_path):
    folder = tmp_path / "one" / "two"
    write(folder, "first")
    assert (folder / MARKER).read_text() == "first"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "saved"
    write(folder, "first")
    (folder / "other.json").write_text("of the first")
    write(folder, "second")
    assert [path.name for path in folder.iterdir()] == [MARKER]
    assert (folder / MARKER).read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_two_renames_replace_a_folder_where_two_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    test_a_folder_is_replaced_as_a_whole(tmp_path)


def test_between_two_renames_the_old_folder_is_found(tmp_path):
    folder = tmp_path / "saved"
    write(folder, "first")
    folder.rename(tmp_path / ".saved.old")
    assert (find_folder(folder) / MARKER).read_text() == "first"
    write(folder, "second")
    assert find_folder(folder) == folder
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_an_exception_leaves_the_old_folder_and_nothing_beside_it(tmp_path):
    folder = tmp_path / "saved"
    write(folder, "first")
    with pytest.raises(FileNotFoundError):
        write_half(folder)
    assert (folder / MARKER).read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_files_of_others_are_not_replaced(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(SavedClassifierError, match="holds something else"):
        write(folder, "first")
    assert (folder / "thesis.txt").read_text() == "years of work"
    with pytest.raises(SavedClassifierError, match="holds something else"):
        write(folder / "thesis.txt", "first")


def test_an_empty_folder_may_be_written_to(tmp_path):
    write(tmp_path, "first")
    assert (tmp_path / MARKER).read_text() == "first"


def test_folders_of_killed_processes_are_removed(tmp_path):
    folder = tmp_path / "saved"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".saved.new-{gone.pid}-0123abcd"
    left.mkdir()
    running = tmp_path / f".saved.new-{os.getpid()}-0123abcd"
    running.mkdir()
    write(folder, "first")
    assert not left.exists()
    assert running.exists()


@pytest.mark.skipif(not sys.platform.startswith(("linux", "darwin")), reason="No exchange there.")
def test_several_that_write_a_folder_at_once_leave_one_whole_folder(tmp_path):
    names = [f"writer {number}" for number in range(8)]
    ready = threading.Barrier(len(names), timeout=60)

    def write_all(name):
        for number in range(20):
            ready.wait()
            write(tmp_path / str(number), name)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(write_all, names))
    assert {(tmp_path / str(n) / MARKER).read_text() for n in range(20)} <= {*names}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, range(20)))


WRITER = """
import itertools, pathlib, sys
from instructclf.storage import replacing_folder
for number in itertools.count():
    with replacing_folder(pathlib.Path(sys.argv[1]), "classifier.json") as fresh:
        for name in ("classifier.json", "a", "b", "c"):
            (fresh / name).write_text(str(number) * 1000)
    print(number, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="There is no SIGKILL.")
def test_a_process_killed_at_any_moment_leaves_one_whole_folder(tmp_path):
    folder = tmp_path / "saved"
    for attempt in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        time.sleep(0.0007 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = {path.name: path.read_text() for path in find_folder(folder).iterdir()}
        assert sorted(found) == ["a", "b", "c", "classifier.json"]
        assert len(set(found.values())) == 1
        assert len(found["a"]) >= 1000


@pytest.mark.parametrize("name", ["results.csv", ".git/HEAD", "notes/plan"])
def test_a_folder_with_files_of_others_is_not_replaced(name, tmp_path):
    folder = tmp_path / "saved"
    write(folder, "first")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("of others")
    with pytest.raises(SavedClassifierError, match=f"holds '{name}', which .* would be lost"):
        write(folder, "second")
    assert (folder / name).read_text() == "of others"
    assert (folder / MARKER).read_text() == "first"


@pytest.mark.parametrize("name", ["scores.json", "notes.md", "results.txt", "more/a.safetensors"])
def test_a_folder_that_lists_its_files_is_not_replaced_with_others_in_it(name, tmp_path):
    folder = tmp_path / "saved"
    write(folder, json.dumps({"files": {"adapter/weights.safetensors": "checksum"}}))
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights.safetensors").write_text("listed")
    (folder / "README.md").write_text("a card, edited")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("of others")
    with pytest.raises(SavedClassifierError, match=f"holds '{name}', which .* would be lost"):
        write(folder, "second")
    assert (folder / name).read_text() == "of others"
    (folder / name).unlink()
    write(folder, "second")
    assert (folder / MARKER).read_text() == "second"


def test_the_current_folder_is_read_and_not_replaced(tmp_path, monkeypatch):
    write(tmp_path / "saved", "first")
    monkeypatch.chdir(tmp_path / "saved")
    assert (find_folder(Path()) / MARKER).read_text() == "first"
    with pytest.raises(SavedClassifierError, match=r"'.' is the current folder.*'classifier'"):
        write(Path(), "second")


def test_a_mount_point_is_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(SavedClassifierError, match="is a mount point, which no other"):
        write(Path(tmp_path.anchor), "first")


def test_behind_a_link_the_folder_is_replaced_and_the_link_stays(tmp_path):
    write(tmp_path / "real", "first")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real", target_is_directory=True)
    write(link, "second")
    assert link.is_symlink()
    assert (tmp_path / "real" / MARKER).read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


# Windows, and other systems that refuse


def test_folders_are_replaced_on_windows(windows, tmp_path):
    folder = tmp_path / "one" / "saved"
    for text in ("first", "second", "third"):
        write(folder, text)
        assert (folder / MARKER).read_text() == text
    assert list(folder.parent.iterdir()) == [folder]
    assert not windows


def test_a_folder_waits_until_a_virus_scanner_has_closed_its_file(windows, tmp_path):
    folder = tmp_path / "saved"
    write(folder, "first")
    scanned = (folder / MARKER).open()
    threading.Timer(0.2, scanned.close).start()
    write(folder, "second")
    assert (folder / MARKER).read_text() == "second"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_in_use_is_an_error_with_a_remedy_and_stays(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_WAITS", (0.01,))
    folder = tmp_path / "saved"
    write(folder, "first")
    with (
        (folder / MARKER).open(),
        pytest.raises(SavedClassifierError, match=r"saved' cannot be replaced: .*Close the prog"),
    ):
        write(folder, "second")
    assert (folder / MARKER).read_text() == "first"
    assert list(tmp_path.iterdir()) == [folder]


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_name(
    windows, tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "_WAITS", (0.01,))
    folder = tmp_path / "saved"
    write(folder, "first")
    opened = []

    def write_and_keep_open():
        with replacing_folder(folder, MARKER) as fresh:
            (fresh / MARKER).write_text("second")
            opened.append((fresh / MARKER).open())

    with pytest.raises(SavedClassifierError, match="or give another folder"):
        write_and_keep_open()
    opened[0].close()
    assert (folder / MARKER).read_text() == "first"


def test_old_contents_that_cannot_be_removed_are_no_obstacle(windows, tmp_path):
    folder = tmp_path / "saved"
    write(folder, "first")
    folder.rename(tmp_path / ".saved.old")
    with (tmp_path / ".saved.old" / MARKER).open():
        for text in ("second", "third"):
            write(folder, text)
            assert (folder / MARKER).read_text() == text
    write(folder, "fourth")
    assert (folder / MARKER).read_text() == "fourth"
    assert not (tmp_path / ".saved.old").exists()


def test_a_folder_of_a_container_image_which_cannot_be_renamed_is_replaced(tmp_path, monkeypatch):
    folder = tmp_path / "saved"
    write(folder, "first")
    replace = Path.replace

    def replace_on_overlay(old, new):
        if old == folder:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(old, new)

    monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    monkeypatch.setattr(Path, "replace", replace_on_overlay)
    write(folder, "second")
    assert (folder / MARKER).read_text() == "second"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini"])
def test_files_that_a_file_manager_adds_are_no_files_of_others(name, tmp_path):
    (tmp_path / name).write_text("view")
    write(tmp_path, "first")
    (tmp_path / name).write_text("view")
    write(tmp_path, "second")
    assert (tmp_path / MARKER).read_text() == "second"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions.")
@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077], ids=oct)
def test_all_files_of_a_folder_have_the_permissions_of_new_files(umask, tmp_path):
    before = os.umask(umask)
    try:
        with replacing_folder(tmp_path / "saved", MARKER) as fresh:
            for path in (fresh / MARKER, fresh / "seed-0" / "private"):
                path.parent.mkdir(exist_ok=True)
                path.write_text("first")
            path.chmod(0o600)
    finally:
        os.umask(before)
    for path in (tmp_path / "saved").rglob("*"):
        full = 0o777 if path.is_dir() else 0o666
        assert path.stat().st_mode & 0o777 == full & ~umask
