"""Processes that are really killed while they fit or save lose nothing and mix nothing."""

from __future__ import annotations

import logging
import os
import random
import shutil
import time
import warnings
from dataclasses import dataclass

import pytest
import torch

from instructclf import InstructionTunedClassifier, load
from instructclf.exceptions import FailedRunWarning
from tests.children import context
from tests.fixtures import LABELS, TEXTS

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="There is no SIGKILL, and no fork."),
    pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning"),
]

OPTIONS = {
    "as it is": {},
    "dropout and two seeds": {"adapter__dropout": 0.3, "n_seeds": 2, "max_epochs": 3},
    "upper layers": {"adapter__n_layers": 1},
    "a run that fails": {"learning_rate": 1e-6, "max_epochs": 3},
    "half precision": {"model_options__dtype": "bfloat16"},
}
KILLED = -9


def fit_and_save(model, options, folder, has_begun):
    """Run in a child: fit in some dozens of steps, and save the classifier."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FailedRunWarning)
    defaults = {
        "learning_rate": 0.01,
        "adapter__rank": 4,
        "max_epochs": 5,
        "batch_size": 2,
        "training_options__n_iter_no_change": 5,
        "training_options__target_loss": 0.0,
        "calibration": None,
        "random_state": 0,
        "training_options__checkpoint_dir": folder / "runs",
    }
    classifier = InstructionTunedClassifier(model).set_params(**(defaults | options))
    has_begun.set()
    classifier.fit(TEXTS, LABELS)
    classifier.save(folder / "saved")


@dataclass
class Crashes:
    """Fits in children, and kills them."""

    model: str
    seed: int

    def __post_init__(self):
        self.rng = random.Random(self.seed)
        self.n_kills = self.n_begun = 0

    def run(self, options, folder, limit=None):
        """Fit in a child, and kill it after some seconds. Return its exit code and its seconds."""
        has_begun = context.Event()
        child = context.Process(target=fit_and_save, args=(self.model, options, folder, has_begun))
        child.start()
        assert has_begun.wait(120)
        start = time.monotonic()
        child.join(limit)
        if child.exitcode is None:
            child.kill()
            child.join()
            self.n_kills += child.exitcode == KILLED
            self.n_begun += any((folder / "runs").glob("run-*"))
        return child.exitcode, time.monotonic() - start

    def kill_until_done(self, options, folder, seconds, most):
        """Kill one fit again and again, at random moments, and then let it end."""
        for _ in range(most):
            code, _ = self.run(options, folder, limit=self.rng.uniform(0, seconds))
            if code == 0:
                return
            assert code == KILLED
            if (folder / "saved").exists():  # killed at its end: the folder is complete
                load(folder / "saved")
        assert self.run(options, folder)[0] == 0


def read(folder):
    classifier = load(folder / "saved")
    members = getattr(classifier, "estimators_", [classifier])
    return [(member.adapter_, member.loss_curve_, member.stopped_by_) for member in members]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for (adapter, *history), (expected_adapter, *expected_history) in zip(
        found, expected, strict=True
    ):
        assert history == expected_history
        assert adapter.keys() == expected_adapter.keys()
        assert all(torch.equal(adapter[name], expected_adapter[name]) for name in adapter)


def crash(model, options, folder, n_kills, seed):
    """Kill fits of one kind this many times, and compare each with an uninterrupted fit."""
    crashes = Crashes(model, seed)
    code, seconds = crashes.run(options, folder / "whole")
    assert code == 0
    expected = read(folder / "whole")
    n_fits = 0
    while crashes.n_kills < n_kills:
        killed = folder / f"killed-{n_fits}"
        crashes.kill_until_done(options, killed, 0.7 * seconds, n_kills - crashes.n_kills)
        assert_same(read(killed), expected)
        shutil.rmtree(killed)
        n_fits += 1
    return crashes, n_fits


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_process_killed_at_any_moment_goes_on_to_the_same_classifier(
    options, model_folder, tmp_path
):
    crash(model_folder, options, tmp_path, n_kills=3, seed=0)


@pytest.mark.slow
def test_two_hundred_kills_lose_and_mix_nothing(model_folder, tmp_path):
    n_kills = n_begun = n_fits = 0
    for number, (name, options) in enumerate(OPTIONS.items()):
        crashes, n_done = crash(model_folder, options, tmp_path / name, n_kills=42, seed=number)
        n_kills, n_begun = n_kills + crashes.n_kills, n_begun + crashes.n_begun
        n_fits += n_done
    message = "%d kills, %d of them with a checkpoint to go on from; %d fits, 0 lost, 0 mixed"
    logging.getLogger(__name__).info(message, n_kills, n_begun, n_fits)
    assert n_kills >= 200
    assert n_begun >= 150
