"""A fit that was cut off continues to the same adapter."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig
from sklearn.model_selection import GridSearchCV
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import load
from instructclf.engine.models.registry import get_base_model
from instructclf.engine.scoring.budgets import TokenBudget
from instructclf.engine.tuning import backpropagation, checkpoints, examples
from instructclf.exceptions import CheckpointError, FailedRunWarning
from tests.fixtures import LABELS, TEXTS

fails = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

OPTIONS = {
    "default": {},
    "dropout": {"adapter__dropout": 0.3},
    "upper layers": {"adapter__n_layers": 1},
    "in parts": {"model_options__max_batch_tokens": 1},
    "weights in batches of two sizes": {"class_weight": {"positive": 3.0}, "batch_size": 4},
    "DoRA": {"adapter": LoraConfig(r=2, use_dora=True, target_modules=["q_proj", "up_proj"])},
    "IA3": {"adapter": IA3Config()},
    "half precision": {"model_options__dtype": "bfloat16"},
    "loss scaling": {"model_options__dtype": "float16"},
}


class Interruption:
    """Interrupts the n-th backward pass in its middle, as a user might."""

    def __init__(self, monkeypatch):
        self.n_calls = 0
        self.at = None
        self._losses = examples.response_losses
        monkeypatch.setattr(examples, "response_losses", self)

    def __call__(self, scores, part):
        self.n_calls += 1
        if self.n_calls == self.at:
            scores.sum().backward()  # gradients are partly computed
            raise KeyboardInterrupt
        return self._losses(scores, part)

    def count(self, at=None):
        self.n_calls, self.at = 0, at


@pytest.fixture
def interruption(monkeypatch):
    """Return an interruption, with a checkpoint after every step."""
    monkeypatch.setattr(checkpoints, "_SHARE_OF_TIME", float("inf"))
    return Interruption(monkeypatch)


@pytest.fixture
def make_kept(make_tuning, tmp_path):
    """Return a function that makes a classifier with checkpoints, of six steps in two epochs."""
    options = {
        "n_shots": 6,
        "max_epochs": 2,
        "calibration": None,
        "loss": "lm+label",
        "training_options__target_loss": 0.0,
    }

    def make(*, folder=tmp_path / "kept", **changes):
        kept = options | changes
        return make_tuning(training_options__checkpoint_dir=folder, **kept)

    return make


def runs_of(classifier):
    """Return the files of a classifier's checkpoint folder."""
    return list(classifier.training_options.checkpoint_dir.iterdir())


def fit(classifier):
    return classifier.fit(TEXTS, LABELS)


def interrupt(classifier):
    with pytest.raises(KeyboardInterrupt):
        fit(classifier)


def assert_same_fit(one, other):
    assert one.adapter_.keys() == other.adapter_.keys()
    for name, weight in one.adapter_.items():
        assert torch.equal(weight, other.adapter_[name])
    assert one.loss_curve_ == other.loss_curve_
    assert one.stopped_by_ == other.stopped_by_
    np.testing.assert_array_equal(one.predict_log_proba(TEXTS), other.predict_log_proba(TEXTS))


# Continuing


@fails
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_fit_continues_to_the_same_weights_and_losses(options, make_kept, interruption):
    expected = fit(make_kept(**options, folder=None))
    n_calls = interruption.n_calls
    interruption.count(at=n_calls - 2)  # some options have two passes a step, and the last is left
    interrupt(make_kept(**options))
    interruption.count()
    assert_same_fit(fit(make_kept(**options)), expected)
    assert interruption.n_calls <= 4


@fails
def test_a_fit_continues_after_its_last_step(make_kept, interruption, tmp_path):
    expected = fit(make_kept(folder=None, adapter__dropout=0.3))
    for n_done in range(0, 6, 2):
        folder = tmp_path / str(n_done)
        interruption.count(at=n_done + 1)
        interrupt(make_kept(folder=folder, adapter__dropout=0.3))
        interruption.count()
        assert_same_fit(fit(make_kept(folder=folder, adapter__dropout=0.3)), expected)
        assert interruption.n_calls == 6 - n_done


@fails
def test_a_fit_may_be_cut_off_many_times(make_kept, interruption):
    expected = fit(make_kept(folder=None))
    for _ in range(5):
        interruption.count(at=2)
        interrupt(make_kept())
    interruption.count()
    assert_same_fit(fit(make_kept()), expected)
    assert interruption.n_calls == 1


