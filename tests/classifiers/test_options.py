"""Parameters: their names, their nested values, and the effect of setting them after ``fit``."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import peft
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import (
    InstructionTunedClassifier,
    LoRA,
    ModelOptions,
    PromptClassifier,
    PromptFeatures,
    TrainingOptions,
)
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

COMMON = (
    "model label_definitions verbalizer instruction template n_shots sampler label_order n_seeds"
)
PARAMETERS = {
    PromptClassifier: f"{COMMON} calibration model_options random_state verbose",
    InstructionTunedClassifier: f"{COMMON} calibration adapter loss class_weight learning_rate "
    "max_epochs batch_size training_options model_options random_state verbose",
    PromptFeatures: "model labels label_definitions verbalizer instruction template model_options "
    "verbose",
    ModelOptions: "dtype device device_map quantization max_length max_batch_tokens distributed",
    LoRA: "rank alpha dropout target_modules n_layers",
    TrainingOptions: "warmup_ratio tol n_iter_no_change target_loss gradient_checkpointing "
    "warm_start checkpoint_dir seed_average",
}
VALUES = {"model_options": ModelOptions, "adapter": LoRA, "training_options": TrainingOptions}
NESTED = {
    "model_options__dtype": "float64",
    "adapter__rank": 3,
    "training_options__tol": 0.5,
}


# Names


@pytest.mark.parametrize(("kind", "names"), PARAMETERS.items())
def test_constructors_have_these_parameters(kind, names):
    assert [*inspect.signature(kind).parameters] == names.split()


def test_constructors_have_few_parameters():
    n_parameters = [len(names.split()) for names in PARAMETERS.values()]
    assert max(n_parameters) == n_parameters[1] <= 20
    assert n_parameters[0] <= 14


# Nested values


def test_values_default_to_none_and_estimators_share_none():
    one, other = InstructionTunedClassifier(), InstructionTunedClassifier()
    assert all(getattr(one, name) is None for name in VALUES)
    one.set_params(**NESTED)
    assert all(getattr(other, name) is None for name in VALUES)
    assert not [name for name, value in NESTED.items() if other.get_params()[name] == value]


@pytest.mark.parametrize(("name", "value"), NESTED.items())
def test_nested_names_reach_values_that_are_none(name, value):
    parameter, _, nested = name.partition("__")
    classifier = InstructionTunedClassifier().set_params(**{name: value})
    made = getattr(classifier, parameter)
    assert type(made) is VALUES[parameter]
    assert made.get_params() == VALUES[parameter](**{nested: value}).get_params()
    assert classifier.get_params()[name] == value


def test_get_params_lists_nested_names_of_given_values():
    classifier = InstructionTunedClassifier(adapter=LoRA(rank=3))
    assert classifier.get_params()["adapter__rank"] == 3
    assert "adapter__rank" not in classifier.get_params(deep=False)


def test_setting_a_value_and_its_nested_name_changes_the_given_value():
    classifier = PromptClassifier().set_params(
        model_options__max_length=90, model_options=ModelOptions(dtype="float64")
    )
    assert repr(classifier.model_options) == "ModelOptions(dtype='float64', max_length=90)"


@pytest.mark.parametrize(
    "name", ["model_options__dtypes", "adapter__r", "training_options__tolerance", "lora_rank"]
)
def test_unknown_nested_names_are_an_error(name):
    with pytest.raises(ValueError, match=r"Invalid parameter '\w+' for estimator"):
        InstructionTunedClassifier().set_params(**{name: 3})


def test_clones_copy_their_values():
    classifier = InstructionTunedClassifier().set_params(**NESTED)
    copy = clone(classifier)
    for name in VALUES:
        assert getattr(copy, name) is not getattr(classifier, name)
    copy.set_params(**{name: default_of(name) for name in NESTED})
    assert {name: classifier.get_params()[name] for name in NESTED} == NESTED


def default_of(name):
    parameter, _, nested = name.partition("__")
    return VALUES[parameter]().get_params()[nested]


@pytest.mark.parametrize(
    ("name", "values", "read"),
    [
        ("adapter__rank", [1, 2], lambda fitted: {min(w.shape) for w in fitted.adapter_.values()}),
        ("training_options__target_loss", [0.0, 99.0], lambda fitted: {fitted.n_iter_ == 1}),
        ("model_options__dtype", ["float64"], lambda fitted: {"float64"}),
        ("model_options__max_length", [300, 400], lambda fitted: {fitted.max_length_}),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_searches_reach_nested_names_of_none(name, values, read, model_folder):
    tuning = InstructionTunedClassifier(model_folder, max_epochs=2, n_shots=4, random_state=0)
    search = GridSearchCV(tuning, {name: values}, cv=2).fit(TEXTS, LABELS)
    assert search.best_params_[name] in values
    assert getattr(tuning, name.partition("__")[0]) is None
    best = search.best_estimator_
    assert best.get_params()[name] == search.best_params_[name]
    expected = {best.get_params()[name]}
    if name == "training_options__target_loss":
        expected = {best.get_params()[name] == 99.0}
    assert read(best) == expected


def test_a_nested_name_has_the_effect_of_the_value(make_prompting, model_folder):
    nested = make_prompting(model_options__max_length=300).fit(TEXTS, LABELS)
    given = make_prompting(model_options=ModelOptions(max_length=300)).fit(TEXTS, LABELS)
    assert nested.max_length_ == given.max_length_ == 300
    np.testing.assert_array_equal(nested.predict_proba(TEXTS), given.predict_proba(TEXTS))


def test_default_values_equal_none(make_tuning):
    given = make_tuning(
        adapter=LoRA(), training_options=TrainingOptions(), model_options=ModelOptions()
    )
    defaults = make_tuning(adapter=None)
    np.testing.assert_array_equal(
        given.fit(TEXTS, LABELS).predict_proba(TEXTS),
        defaults.fit(TEXTS, LABELS).predict_proba(TEXTS),
    )


def test_fit_leaves_values_of_none_as_none(make_prompting):
    classifier = make_prompting().fit(TEXTS, LABELS)
    assert classifier.model_options is None
    assert "model_options" not in repr(classifier)


# Domains


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_options__max_length", 0),
        ("model_options__max_batch_tokens", 0),
        ("model_options__max_batch_tokens", "many"),
        ("model_options__max_batch_tokens", None),
        ("model_options__device", None),
        ("model_options__dtype", None),
        ("model_options__dtype", 32),
        ("model_options__quantization", "8bit"),
        ("model_options__device_map", 3),
        ("model_options__distributed", "yes"),
        ("adapter__rank", 0),
        ("adapter__alpha", 0),
        ("adapter__dropout", 1.0),
        ("adapter__target_modules", 3),
        ("adapter__n_layers", 0),
        ("training_options__warmup_ratio", 1.1),
        ("training_options__tol", -1),
        ("training_options__n_iter_no_change", 0),
        ("training_options__target_loss", -1),
        ("training_options__gradient_checkpointing", 2),
        ("training_options__warm_start", "yes"),
        ("training_options__seed_average", "weights"),
        ("training_options__checkpoint_dir", 3),
    ],
)
def test_nested_values_out_of_their_domain_are_an_error(name, value, make_tuning):
    parameter, _, nested = name.partition("__")
    match = rf"The '{nested}' parameter of {VALUES[parameter].__name__} must be .* Got {value!r}"
    with pytest.raises(InvalidParameterError, match=match):
        make_tuning(**{name: value}).fit(TEXTS, LABELS)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("value", [3, {"rank": 4}, "default", TrainingOptions], ids=str)
def test_values_of_another_kind_are_an_error(name, value, make_tuning):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter .*must be .* Got"):
        make_tuning(**{name: value}).fit(TEXTS, LABELS)


@pytest.mark.parametrize("budget", ["auto", np.int64(77)], ids=str)
def test_max_batch_tokens_is_auto_or_a_number(budget, make_prompting):
    classifier = make_prompting(model_options__max_batch_tokens=budget).fit(TEXTS, LABELS)
    expected = make_prompting().fit(TEXTS, LABELS).predict_proba(TEXTS)
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, rtol=0, atol=1e-5)


# Parameters that are set after fit

LATER = {
    "template": "alpaca_short",
    "n_shots": 2,
    "n_seeds": 3,
    "calibration": None,
    "verbalizer": {"positive": "good", "negative": "bad"},
    "label_definitions": {"a": "A.", "b": "B."},
    "sampler": "random",
    "model_options__max_length": 90,
}
LATER_TUNING = {
    "adapter__rank": 7,
    "adapter__target_modules": ["q_proj"],
    "adapter": peft.IA3Config(),
    "loss": "lm",
    "training_options__seed_average": "adapter",
    "batch_size": 1,
}


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_parameters_set_after_fit_change_neither_predictions_nor_pickles(n_seeds, make_classifier):
    classifier = make_classifier(n_seeds=n_seeds).fit(TEXTS, LABELS)
    expected = classifier.label_scores(TEXTS)
    later = LATER | (LATER_TUNING if hasattr(classifier, "adapter") else {})
    for name, value in later.items():
        classifier.set_params(**{name: value})
        for one in (classifier, pickle.loads(pickle.dumps(classifier))):
            scores = one.label_scores(TEXTS)
            np.testing.assert_array_equal(scores.log_likelihood, expected.log_likelihood)
            np.testing.assert_array_equal(scores.log_probabilities, expected.log_probabilities)
            assert one.classes_.tolist() == ["negative", "positive"]
            assert one.max_length_ == 2048
