"""scikit-learn's own checks. Its suite runs almost none of them for estimators of strings.

The checks that need no data run on the estimators themselves. For the others, subclasses write rows
of numbers out as texts and do nothing else.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.validation import validate_data

from instructclf import (
    InstructionTunedClassifier,
    LoRA,
    ModelOptions,
    MultiOutputPromptClassifier,
    PromptClassifier,
    PromptFeatures,
)
from instructclf.exceptions import FailedRunWarning, NumberedLabelsWarning

DATA_FREE_CHECKS = [
    "check_decision_proba_consistency",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_partial_fit_n_features",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_n_features_in_after_fitting",
    "check_no_attributes_set_in_init",
    "check_non_transformer_estimators_n_iter",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_supervised_y_no_nan",
    "check_valid_tag_types",
]


class TakesRows:
    """Has tags for rows of numbers."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = False
        tags.input_tags.one_d_array = False
        tags.input_tags.two_d_array = True
        return tags


class RowsAsTexts(TakesRows):
    """Writes rows of numbers out as texts."""

    def fit(self, X, y=None):
        X, y = validate_data(self, X, y) if y is not None else (validate_data(self, X), y)
        return super().fit(written_out(X), y)

    def label_scores(self, X):
        return super().label_scores(self._write(X))

    def predict_log_proba(self, X):
        return super().predict_log_proba(self._write(X))

    def _write(self, X):
        estimator_checks.check_is_fitted(self)
        return written_out(validate_data(self, X, reset=False))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # the model's weights are random
        return tags


def written_out(X):
    return [" ".join(f"{value:.3g}" for value in row) for row in np.asarray(X, dtype=float)]


class PromptedRows(RowsAsTexts, PromptClassifier):
    """Prompting over rows of numbers."""


class TunedRows(RowsAsTexts, InstructionTunedClassifier):
    """Instruction tuning over rows of numbers."""


class FeaturesOfRows(TakesRows, PromptFeatures):
    """Features of rows of numbers."""

    def fit(self, X, y=None):
        return super().fit(written_out(validate_data(self, X)), y)

    def transform(self, X):
        estimator_checks.check_is_fitted(self)
        return super().transform(written_out(validate_data(self, X, reset=False)))


class WeightedRows(TunedRows):
    """Instruction tuning over rows of numbers that have weights."""

    def fit(self, X, y=None, sample_weight=None):
        X, y = validate_data(self, X, y) if y is not None else (validate_data(self, X), y)
        return InstructionTunedClassifier.fit(self, written_out(X), y, sample_weight)


ROWS = {
    "prompting without shots": (PromptedRows, {"n_shots": 0, "calibration": None}),
    "prompting": (PromptedRows, {"n_shots": 4}),
    "tuning": (
        TunedRows,
        {"n_shots": 4, "max_epochs": 1, "adapter": LoRA(rank=1), "calibration": None},
    ),
}
SETTINGS = {"random_state": 0, "model_options": ModelOptions(dtype="float64")}
"""In double precision, since checks compare to 1e-7."""
NOT_RUN = {
    "check_array_api_input": "for arrays of other libraries, and texts are no arrays",
}
"""Checks that scikit-learn's suite skips, with the reason why that is right."""


WEIGHT_CHECKS = [
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weights_list",
    "check_sample_weights_not_an_array",
    "check_sample_weights_not_overwritten",
    "check_sample_weights_pandas_series",
    "check_sample_weights_shape",
]


@pytest.fixture(params=["prompting", "tuning", "features", "several"])
def make_estimator(request, model_folder):
    """Return a function that makes an estimator of each kind."""
    if request.param == "features":
        return lambda: PromptFeatures(model_folder)
    if request.param == "several":
        return lambda: MultiOutputPromptClassifier(model_folder)
    return request.getfixturevalue(f"make_{request.param}")


@pytest.mark.parametrize("name", DATA_FREE_CHECKS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_checks_that_need_no_data(name, make_estimator):
    check = getattr(estimator_checks, name)
    estimator = make_estimator()
    check(type(estimator).__name__, estimator)


@pytest.mark.parametrize(("estimator", "options"), ROWS.values(), ids=ROWS)
def test_all_checks_on_rows_written_out(estimator, options, model_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailedRunWarning)
        warnings.simplefilter("ignore", NumberedLabelsWarning)
        assert_passes_all_checks(estimator(model_folder, **SETTINGS, **options), at_least=50)


def test_all_checks_on_features_of_rows_written_out(model_folder):
    options = {"model_options": ModelOptions(dtype="float64")}
    assert_passes_all_checks(FeaturesOfRows(model_folder, **options), at_least=40)


def assert_passes_all_checks(estimator, *, at_least):
    """Run the whole suite. No check may fail, and only checks with a reason may be skipped."""
    results = estimator_checks.check_estimator(estimator, on_skip=None, on_fail=None)
    failed = {
        one["check_name"]: f"{type(one['exception']).__name__}: {one['exception']}"
        for one in results
        if one["status"] not in {"passed", "skipped"}
    }
    assert not failed
    skipped = {one["check_name"] for one in results if one["status"] == "skipped"}
    assert skipped <= set(NOT_RUN)
    assert len(results) - len(skipped) > at_least


@pytest.mark.parametrize("name", WEIGHT_CHECKS)
@pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
@pytest.mark.filterwarnings("ignore::instructclf.exceptions.NumberedLabelsWarning")
def test_checks_of_weights_on_rows_written_out(name, model_folder):
    """A weight of n equals n equal rows if all of them fit into one step."""
    options = {"max_epochs": 2, "adapter": LoRA(rank=1), "calibration": None, "batch_size": 500}
    check = getattr(estimator_checks, name)
    check(WeightedRows.__name__, WeightedRows(model_folder, **SETTINGS, **options))
