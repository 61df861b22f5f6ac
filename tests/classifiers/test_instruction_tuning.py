"""Instruction tuning: an adapter learns the shots, and the prompt stays short."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import TrainingOptions
from instructclf.engine.models.registry import get_base_model
from instructclf.exceptions import FailedRunWarning, TrainingDivergedError
from tests.fixtures import LABELS, TEXTS, make_model

fails = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")


def test_tuning_learns_its_rows(make_tuning):
    classifier = make_tuning(n_shots=None, max_epochs=6).fit(TEXTS, LABELS)
    assert classifier.score(TEXTS, LABELS) == 1.0
    assert classifier.loss_curve_[-1] < classifier.loss_curve_[0]
    assert classifier.n_iter_ == len(classifier.loss_curve_) <= 6


def test_all_rows_are_shots_by_default(make_tuning):
    classifier = make_tuning(n_shots=None).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(classifier.shots_, np.arange(16))


def test_the_prompt_shows_no_shots(make_tuning):
    assert make_tuning().fit(TEXTS, LABELS).get_prompt("Meh.").count("### Input:") == 1


@fails
@pytest.mark.parametrize(
    ("max_epochs", "options", "reason", "n_iter"),
    [
        (2, {}, "max_epochs", 2),
        (9, {"target_loss": 100.0}, "target_loss", 1),
        (9, {"tol": 100.0, "n_iter_no_change": 2}, "n_iter_no_change", 3),
    ],
    ids=["max_epochs", "target_loss", "n_iter_no_change"],
)
def test_the_reason_for_stopping_is_recorded(max_epochs, options, reason, n_iter, make_tuning):
    stopping = TrainingOptions(**({"target_loss": 0.0} | options))
    classifier = make_tuning(max_epochs=max_epochs, training_options=stopping).fit(TEXTS, LABELS)
    assert classifier.stopped_by_ == reason
    assert classifier.n_iter_ == n_iter


def test_random_state_decides_the_weights(make_tuning):
    one, same, other = (
        make_tuning(n_shots=None, calibration=None, random_state=seed).fit(TEXTS, LABELS).adapter_
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_the_global_generators_are_left_alone(make_tuning):
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    make_tuning().fit(TEXTS, LABELS)
    assert (torch.rand(1), np.random.rand()) == expected


def test_the_base_model_is_left_as_it_was(make_tuning, model):
    classifier = make_tuning().fit(TEXTS, LABELS)
    base = get_base_model(classifier.model).model
    for name, weight in model.state_dict().items():
        assert torch.equal(base.state_dict()[name], weight)
    assert not base.training
    assert not any(weight.requires_grad for weight in base.parameters())
    assert not any("lora" in name for name, _ in base.named_modules())


def test_the_adapter_holds_only_weights_of_its_rank(make_tuning):
    classifier = make_tuning(adapter__rank=3).fit(TEXTS, LABELS)
    assert classifier.adapter_
    assert all("lora_" in name for name in classifier.adapter_)
    assert {min(weight.shape) for weight in classifier.adapter_.values()} == {3}


@fails
def test_target_modules_can_be_chosen(make_tuning):
    classifier = make_tuning(adapter__target_modules=["q_proj", "v_proj"]).fit(TEXTS, LABELS)
    assert all("q_proj" in name or "v_proj" in name for name in classifier.adapter_)


@fails
def test_predictions_use_no_dropout_after_unpickling(make_tuning):
    classifier = make_tuning(adapter__dropout=0.5).fit(TEXTS, LABELS)
    restored = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(restored.predict_proba(TEXTS), classifier.predict_proba(TEXTS))


@fails
def test_random_state_decides_the_dropout(make_tuning):
    one, other = (make_tuning(adapter__dropout=0.5).fit(TEXTS, LABELS) for _ in range(2))
    assert one.loss_curve_ == other.loss_curve_


@fails
def test_a_classifier_tuned_in_its_upper_layers_is_restored(make_tuning):
    classifier = make_tuning(adapter__n_layers=1).fit(TEXTS, LABELS)
    assert all(".layers.1." in name for name in classifier.adapter_)
    restored = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(restored.predict_proba(TEXTS), classifier.predict_proba(TEXTS))


def test_more_tuned_layers_than_the_model_has_are_an_error(make_tuning):
    with pytest.raises(ValueError, match=r"LoRA\(n_layers=3\) asks for more than the 2 layers"):
        make_tuning(adapter__n_layers=3).fit(TEXTS, LABELS)


@fails
def test_gradient_checkpointing_changes_no_prediction(make_tuning):
    without, with_it = (
        make_tuning(training_options__gradient_checkpointing=value)
        .fit(TEXTS, LABELS)
        .predict_proba(TEXTS)
        for value in (False, True)
    )
    np.testing.assert_allclose(with_it, without, atol=1e-5)


def test_a_run_that_learns_nothing_warns(make_tuning):
    with pytest.warns(FailedRunWarning, match=r"where guessing gives 0\.693.*more epochs"):
        make_tuning(n_shots=None, max_epochs=1).fit(["the same"] * 4, LABELS[6:10])


def test_a_loss_that_is_not_finite_is_an_error(make_tuning, tokenizer):
    model = make_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match="loss became nan .* lower learning_rate"):
        make_tuning().set_params(model=(model, tokenizer)).fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_shots", 0),
        ("learning_rate", 0),
        ("max_epochs", 0),
        ("batch_size", 0),
        ("training_options", {"tol": 0}),
    ],
)
def test_parameters_out_of_their_domain_are_an_error(name, value, make_tuning):
    match = rf"The '{name}' parameter of InstructionTunedClassifier must be .* Got {value}"
    with pytest.raises(InvalidParameterError, match=match):
        make_tuning(**{name: value}).fit(TEXTS, LABELS)
