"""A file of arrays is the old one or the new one, and a damaged one is named."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from instructclf.exceptions import CheckpointError
from instructclf.storage import read_record, replacing_file, write_record

REMEDY = "Delete it."
ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "number": np.array(3.5),
    "none": np.empty((0, 2)),
    "bytes": np.arange(5, dtype=np.uint8),
}
DESCRIPTION = {"text": "“ü\ud800”", "loss": [0.1, 1 / 3, 1e-300], "nested": {"a": None}}


def write_half(path):
    with replacing_file(path) as fresh:
        fresh.write_text("half")
        (path.parent / "missing" / "file").write_text("the other half")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "one" / "two.safetensors"
    write_record(path, DESCRIPTION, ARRAYS)
    return path


def test_reading_returns_what_was_written(path):
    description, arrays = read_record(path, REMEDY)
    assert description == DESCRIPTION
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_a_record_is_replaced_as_a_whole_and_leaves_nothing_beside_it(path):
    write_record(path, {}, {"other": np.ones(2)})
    assert read_record(path, REMEDY)[0] == {}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_exception_leaves_the_old_file_and_nothing_beside_it(path):
    before = path.read_bytes()
    with pytest.raises(FileNotFoundError):
        write_half(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_files_of_killed_processes_are_removed(path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = path.with_name(f".{path.name}.new-{gone.pid}-0123abcd")
    running = path.with_name(f".{path.name}.new-{os.getpid()}-0123abcd")
    left.write_text("half")
    running.write_text("half")
    write_record(path, DESCRIPTION, ARRAYS)
    assert not left.exists()
    assert running.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named_with_the_remedy(share, path):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"two\.safetensors cannot be read.*Delete it\."):
        read_record(path, REMEDY)


def test_every_changed_byte_is_found(path):
    whole = path.read_bytes()
    for position in range(len(whole)):
        changed = bytes([whole[position] ^ 1])
        path.write_bytes(whole[:position] + changed + whole[position + 1 :])
        with pytest.raises(CheckpointError, match=r"two\.safetensors .*Delete it\."):
            read_record(path, REMEDY)


def test_another_safetensors_file_is_named(path):
    save_file(load_file(path), path)
    with pytest.raises(CheckpointError, match="checksum differs, so it is corrupt or from"):
        read_record(path, REMEDY)
