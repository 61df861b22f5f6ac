"""What files were converted to is kept whole or not at all, and found by their contents."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal

import pytest

from instructclf.exceptions import ModelLoadingError
from instructclf.storage import find_conversion, remove_conversion

VERSIONS = ("1", "float32")
fork = multiprocessing.get_context("fork")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.gguf"
    path.write_text("some contents")
    return path


@pytest.fixture
def find(tmp_path, source):
    """Return a function that finds what the source was converted to, and a list of conversions."""
    done = []

    def find_it(*, files=None, versions=VERSIONS, convert=None):
        def write(folder):
            done.append(folder)
            (folder / "config.json").write_text('{"a": 1}')
            (folder / "model.safetensors").write_bytes(b"weights")
            if convert is not None:
                convert(folder)

        return find_conversion(
            tmp_path / "kept", lambda: {"": source, **(files or {})}, versions, write
        )

    return find_it, done


def list_kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "kept").iterdir())


def test_files_are_converted_once(find, tmp_path):
    find_it, done = find
    folder = find_it()
    assert find_it() == folder
    assert len(done) == 1
    assert list_kept(tmp_path) == [folder.name]
    assert folder.name.endswith("-float32")
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_contents_count_and_names_and_times_do_not(find, source, tmp_path):
    find_it, done = find
    folder = find_it()
    os.utime(source, (0, 0))
    assert find_it() == folder
    source.write_text("same length!!")
    assert find_it() != folder
    assert len(done) == 2


def test_other_files_and_versions_are_another_conversion(find, source, tmp_path):
    find_it, _ = find
    folders = {
        find_it(),
        find_it(versions=("2", "float32")),
        find_it(versions=("1", "bfloat16")),
        find_it(files={"tokenizer.json": source}),
    }
    assert len(folders) == 4


def remove(file):
    file.unlink()


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def change(file):
    file.write_bytes(file.read_bytes().replace(b"1", b"2"))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(
            (name, damage)
            for name in ("config.json", "model.safetensors")
            for damage in (remove, cut)
        ),
        ("config.json", change),
        *(("conversion.json", damage) for damage in (remove, cut)),
    ],
)
def test_a_damaged_folder_is_made_anew(name, damage, find, caplog):
    find_it, done = find
    folder = find_it()
    damage(folder / name)
    assert find_it() == folder
    assert len(done) == 2
    assert json.loads((folder / "config.json").read_text()) == {"a": 1}
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert f"The converted model in {folder} is damaged and made anew" in caplog.text


def test_a_folder_that_is_removed_is_made_anew(find):
    find_it, done = find
    remove_conversion(find_it())
    assert find_it().is_dir()
    assert len(done) == 2


# What goes wrong


def test_nothing_is_kept_of_a_source_that_cannot_be_converted(find, tmp_path):
    def fail(folder):
        raise ModelLoadingError("It is damaged.")

    with pytest.raises(ModelLoadingError, match="It is damaged"):
        find[0](convert=fail)
    assert list_kept(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_a_line_in_the_log(find, tmp_path, caplog):
    (tmp_path / "kept").write_text("a file, where no folder can be made")
    assert find[0]() is None
    assert f"{tmp_path / 'kept'} cannot keep a converted model for the next time: " in caplog.text


def test_a_full_disk_is_a_line_in_the_log_and_nothing_is_left(find, tmp_path, caplog):
    def fill(folder):
        (folder / "large.safetensors").write_bytes(bytes(200_000))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        assert find[0](convert=fill) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot keep a converted model for the next time: [Errno 27]" in caplog.text
    assert list_kept(tmp_path) == []


def test_a_source_that_is_replaced_meanwhile_is_not_kept(find, source, tmp_path):
    assert find[0](convert=lambda _: source.write_text("other")) is None
    assert list_kept(tmp_path) == []


def test_files_that_appear_meanwhile_count_for_what_is_kept(find, source, tmp_path):
    find_it, done = find
    files = {}
    folder = find_it(files=files, convert=lambda _: files.update({"tokenizer.json": source}))
    assert find_it(files=files) == folder
    assert len(done) == 1
    assert list_kept(tmp_path) == [folder.name]


# Several processes


def kill_this_process(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_nobody_sees_what_a_killed_process_has_half_written(find, tmp_path):
    child = fork.Process(target=find[0], kwargs={"convert": kill_this_process})
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    (left,) = list_kept(tmp_path)
    folder = find[0]()
    assert left.startswith(f".{folder.name}.new-")
    assert list_kept(tmp_path) == [folder.name]


def convert_together(find_it, barrier, answers):
    folder = find_it(convert=lambda _: barrier.wait(30))
    answers.put((folder.name, (folder / "model.safetensors").read_bytes()))


def test_two_processes_that_convert_at_once_both_have_a_whole_folder(find, tmp_path):
    barrier, answers = fork.Barrier(2), fork.Queue()
    children = [
        fork.Process(target=convert_together, args=(find[0], barrier, answers)) for _ in range(2)
    ]
    for child in children:
        child.start()
    found = {answers.get(timeout=30) for _ in children}
    for child in children:
        child.join()
    folder = find[0]()
    assert found == {(folder.name, b"weights")}
    assert list_kept(tmp_path) == [folder.name]
    assert find[1] == []


def test_a_folder_that_another_process_has_open_is_taken_as_it_is(find, windows, tmp_path):
    find_it, _ = find
    open_files = []

    def another_process_is_faster(_):
        open_files.append((find_it() / "model.safetensors").open("rb"))

    try:
        folder = find_it(convert=another_process_is_faster)
        assert folder is not None
        assert (folder / "model.safetensors").read_bytes() == b"weights"
    finally:
        open_files[0].close()
