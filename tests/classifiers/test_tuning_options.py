"""Losses, weights, kinds of adapters and warm starts of instruction tuning."""

from __future__ import annotations

import pickle

import numpy as np
import peft
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import FunctionTransformer, make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import InstructionTunedClassifier
from instructclf.engine.models.registry import get_base_model
from instructclf.exceptions import FailedRunWarning, InvalidLabelsError, MissingClassWarning
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

FOLDS = StratifiedKFold(2, shuffle=True, random_state=0)
TARGETS = ["q_proj", "v_proj", "gate_proj"]
KINDS = {
    "DoRA": peft.LoraConfig(r=2, use_dora=True, target_modules=TARGETS),
    "rsLoRA": peft.LoraConfig(r=2, use_rslora=True, target_modules=TARGETS),
    "IA3": peft.IA3Config(target_modules=TARGETS, feedforward_modules=[]),
}
DOUBLE = {"model_options__dtype": "float64"}
WARM = {"training_options__warm_start": True}
WEIGHTS = np.tile([1.0, 2.0, 0.0, 1.0], 4)


def assert_same_adapters(one, other, *, atol=0.0):
    assert one.adapter_.keys() == other.adapter_.keys()
    for name, weight in one.adapter_.items():
        torch.testing.assert_close(weight, other.adapter_[name], rtol=0, atol=atol)


@pytest.fixture
def make_peft(model_folder):
    """Return a function that makes a classifier with the default adapter or any other."""
    options = {"learning_rate": 0.01, "max_epochs": 3, "batch_size": 2, "random_state": 0}

    def make(**changes):
        return InstructionTunedClassifier(model_folder, **options).set_params(**changes)

    return make


# Loss


@pytest.mark.parametrize("loss", ["lm", "label", "lm+label"])
def test_each_loss_learns_its_rows(loss, make_tuning):
    classifier = make_tuning(n_shots=None, max_epochs=6, loss=loss).fit(TEXTS, LABELS)
    assert classifier.score(TEXTS, LABELS) == 1.0


def test_the_default_loss_is_that_of_the_label(make_tuning):
    default, same, other = (
        make_tuning(**changes).fit(TEXTS, LABELS)
        for changes in ({}, {"loss": "label"}, {"loss": "lm+label"})
    )
    assert default.loss_curve_ == same.loss_curve_
    assert default.loss_curve_[0] < other.loss_curve_[0]


@pytest.mark.parametrize(("loss", "target"), [("lm", 1.0), ("label", 0.3), ("lm+label", 0.3)])
def test_each_loss_has_a_target(loss, target, make_tuning):
    """Under ``"lm"`` the random model starts far from any word, so its target is higher."""
    classifier = make_tuning(
        n_shots=None, loss=loss, max_epochs=12, training_options__target_loss=target
    )
    assert classifier.fit(TEXTS, LABELS).stopped_by_ == "target_loss"
    assert 1 < classifier.n_iter_ < 12


@pytest.mark.parametrize("loss", ["lm", "label"])
def test_each_loss_finds_a_run_that_failed(loss, make_tuning):
    with pytest.warns(FailedRunWarning, match=r"where guessing gives 0\.693"):
        make_tuning(n_shots=None, max_epochs=1, loss=loss).fit(["the same"] * 4, LABELS[6:10])


def test_a_warning_points_at_the_users_line(make_tuning):
    with pytest.warns(FailedRunWarning) as found:
        make_tuning(n_shots=None, max_epochs=1).fit(["the same"] * 4, LABELS[6:10])
    (warning,) = (one for one in found if one.category is FailedRunWarning)
    assert warning.filename == __file__


# Weights


def test_rows_of_weight_0_are_left_out(make_tuning):
    kept = np.flatnonzero(WEIGHTS)
    for n_shots in (None, 4):
        weighted = make_tuning(n_shots=n_shots).fit(TEXTS, LABELS, sample_weight=np.sign(WEIGHTS))
        rest = make_tuning(n_shots=n_shots)
        rest.fit([TEXTS[i] for i in kept], [LABELS[i] for i in kept])
        assert_same_adapters(weighted, rest)
        np.testing.assert_array_equal(weighted.shots_, kept[rest.shots_])
        np.testing.assert_array_equal(weighted.calibration_.bias, rest.calibration_.bias)
        np.testing.assert_array_equal(weighted.predict_proba(TEXTS), rest.predict_proba(TEXTS))


def test_shots_keep_their_weights(make_tuning):
    """The loss of an untrained adapter is the mean over the shots, in their weights."""
    weights = np.arange(1.0, 17.0)
    classifier = make_tuning(n_shots=4, loss="label", learning_rate=1e-30, max_epochs=1)
    classifier.fit(TEXTS, LABELS, sample_weight=weights)
    shots = classifier.shots_
    np.testing.assert_array_equal(shots, clone(classifier).fit(TEXTS, LABELS).shots_)
    scores = classifier.label_log_likelihood([TEXTS[i] for i in shots])
    right = scores[range(4), np.searchsorted(classifier.classes_, [LABELS[i] for i in shots])]
    losses = np.logaddexp.reduce(scores, axis=1) - right
    expected = np.average(losses, weights=weights[shots])
    assert classifier.loss_curve_[0] == pytest.approx(expected, abs=1e-5)
    assert classifier.loss_curve_[0] != pytest.approx(losses.mean(), abs=1e-3)


