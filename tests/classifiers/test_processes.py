"""Two processes of a launcher give the results of one process.

Gloo on the CPU replaces NCCL between devices. Everything else is what runs on several GPUs.
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
    """The folder of results, and the processes' standard error."""
    folder = tmp_path_factory.mktemp("job")
    # Even without GPUs, --multi_gpu is the option that makes accelerate start several processes.
    options = (
        "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", *options.split()]
    ended = subprocess.run(
        [*command, "--main_process_port", "0", two_processes.__file__, model_folder],
        env=os.environ
        | {
            "RESULTS": str(folder),
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
    return folder, ended.stderr


@pytest.fixture
def results(job):
    """Return a function that reads the results of both processes for a step."""
    folder, _ = job

    def read(step):
        found = [np.load(folder / f"{step.__name__}-{rank}.npz") for rank in range(2)]
        return [{name: v if v.ndim else v.item() for name, v in one.items()} for one in found]

    return read


@pytest.mark.parametrize("step", two_processes.ALIKE, ids=lambda step: step.__name__)
def test_two_processes_give_the_results_of_one(step, results, model_folder):
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
def test_random_draws_are_the_same_in_both_processes(step, results):
    first, second = results(step)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_when_one_process_fails_the_other_stops_with_its_error(results):
    first, second = results(two_processes.fail_in_one_process)
    assert second["error"] == "OSError: its disk is full"
    assert first["error"] == (
        "OtherProcessError: Process 1 of 2 failed, and all stop with it. "
        "It said: OSError: its disk is full"
    )


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (two_processes.get_other_rows, "rows"),
        (two_processes.get_other_texts, "texts"),
        (two_processes.get_other_texts_to_read, "texts"),
    ],
)
def test_rows_that_differ_are_an_error_in_both_processes(step, kind, results):
    for found in results(step):
        assert f"ValueError: Process 1 of 2 was given other {kind} than process 0" in found["error"]
        assert "set distributed=None" in found["error"]


@pytest.mark.parametrize("way", ["in a thread", "alone"])
def test_one_process_may_predict_alone(way, results, model_folder):
    first, second = results(two_processes.ask_one_process_only)
    classifier = PromptClassifier(model_folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    assert not second
    np.testing.assert_allclose(first[way], classifier.predict_proba(NEW), rtol=0, atol=1e-6)


def test_only_the_first_process_writes(job, results):
    folder, printed = job
    results(two_processes.save)
    written = {path.name for path in folder.iterdir() if path.is_dir()}
    assert written == {"saved-by-0", "exported-by-0", "wrapped-by-0"}
    assert load(folder / "wrapped-by-0").expected_score(NEW).shape == (len(NEW),)
    assert load(folder / "saved-by-0").predict(NEW).shape == (len(NEW),)
    assert printed.count("Tuning:   0%") == 1


def test_a_process_that_has_left_is_an_error_with_a_remedy(results):
    first, _ = results(two_processes.leave_the_other_alone)
    assert "OtherProcessError: Another process of this job is gone" in first["error"]
    assert "set distributed=None" in first["error"]


LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("missing", LAUNCHED)
def test_a_launcher_is_recognised_by_all_its_variables(missing):
    assert was_launched(LAUNCHED)
    assert not was_launched({name: value for name, value in LAUNCHED.items() if name != missing})
    assert not was_launched(LAUNCHED | {"WORLD_SIZE": "1"})
    assert not was_launched({})


def test_a_single_process_saves_and_shows_progress(make_tuning, tmp_path, capsys):
    make_tuning(**TUNING, verbose=1).fit(TEXTS, LABELS).save(tmp_path / "saved")
    assert (tmp_path / "saved" / "classifier.json").is_file()
    assert "Tuning: 100%" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's list of threads")
def test_a_process_ends_without_threads_of_the_group(job):
    """A thread of gloo that still runs when Python ends may abort the process."""
    folder, _ = job
    for rank in range(2):
        threads = (folder / f"threads-{rank}.txt").read_text().split()
        assert threads
        assert not [name for name in threads if "gloo" in name]
