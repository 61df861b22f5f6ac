"""The time that is left, by what runs take and not by how many there are."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from instructclf import InstructionTunedClassifier, PromptClassifier, PromptFeatures
from instructclf.engine.running import progress
from instructclf.evaluation import FewShot, evaluate_seeds, learning_curve, plans
from instructclf.evaluation.plans import Plan, call_all
from instructclf.evaluation.remaining import Cost, RemainingTime
from instructclf.evaluation.running import Run
from instructclf.evaluation.splitting import check_split
from tests.fixtures import LABELS, TEXTS

# Estimates


def test_a_group_takes_what_it_has_taken_so_far():
    left = RemainingTime({"fast": 2, "slow": 4}, dict.fromkeys(["fast", "slow"], Cost()))
    assert left.estimate() is None
    left.add("fast", 1.0)
    left.add("fast", 3.0)
    assert left.estimate() == 4 * 2.0
    left.add("slow", 100.0)
    assert left.estimate() == 3 * 100.0
    for _ in range(3):
        left.add("slow", 80.0)
    assert left.estimate() == 0


def test_a_group_that_has_not_begun_takes_what_its_weight_says():
    left = RemainingTime({"4": 1, "8": 1, "16": 1}, {"4": Cost(), "8": Cost(), "16": Cost(None, 3)})
    left.add("4", 5.0)
    assert left.estimate() == 5.0 + 15.0


def test_another_kind_tells_nothing():
    left = RemainingTime({"SVM": 2, "LLM": 2}, {"SVM": Cost(()), "LLM": Cost(("bundled",))})
    left.add("SVM", 0.01)
    assert left.estimate() is None
    left.add("LLM", 60.0)
    assert left.estimate() == pytest.approx(60.01)


def cost_of(estimator, n_rows=16):
    split = check_split(TEXTS, LABELS, TEXTS, LABELS)
    return plans._estimate_cost(Plan(estimator, split, [Run(np.arange(n_rows), [], 0)], n_rows))


def test_a_tuned_row_costs_several_passes_for_each_epoch():
    prompting, tuning = PromptClassifier(), InstructionTunedClassifier(max_epochs=10)
    assert cost_of(prompting) == (("bundled",), 16 + 16)
    assert cost_of(tuning) == (("bundled",), 16 + 16 * 31)
    assert cost_of(tuning, 4).weight == 16 + 4 * 31
    assert cost_of(FewShot(prompting)).kind == ("bundled",)
    assert cost_of(DummyClassifier()).kind == ()


# What is shown


@pytest.fixture
def notes(monkeypatch):
    """Return what a bar was told: the note, and the seconds that are left."""
    told = []

    def advance(bar, n_steps=1, note="", seconds_left=None):
        told.append((note, seconds_left))

    monkeypatch.setattr(progress.Progress, "advance", advance)
    return told


def nap(seconds):
    time.sleep(seconds)
    return seconds


def test_the_bar_shows_the_time_that_is_left(notes):
    calls = {"naps": [partial(nap, 0.05)] * 3}
    call_all("sleep", calls, lambda *_: "", verbose=0)
    assert notes[0] == ("naps", None)
    assert notes[1] == ("naps", pytest.approx(0.1, abs=0.04))
    assert notes[-1] == ("naps", 0)


def test_results_that_were_read_count_with_the_seconds_they_took_once(notes):
    calls = {"read": [lambda: 50.0, lambda: 70.0]}
    call_all("sleep", calls, lambda *_: "", verbose=0, seconds=lambda result: result)
    assert notes[1] == ("read", 50.0)


def test_workers_divide_the_time(notes):
    calls = {"a": [partial(nap, 0.01)] * 4, "b": [partial(nap, 0.01)] * 4}
    with parallel_config("threading", n_jobs=2):
        call_all("sleep", calls, lambda *_: "", verbose=0, seconds=lambda _: 10.0)
    assert notes[5] == ("b", 4 * 5.0)


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
def test_a_learning_curve_expects_more_of_more_shots(make_tuning, notes):
    classifier = make_tuning(calibration=None, max_epochs=1)
    scores = learning_curve(
        classifier, TEXTS, LABELS, TEXTS, LABELS, shots=[4, 16], n_seeds=1
    ).scores
    took = float(scores[4].fit_seconds[0] + scores[4].predict_seconds[0])
    assert notes[2] == (notes[2][0], pytest.approx(took * (16 + 16 * 4) / (16 + 4 * 4)))


# Loading


class Loading(ClassifierMixin, BaseEstimator):
    """Loads a model for a while, unless it is open."""

    model = "whale"

    def open_model(self):
        if not hasattr(self, "opened"):
            time.sleep(0.05)
        self.opened = True

    def fit(self, X, y):
        self.open_model()
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))


@pytest.mark.parametrize("wrap", [lambda it: it, make_pipeline], ids=["alone", "in a pipeline"])
def test_fit_seconds_do_not_contain_loading(wrap):
    scores = evaluate_seeds(wrap(Loading()), TEXTS, LABELS, TEXTS, LABELS, n_seeds=3)
    assert scores.loading_seconds >= 0.15
    assert scores.fit_seconds.max() < 0.05


def test_loading_is_kept_with_finished_runs(tmp_path):
    def run():
        data = TEXTS, LABELS, TEXTS, LABELS
        return evaluate_seeds(Loading(), *data, n_seeds=1, folder=tmp_path).loading_seconds

    assert run() == run() >= 0.05


@pytest.mark.parametrize(
    "wrap",
    [
        lambda prompting, features: prompting,
        lambda prompting, features: FewShot(prompting, n_shots=4),
        lambda prompting, features: make_pipeline(features, LogisticRegression()),
        lambda prompting, features: GridSearchCV(prompting, {"label_order": ["random"]}, cv=2),
    ],
    ids=["alone", "few shots", "features", "search"],
)
def test_language_models_are_loaded_before_the_clock_starts(
    wrap, fresh_folder, n_loads, monkeypatch
):
    estimator = wrap(PromptClassifier(fresh_folder, n_shots=2), PromptFeatures(fresh_folder))
    kind = type(estimator)
    fit, loaded = kind.fit, []

    def spy(self, *arguments, **named):
        loaded.append(n_loads())
        return fit(self, *arguments, **named)

    monkeypatch.setattr(kind, "fit", spy)
    scores = evaluate_seeds(estimator, TEXTS, LABELS, TEXTS, LABELS, n_seeds=2)
    assert n_loads() == 1
    assert loaded[0] == 1
    assert scores.loading_seconds > 0
