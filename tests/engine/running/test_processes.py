"""Two processes exchange arrays, objects and errors; a single one exchanges nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from instructclf.engine.running.processes import ALONE, current_processes, sharing_work
from tests.engine.running import exchanges


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("exchanges")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [sys.executable, *launcher, exchanges.__file__, str(folder)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
        timeout=300,
    )
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_sums_are_equal_to_the_last_bit(found):
    first, second = found
    assert first["sum"] == second["sum"] == [1, 2, 1, 2, 1]
    assert first["thirds"] == second["thirds"] == (np.array([1 / 3, 0.1]) * 3).tolist()


def test_gradients_of_several_types_are_summed_and_none_counts_as_zero(found):
    for one in found:
        assert one["gradients"] == [[[3.0] * 3] * 2, [2.0] * 4, [1.0] * 4]


def test_weights_and_objects_are_those_of_the_first_process(found):
    for one in found:
        assert one["weights"] == [[[0.0] * 3] * 2, [0.5] * 4, [0.5] * 4]
        assert one["object"] == {"of": 0}


@pytest.mark.parametrize("name", ["drawn", "seeded"])
def test_both_processes_draw_the_same_numbers(name, found):
    first, second = found
    assert first[name] == second[name]


def test_rows_that_differ_are_an_error_in_both_processes(found):
    for one in found:
        assert one["other rows"].startswith("Process 1 of 2 was given other rows than process 0.")


def test_without_sharing_a_process_is_alone(found):
    assert [one["alone"] for one in found] == [1, 1]


@pytest.mark.parametrize("when", ["failure", "failure at the end"])
def test_a_failure_in_one_process_is_an_error_in_the_other(when, found):
    first, second = found
    assert second[when] == "OSError: its disk is full"
    assert first[when] == (
        "OtherProcessError: Process 1 of 2 failed, and all stop with it. "
        "It said: OSError: its disk is full"
    )


def test_a_process_by_itself_keeps_its_values():
    weight, values = nn.Parameter(torch.ones(2)), np.ones(2)
    with sharing_work("auto") as processes:
        assert processes == ALONE == current_processes()
        assert processes.local_rows == slice(0, None, 1)
        assert processes.sum(values) is values
        assert processes.from_first(values) is values
        processes.sum_gradients([weight])
        processes.copy_from_first([weight])
        processes.check_alike([object()], "rows")
        generator = np.random.RandomState(0)
        assert processes.agree_on(generator, is_given=False) is generator
    assert weight.grad is None