def test_a_weight_of_2_equals_a_row_given_twice(make_tuning):
    options = {"n_shots": None, "batch_size": 100, "calibration": None, **DOUBLE}
    rows = np.repeat(np.arange(16), WEIGHTS.astype(int))
    weighted = make_tuning(**options).fit(TEXTS, LABELS, sample_weight=WEIGHTS)
    again = make_tuning(**options).fit([TEXTS[i] for i in rows], [LABELS[i] for i in rows])
    np.testing.assert_allclose(
        weighted.predict_proba(TEXTS), again.predict_proba(TEXTS), rtol=0, atol=1e-6
    )
    assert weighted.loss_curve_ == pytest.approx(again.loss_curve_, rel=1e-4)


def test_weights_make_a_class_likelier(make_tuning):
    texts, labels = ["the same"] * 8, ["positive", "negative"] * 4
    probabilities = [
        make_tuning(n_shots=None, max_epochs=8, calibration=None, **options)
        .fit(texts, labels, **weights)
        .predict_proba(["the same"])[0, 1]
        for options, weights in (
            ({"class_weight": {"positive": 9}}, {}),
            ({}, {"sample_weight": [9, 1] * 4}),
            ({}, {}),
        )
    ]
    assert min(probabilities[:2]) > 0.75
    assert probabilities[2] < 0.65
    assert probabilities[0] == pytest.approx(probabilities[1], rel=1e-4)


def test_balanced_class_weights_consider_the_shots_alone(make_tuning):
    """Equal numbers of shots are balanced already, however skewed the rows are."""
    default = make_tuning().fit(TEXTS[4:], LABELS[4:])
    balanced = make_tuning(class_weight="balanced").fit(TEXTS[4:], LABELS[4:])
    assert_same_adapters(default, balanced)
    skewed = {"n_shots": None, "batch_size": 100, **DOUBLE}
    balanced = make_tuning(class_weight="balanced", **skewed).fit(TEXTS[4:], LABELS[4:])
    by_hand = make_tuning(**skewed).fit(TEXTS[4:], LABELS[4:], sample_weight=[2] * 4 + [1] * 8)
    assert_same_adapters(balanced, by_hand, atol=1e-7)


def test_a_class_without_weight_stays_a_class(make_tuning):
    labels = ["positive"] * 6 + ["other"] * 2 + ["negative"] * 8
    weights = [1] * 6 + [0] * 2 + [1] * 8
    with pytest.warns(MissingClassWarning, match="other"):
        classifier = make_tuning().fit(TEXTS, labels, sample_weight=weights)
    assert classifier.classes_.tolist() == ["negative", "other", "positive"]


def test_class_weights_of_no_class_are_an_error(make_tuning):
    with pytest.raises(InvalidLabelsError, match=r"names \['god'\].* not \['negative', 'positive'"):
        make_tuning(class_weight={"god": 2}).fit(TEXTS, LABELS)


def strip(texts):
    return [text.strip() for text in texts]


def test_weights_are_routed_through_pipelines_and_searches(make_tuning):
    with config_context(enable_metadata_routing=True):
        classifier = make_tuning(n_shots=None).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(strip), classifier)
        weights = np.where(WEIGHTS, WEIGHTS, 0.5)
        pipeline.fit(TEXTS, LABELS, sample_weight=weights)
        expected = make_tuning(n_shots=None).fit(TEXTS, LABELS, sample_weight=weights)
        assert_same_adapters(pipeline[-1], expected)
        accuracy = get_scorer("accuracy").set_score_request(sample_weight=True)
        ranks = {"instructiontunedclassifier__adapter__rank": [1, 2]}
        search = GridSearchCV(pipeline, ranks, scoring=accuracy, cv=FOLDS)
        search.fit(TEXTS, LABELS, sample_weight=weights)
        best = clone(search.best_estimator_[-1]).fit(TEXTS, LABELS, sample_weight=weights)
        assert_same_adapters(search.best_estimator_[-1], best)


# Kinds of adapters


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_an_adapter_of_any_kind_is_tuned_cloned_and_pickled(config, make_peft):
    classifier = make_peft(adapter=config, max_epochs=2).fit(TEXTS, LABELS)
    expected = classifier.predict_proba(TEXTS)
    restored = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(restored.predict_proba(TEXTS), expected)
    copy = clone(classifier)
    assert copy.adapter == config
    assert copy.adapter is not config
    np.testing.assert_array_equal(copy.fit(TEXTS, LABELS).predict_proba(TEXTS), expected)


def test_the_default_adapter_is_lora_of_rank_16(make_peft):
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    assert_same_adapters(
        make_peft(adapter=config).fit(TEXTS, LABELS), make_peft().fit(TEXTS, LABELS)
    )