@fails
def test_early_stopping_remembers_earlier_epochs(make_kept, interruption):
    options = {
        "max_epochs": 9,
        "training_options__tol": 100.0,
        "training_options__n_iter_no_change": 2,
    }
    expected = fit(make_kept(folder=None, **options))
    assert expected.stopped_by_ == "n_iter_no_change"
    interruption.count(at=8)  # in the last of three epochs
    interrupt(make_kept(**options))
    interruption.count()
    assert_same_fit(fit(make_kept(**options)), expected)
    assert interruption.n_calls == 2


def test_a_failed_run_is_not_repeated_when_its_restart_continues(make_kept, interruption):
    rows = ["the same"] * 6, LABELS[5:11]
    with pytest.warns(FailedRunWarning, match="started again"):
        expected = make_kept(n_shots=None, folder=None).fit(*rows)
    interruption.count(at=9)  # the third step of the second run
    with pytest.warns(FailedRunWarning, match="started again"), pytest.raises(KeyboardInterrupt):
        make_kept(n_shots=None).fit(*rows)
    interruption.count()
    with pytest.warns(FailedRunWarning, match="started again"):
        assert_same_fit(make_kept(n_shots=None).fit(*rows), expected)
    assert interruption.n_calls == 4


@fails
def test_a_fit_with_warm_start_continues(make_kept, interruption):
    expected = fit(fit(make_kept(folder=None, training_options__warm_start=True)))
    again = fit(make_kept(training_options__warm_start=True))
    interruption.count(at=4)
    interrupt(again)
    interruption.count()
    assert_same_fit(fit(again), expected)
    assert interruption.n_calls == 3


@fails
def test_batches_are_split_as_before_with_less_free_memory(make_kept, interruption, monkeypatch):
    options = {"batch_size": 6, "max_epochs": 4}
    expected = fit(make_kept(folder=None, **options))
    interruption.count(at=3)
    interrupt(make_kept(**options))
    interruption.count()
    smaller = TokenBudget(1)
    monkeypatch.setattr(backpropagation, "make_tuning_budget", lambda *_, **__: smaller)
    assert_same_fit(fit(make_kept(**options)), expected)
    assert interruption.n_calls == 2


@fails
def test_layers_that_ran_in_every_epoch_still_do(make_kept, interruption, monkeypatch):
    """A replayed layer rounds differently, so memory that is free now must change nothing."""
    with monkeypatch.context() as short:
        short.setattr("instructclf.engine.tuning.replay.free_memory", lambda _: 0)
        expected = fit(make_kept(folder=None, adapter__n_layers=1))
        interruption.count(at=4)
        interrupt(make_kept(adapter__n_layers=1))
    interruption.count()
    assert_same_fit(fit(make_kept(adapter__n_layers=1)), expected)
    assert interruption.n_calls == 3


# Finished runs


@fails
def test_a_finished_fit_is_not_repeated(make_kept, interruption):
    first = fit(make_kept())
    interruption.count()
    assert_same_fit(fit(make_kept()), first)
    assert interruption.n_calls == 0


@fails
def test_a_finished_run_takes_no_more_space_than_its_weights(make_kept):
    classifier = make_kept()
    fit(classifier)
    (path,) = runs_of(classifier)
    n_bytes = sum(weight.nbytes for weight in classifier.adapter_.values())
    assert path.stat().st_size < n_bytes + 10_000


@fails
def test_each_seed_has_a_separate_file(make_kept, interruption):
    expected = fit(make_kept(n_seeds=2, folder=None))
    interruption.count(at=9)  # the third step of the second seed
    interrupt(make_kept(n_seeds=2))
    interruption.count()
    found = fit(make_kept(n_seeds=2))
    assert interruption.n_calls == 4
    assert len(runs_of(found)) == 2
    for one, other in zip(found.estimators_, expected.estimators_, strict=True):
        assert_same_fit(one, other)


