"""Two processes that a launcher has started find what one process finds.

Gloo on the CPU takes the place of NCCL between devices; all else is what runs on several GPUs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instructclf import PromptClassifier, load
from instructclf.engine.running.processes import was_launched
from tests.classifiers import two_processes
from tests.classifiers.two_processes import LABELS, NEW, TEXTS, TUNING

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def job(model_folder, tmp_path_factory):
    """The folder of results, and what the processes wrote on standard error."""
    place = tmp_path_factory.mktemp("job")
    # On a machine without GPUs, too, --multi_gpu is what makes accelerate start several processes.
    options = (
        "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", *options.split()]
    ended = subprocess.run(
        [*command, "--main_process_port", "0", two_processes.__file__, model_folder],
        env=os.environ
        | {
            "RESULTS": str(place),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    return place, ended.stderr


@pytest.fixture
def results(job):
    """Return a function that reads what both processes found in a step."""
    place, _ = job

    def read(step):
        found = [np.load(place / f"{step.__name__}-{rank}.npz") for rank in range(2)]
        return [{name: v if v.ndim else v.item() for name, v in own.items()} for own in found]

    return read


@pytest.mark.parametrize("step", two_processes.ALIKE, ids=lambda step: step.__name__)
def test_two_processes_find_what_one_does(step, results, model_folder):
    one, first, second = step(model_folder), *results(step)
    assert one.keys() == first.keys() == second.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(first[name], second[name])
        if isinstance(value, str):
            assert first[name] == value
        else:
            np.testing.assert_allclose(first[name], value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "step", [two_processes.draw_without_a_seed, two_processes.draw_from_a_generator]
)
def test_what_is_drawn_is_the_same_in_both(step, results):
    first, second = results(step)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_where_one_process_fails_the_other_says_which_and_why_and_does_not_wait(results):
    first, second = results(two_processes.fail_in_one_process)
    assert second["error"] == "OSError: its disk is full"
    assert first["error"] == (
        "OtherProcessError: Process 1 of 2 failed, and all stop with it. "
        "It said: OSError: its disk is full"
    )


@pytest.mark.parametrize(
    ("step", "what"),
    [(two_processes.get_other_rows, "rows"), (two_processes.get_other_texts, "texts")],
)
def test_rows_that_differ_are_refused_in_both(step, what, results):
    for found in results(step):
        assert f"ValueError: Process 1 of 2 was given other {what} than process 0" in found["error"]
        assert "set distributed=None" in found["error"]


@pytest.mark.parametrize("way", ["in a thread", "alone"])
def test_one_process_may_ask_alone(way, results, model_folder):
    first, second = results(two_processes.ask_one_process_only)
    classifier = PromptClassifier(model_folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    assert not second
    np.testing.assert_allclose(first[way], classifier.predict_proba(NEW), rtol=0, atol=1e-6)


def test_only_the_first_process_writes(job, results):
    place, printed = job
    results(two_processes.save)
    written = {path.name for path in place.iterdir() if path.is_dir()}
    assert written == {"saved-by-0", "exported-by-0"}
    assert load(place / "saved-by-0").predict(NEW).shape == (len(NEW),)
    assert printed.count("Tuning:   0%") == 1


def test_a_process_that_has_left_is_an_error_with_a_way_out(results):
    first, _ = results(two_processes.leave_the_other_alone)
    assert "OtherProcessError: Another process of this job is gone" in first["error"]
    assert "set distributed=None" in first["error"]


LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("missing", LAUNCHED)
def test_a_process_is_one_of_several_only_if_a_launcher_says_all_about_it(missing):
    assert was_launched(LAUNCHED)
    assert not was_launched({name: said for name, said in LAUNCHED.items() if name != missing})
    assert not was_launched(LAUNCHED | {"WORLD_SIZE": "1"})
    assert not was_launched({})


def test_a_process_by_itself_writes_and_shows_what_it_is_asked_to(make_tuning, tmp_path, capsys):
    make_tuning(**TUNING, verbose=1).fit(TEXTS, LABELS).save(tmp_path / "saved")
    assert (tmp_path / "saved" / "classifier.json").is_file()
    assert "Tuning: 100%" in capsys.readouterr().err