def test_adapters_of_several_kinds_do_not_affect_each_other(make_peft, model):
    fitted = {kind: make_peft(adapter=config).fit(TEXTS, LABELS) for kind, config in KINDS.items()}
    later = {kind: classifier.predict_proba(TEXTS) for kind, classifier in fitted.items()}
    for kind, config in KINDS.items():
        alone = make_peft(adapter=config).fit(TEXTS, LABELS)
        np.testing.assert_array_equal(alone.predict_proba(TEXTS), later[kind])
    base = get_base_model(make_peft().model).model
    for name, weight in model.state_dict().items():
        assert torch.equal(base.state_dict()[name], weight)


def test_a_search_compares_kinds_of_adapters(make_peft):
    grid = {"adapter": [None, *KINDS.values()]}
    search = GridSearchCV(make_peft(max_epochs=1, n_shots=4), grid, cv=FOLDS).fit(TEXTS, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"r": 8}, r"an instance of peft.PeftConfig, .* Got {'r': 8} instead"),
        (peft.PromptTuningConfig(num_virtual_tokens=2), "puts into the layers"),
        (peft.AdaLoraConfig(total_step=5), "trained by gradients alone"),
    ],
    ids=["dict", "prompt tuning", "AdaLoRA"],
)
def test_an_adapter_that_cannot_be_tuned_is_an_error(config, match, make_peft):
    match = f"The 'adapter' parameter must be a LoRA or .*{match}"
    with pytest.raises(InvalidParameterError, match=match):
        make_peft(adapter=config).fit(TEXTS, LABELS)


# Warm starts


def test_a_warm_start_continues(make_tuning):
    classifier = make_tuning(n_shots=None, **WARM).fit(TEXTS, LABELS)
    first = classifier.loss_curve_
    classifier.fit(TEXTS, LABELS)
    assert classifier.loss_curve_[0] < first[0]
    assert classifier.n_iter_ == len(classifier.loss_curve_) <= 3


def test_without_a_warm_start_a_second_fit_equals_the_first(make_tuning):
    classifier = make_tuning().fit(TEXTS, LABELS)
    first = classifier.adapter_
    classifier.fit(TEXTS, LABELS)
    assert all(torch.equal(first[name], weight) for name, weight in classifier.adapter_.items())


def test_a_first_fit_with_warm_start_begins_anew(make_tuning):
    assert_same_adapters(
        make_tuning(**WARM).fit(TEXTS, LABELS),
        make_tuning().fit(TEXTS, LABELS),
    )


def test_a_warm_start_without_a_step_keeps_the_adapter(make_tuning):
    classifier = make_tuning(**WARM).fit(TEXTS, LABELS)
    earlier = pickle.loads(pickle.dumps(classifier))
    restored = pickle.loads(pickle.dumps(classifier))
    restored.set_params(learning_rate=1e-30, max_epochs=1).fit(TEXTS, LABELS)
    assert_same_adapters(restored, earlier)
    np.testing.assert_array_equal(restored.predict_proba(TEXTS), earlier.predict_proba(TEXTS))


def test_a_warm_start_continues_with_adapters_of_other_kinds(make_peft):
    classifier = make_peft(
        adapter=KINDS["IA3"],
        **WARM,
        training_options__n_iter_no_change=9,
    )
    first = classifier.fit(TEXTS, LABELS).loss_curve_
    assert classifier.fit(TEXTS, LABELS).loss_curve_[0] < first[0]


def test_a_warm_start_with_other_classes_is_an_error(make_tuning):
    classifier = make_tuning(**WARM).fit(TEXTS, LABELS)
    labels = ["fine" if label == "positive" else label for label in LABELS]
    match = r"the classes \['negative', 'positive'\], and now they are \['fine', 'negative'\]. Give"
    for _ in range(2):  # failing has not made the new classes known
        with pytest.raises(InvalidLabelsError, match=match):
            classifier.fit(TEXTS, labels)
    classifier.fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    "changes",
    [{"adapter__rank": 3}, {"adapter__target_modules": ["q_proj"]}, {"adapter__n_layers": 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_warm_start_of_another_shape_is_an_error(changes, make_tuning):
    classifier = make_tuning(**WARM).fit(TEXTS, LABELS).set_params(**changes)
    with pytest.raises(
        ValueError, match=r"do not fit: .* from a new adapter with .*warm_start=False"
    ):
        classifier.fit(TEXTS, LABELS)


def test_a_clone_does_not_start_warm(make_tuning):
    classifier = make_tuning(**WARM).fit(TEXTS, LABELS)
    assert_same_adapters(clone(classifier).fit(TEXTS, LABELS), make_tuning().fit(TEXTS, LABELS))


# Parameters


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss", "sum"), ("class_weight", "balance"), ("class_weight", 2)],
)
def test_options_out_of_their_domain_are_an_error(name, value, make_tuning):
    match = rf"The '{name}' parameter of InstructionTunedClassifier must be .* Got '?{value}"
    with pytest.raises(InvalidParameterError, match=match):
        make_tuning(**{name: value}).fit(TEXTS, LABELS)