@fails
def test_a_grid_search_that_was_cut_off_repeats_no_fit(make_kept, interruption):
    def search(**changes):
        grid = {"learning_rate": [0.01, 0.02]}
        return GridSearchCV(make_kept(n_shots=None, **changes), grid, cv=2).fit(TEXTS, LABELS)

    expected = search(folder=None)
    n_calls = interruption.n_calls
    interruption.count(at=n_calls // 2)
    with pytest.raises(KeyboardInterrupt):
        search()
    interruption.count()
    found = search()
    assert interruption.n_calls == n_calls - n_calls // 2 + 1
    np.testing.assert_array_equal(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
    assert_same_fit(found.best_estimator_, expected.best_estimator_)


@fails
@pytest.mark.parametrize(
    "change",
    [
        {"random_state": 1},
        {"learning_rate": 0.02},
        {"max_epochs": 2},
        {"adapter__rank": 2},
        {"adapter__alpha": 3.0},
        {"adapter__target_modules": ["q_proj"]},
        {"batch_size": 3},
        {"loss": "label"},
        {"class_weight": {"positive": 3.0}},
        {"instruction": "Say how they like it."},
        {"label_definitions": {"positive": "They like it.", "negative": "They do not."}},
        {"verbalizer": {"positive": "good", "negative": "bad"}},
        {"model_options__dtype": "float64"},
        {"training_options__tol": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_parameter_that_determines_the_adapter_makes_another_run(change, make_kept):
    options = {"n_shots": 2, "max_epochs": 1, "batch_size": 2}
    fit(make_kept(**options))
    before = set(runs_of(make_kept()))
    fit(make_kept(**options | change))
    assert set(runs_of(make_kept())) > before


@fails
def test_other_rows_labels_and_weights_make_other_runs(make_kept):
    classifier = make_kept(n_shots=None)
    rows = [
        (TEXTS, LABELS, None),
        (TEXTS[1:], LABELS[1:], None),
        (TEXTS, [*LABELS[1:], LABELS[0]], None),
        (TEXTS, LABELS, np.arange(1, 17)),
    ]
    for number, arguments in enumerate(rows):
        classifier.fit(*arguments)
        assert len(runs_of(classifier)) == number + 1


@fails
def test_another_base_model_under_the_same_name_makes_another_run(make_kept, fresh_folder):
    one = fit(make_kept().set_params(model=fresh_folder))
    base = get_base_model(fresh_folder).model
    with torch.no_grad():
        base.get_output_embeddings().weight.mul_(1.5)
    fit(one)
    assert len(runs_of(one)) == 2


@fails
@pytest.mark.parametrize(
    "change", [{"verbose": 1}, {"calibration": "auto"}, {"model_options__device": "cpu"}]
)
def test_a_parameter_that_does_not_change_the_adapter_makes_no_other_run(
    change, make_kept, interruption
):
    fit(make_kept())
    interruption.count()
    fit(make_kept(**change))
    assert interruption.n_calls == 0


# Damage


@fails
@pytest.mark.parametrize("is_finished", [True, False], ids=["done", "cut off"])
def test_a_damaged_checkpoint_is_an_error_with_its_name(is_finished, make_kept, interruption):
    classifier = make_kept()
    interruption.count(at=None if is_finished else 4)
    fit(classifier) if is_finished else interrupt(classifier)
    interruption.count()
    (path,) = runs_of(classifier)
    whole = path.read_bytes()
    truncated, changed = whole[: len(whole) // 2], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    for damaged in (truncated, changed, b"", b"not a checkpoint" * 100):
        path.write_bytes(damaged)
        match = rf"{path.name} .*\. Delete it, and this part of the fit starts anew"
        with pytest.raises(CheckpointError, match=match):
            fit(classifier)
    path.unlink()
    assert_same_fit(fit(classifier), fit(make_kept(folder=None)))


@fails
def test_a_foreign_checkpoint_is_an_error_with_its_name(make_kept, tmp_path):
    one, other = fit(make_kept()), fit(make_kept(random_state=1, folder=tmp_path / "b"))
    (path,), (foreign,) = runs_of(one), runs_of(other)
    shutil.copy(foreign, path)
    with pytest.raises(CheckpointError, match=rf"{path.name} is not the checkpoint of the run"):
        fit(make_kept())


@fails
def test_other_files_in_the_folder_are_left_alone(make_kept):
    folder = make_kept().training_options.checkpoint_dir
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    fit(make_kept())
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_a_file_in_place_of_the_folder_is_an_error(make_kept, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidParameterError, match="'checkpoint_dir' parameter .* is a file"):
        fit(make_kept(folder=tmp_path / "file"))


def test_a_fit_without_random_state_is_an_error(make_kept):
    with pytest.raises(InvalidParameterError, match=r"random_state=None draws.* to an int\."):
        fit(make_kept(random_state=None))


# An interrupted fit


@fails
def test_an_interrupted_fit_leaves_the_base_model_as_it_was(make_kept, interruption, model):
    classifier = make_kept(adapter__dropout=0.3)
    fit(make_kept(folder=None))
    interruption.count(at=4)
    interrupt(classifier)
    base = get_base_model(classifier.model).model
    for name, weight in model.state_dict().items():
        assert torch.equal(base.state_dict()[name], weight)
    assert not base.training
    assert not any(weight.requires_grad for weight in base.parameters())
    assert not any("lora" in name for name, _ in base.named_modules())


@fails
def test_the_checkpoint_folder_is_not_saved_with_the_classifier(make_kept, tmp_path):
    fit(make_kept(folder=tmp_path / "kept here")).save(tmp_path / "saved")
    assert "kept here" not in (tmp_path / "saved" / "classifier.json").read_text()
    assert load(tmp_path / "saved").training_options.checkpoint_dir is None
