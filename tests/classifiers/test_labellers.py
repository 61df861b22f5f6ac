"""The one value that ``fit`` learns, and ensembles of such values for several seeds."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from peft import IA3Config
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils._param_validation import InvalidParameterError
from transformers.pytorch_utils import Conv1D

from instructclf import InstructionTunedClassifier, load
from instructclf.engine.local_models import open_language_model
from instructclf.exceptions import InvalidLabelsError, InvalidShotsError
from tests.fixtures import LABELS, TEXTS, make_model

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

UNSEEN = ["good", "", "bad {input} </s>", "a film that is long and not so good"]
DRAWN = {"n_shots": 4, "n_seeds": 3, "random_state": 0}
ONE_ADAPTER = {"training_options__seed_average": "adapter"}


def test_a_labeller_cannot_be_changed(make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    with pytest.raises(FrozenInstanceError):
        classifier.labeller_.shots = np.arange(3)
    for name in ("classes_", "prompt_", "shots_", "calibration_", "label_words_", "max_length_"):
        with pytest.raises(AttributeError):
            setattr(classifier, name, None)


def test_fitted_attributes_read_the_labeller(make_tuning):
    classifier = make_tuning().fit(TEXTS, LABELS)
    labeller = classifier.labeller_
    assert classifier.classes_ is labeller.classes
    assert classifier.prompt_ is labeller.question.prompt
    assert classifier.label_words_ is labeller.question.label_words
    assert classifier.shots_ is labeller.shots
    assert classifier.calibration_ is labeller.calibration
    assert classifier.adapter_ is labeller.adapter.weights
    assert classifier.loss_curve_ == labeller.training.loss_curve
    assert classifier.stopped_by_ == labeller.training.stopped_by


def test_only_the_labeller_holds_what_fit_learned(make_classifier):
    classifier = make_classifier(n_seeds=2).fit(TEXTS, LABELS)
    learned = {name for name in vars(classifier) if name.endswith("_")}
    assert learned == {"labeller_"}


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_a_labeller_scores_without_its_classifier(n_seeds, make_prompting, model, tokenizer):
    classifier = make_prompting(n_seeds=n_seeds).fit(TEXTS, LABELS)
    n_opened = []

    def open_model():
        n_opened.append(1)
        return open_language_model((model, tokenizer))

    labeller = pickle.loads(pickle.dumps(classifier.labeller_))
    expected = classifier.label_scores(UNSEEN)
    for _ in range(2):
        scores = labeller.score(UNSEEN, open_model)
        np.testing.assert_array_equal(scores.log_likelihood, expected.log_likelihood)
        np.testing.assert_array_equal(scores.log_probabilities, expected.log_probabilities)
    assert len(n_opened) == n_seeds


def test_a_labeller_after_fit_opens_no_model(make_classifier):
    labeller = make_classifier().fit(TEXTS, LABELS).labeller_
    assert labeller.score(UNSEEN, open_model=None).log_likelihood.shape == (4, 2)


# Several seeds


def test_a_prediction_is_the_mean_of_the_seeds_log_probabilities(make_classifier):
    classifier = make_classifier(**DRAWN).fit(TEXTS, LABELS)
    members = [member.predict_log_proba(UNSEEN) for member in classifier.estimators_]
    expected = log_softmax(np.mean(members, axis=0), axis=1)
    np.testing.assert_allclose(classifier.predict_log_proba(UNSEEN), expected, rtol=1e-12)
    np.testing.assert_allclose(classifier.predict_proba(UNSEEN).sum(axis=1), 1)
    labels = classifier.classes_[expected.argmax(axis=1)]
    np.testing.assert_array_equal(classifier.predict(UNSEEN), labels)


def test_the_likelihood_and_mass_of_labels_are_means_over_seeds(make_classifier):
    classifier = make_classifier(**DRAWN).fit(TEXTS, LABELS)
    members = [np.exp(member.label_log_likelihood(UNSEEN)) for member in classifier.estimators_]
    likelihoods = np.exp(classifier.label_log_likelihood(UNSEEN))
    np.testing.assert_allclose(likelihoods, np.mean(members, axis=0), rtol=1e-9)
    np.testing.assert_allclose(classifier.label_mass(UNSEEN), likelihoods.sum(axis=1), rtol=1e-9)


@pytest.mark.parametrize("calibration", [None, "auto"])
def test_each_seed_is_calibrated_separately(calibration, make_prompting):
    options = {**DRAWN, "calibration": calibration, "label_order": "random"}
    classifier = make_prompting(**options).fit(TEXTS, LABELS)
    members = [member.predict_log_proba(UNSEEN) for member in classifier.estimators_]
    expected = log_softmax(np.mean(members, axis=0), axis=1)
    np.testing.assert_allclose(classifier.predict_log_proba(UNSEEN), expected, rtol=1e-12)


def test_each_member_equals_a_classifier_with_its_seed(make_classifier):
    classifier = make_classifier(**DRAWN).fit(TEXTS, LABELS)
    for member in classifier.estimators_:
        alone = clone(member).fit(TEXTS, LABELS)
        assert alone.n_seeds == 1
        np.testing.assert_array_equal(alone.shots_, member.shots_)
        np.testing.assert_array_equal(
            alone.predict_log_proba(UNSEEN), member.predict_log_proba(UNSEEN)
        )


def test_seeds_draw_different_shots_and_come_from_one_random_state(make_prompting):
    classifier = make_prompting(**DRAWN).fit(TEXTS, LABELS)
    draws = [member.shots_.tolist() for member in classifier.estimators_]
    assert len({tuple(draw) for draw in draws}) == 3
    assert classifier.shots_.tolist() == sorted({row for draw in draws for row in draw})
    again = make_prompting(**DRAWN).fit(TEXTS, LABELS)
    assert [member.shots_.tolist() for member in again.estimators_] == draws


def test_more_seeds_begin_with_the_same_seeds(make_prompting):
    few = make_prompting(**{**DRAWN, "n_seeds": 2}).fit(TEXTS, LABELS)
    many = make_prompting(**{**DRAWN, "n_seeds": 4}).fit(TEXTS, LABELS)
    for one, other in zip(few.estimators_, many.estimators_, strict=False):
        np.testing.assert_array_equal(one.shots_, other.shots_)


def test_one_seed_has_no_members(make_classifier):
    classifier = make_classifier(**{**DRAWN, "n_seeds": 1}).fit(TEXTS, LABELS)
    assert not hasattr(classifier, "estimators_")


def test_fitting_with_one_seed_forgets_earlier_members(make_prompting):
    classifier = make_prompting(**DRAWN).fit(TEXTS, LABELS)
    classifier.set_params(n_seeds=1).fit(TEXTS, LABELS)
    alone = make_prompting(**{**DRAWN, "n_seeds": 1}).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(
        classifier.predict_log_proba(UNSEEN), alone.predict_log_proba(UNSEEN)
    )


def test_fitting_with_several_seeds_forgets_the_previous_fit(make_classifier, tmp_path):
    secrets = [f"secret {text}" for text in TEXTS]
    classifier = make_classifier(n_shots=4).fit(secrets, LABELS)
    classifier.set_params(n_seeds=2, random_state=0).fit(TEXTS, LABELS)
    fresh = clone(classifier).fit(TEXTS, LABELS)
    assert vars(classifier).keys() == vars(fresh).keys()
    classifier.save(tmp_path / "saved")
    assert "secret" not in (tmp_path / "saved" / "classifier.json").read_text()
    expected = fresh.predict_proba(UNSEEN)
    np.testing.assert_array_equal(load(tmp_path / "saved").predict_proba(UNSEEN), expected)


def test_rows_that_a_sampler_chose_from_are_forgotten_too(make_prompting, tmp_path):
    secrets = [f"secret {text}" for text in TEXTS]
    classifier = make_prompting(n_shots=4, sampler="knn").fit(secrets, LABELS)
    classifier.set_params(**DRAWN, sampler="balanced").fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    assert "secret" not in (tmp_path / "saved" / "classifier.json").read_text()


def test_a_classifier_of_seeds_survives_pickling(make_classifier):
    classifier = make_classifier(**DRAWN).fit(TEXTS, LABELS)
    restored = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_allclose(
        restored.predict_log_proba(UNSEEN), classifier.predict_log_proba(UNSEEN), atol=1e-6
    )


def test_seeds_can_be_searched_for(make_prompting):
    search = GridSearchCV(make_prompting(n_shots=2, random_state=0), {"n_seeds": [1, 2]}, cv=2)
    assert search.fit(TEXTS, LABELS).best_params_["n_seeds"] in {1, 2}


def test_a_failed_fit_leaves_no_members(make_prompting):
    classifier = make_prompting(**DRAWN).fit(TEXTS, LABELS)
    with pytest.raises(InvalidShotsError):
        classifier.set_params(n_shots=1).fit(TEXTS, LABELS)
    with pytest.raises(NotFittedError):
        classifier.predict(UNSEEN)


def test_each_seed_has_a_separate_prompt(make_prompting):
    classifier = make_prompting(**DRAWN).fit(TEXTS, LABELS)
    with pytest.raises(AttributeError, match=r"such as estimators_\[0\]"):
        classifier.get_prompt("x")
    assert "x" in classifier.estimators_[0].get_prompt("x")


@pytest.mark.parametrize("n_shots", [0, None])
def test_seeds_that_cannot_differ_are_an_error(n_shots, make_prompting):
    match = rf"n_seeds=2 seeds .* n_shots={n_shots} with .* leaves nothing to draw"
    with pytest.raises(InvalidShotsError, match=match):
        make_prompting(n_shots=n_shots, n_seeds=2).fit(TEXTS, LABELS)


# Label order


def test_labels_are_stated_in_sorted_order_by_default(make_classifier):
    classifier = make_classifier(random_state=0).fit(TEXTS, LABELS)
    assert "labels: negative, positive." in classifier.get_prompt("x")
    drawn = {
        make_classifier(label_order="random", random_state=seed, n_shots=2, calibration=None)
        .fit(TEXTS, LABELS)
        .prompt_.instruction
        for seed in range(8)
    }
    assert len(drawn) == 2


def test_definitions_stay_with_their_labels_in_any_order(make_prompting):
    definitions = {"positive": "They like it.", "negative": "They do not."}
    options = {"label_definitions": definitions, "label_order": "random", "n_shots": 0}
    for seed in range(4):
        classifier = make_prompting(**options, random_state=seed).fit(TEXTS, LABELS)
        prompt = classifier.get_prompt("x")
        assert "positive: They like it." in prompt
        assert "negative: They do not." in prompt
        assert classifier.classes_.tolist() == ["negative", "positive"]


def test_label_order_alone_makes_seeds_differ(make_prompting):
    options = {"n_shots": 0, "n_seeds": 6, "label_order": "random", "random_state": 0}
    classifier = make_prompting(**options).fit(TEXTS, LABELS)
    assert len({member.prompt_.instruction for member in classifier.estimators_}) == 2


@pytest.mark.parametrize("n_shots", [0, 4], ids=["no shots", "shots"])
def test_cyclic_orders_are_the_mean_of_classifiers_with_each_order(n_shots, make_prompting):
    """The slow twin fits one classifier with each order, and averages their probabilities."""
    texts, labels = [*TEXTS, "so so", "fair"], [*LABELS, "mixed", "mixed"]
    options = {"n_shots": n_shots, "calibration": None}
    averaged = make_prompting(n_seeds=3, label_order="cyclic", random_state=0, **options)
    averaged.fit(texts, labels)
    orders = (
        ["mixed", "negative", "positive"],
        ["negative", "positive", "mixed"],
        ["positive", "mixed", "negative"],
    )
    twins = [
        make_prompting(label_order=order, random_state=seed, **options).fit(texts, labels)
        for order, seed in zip(orders, averaged.labeller_.seeds, strict=True)
    ]
    for order, twin, member in zip(orders, twins, averaged.estimators_, strict=True):
        assert f"labels: {', '.join(order)}." in twin.prompt_.instruction
        assert member.label_order == order
        np.testing.assert_allclose(
            member.predict_log_proba(UNSEEN), twin.predict_log_proba(UNSEEN), atol=1e-5
        )
    mean = np.mean([twin.predict_log_proba(UNSEEN) for twin in twins], axis=0)
    expected = mean - np.logaddexp.reduce(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(averaged.predict_log_proba(UNSEEN), expected, atol=1e-5)
    np.testing.assert_allclose(averaged.predict_proba(UNSEEN).sum(axis=1), 1)


def test_a_tuned_classifier_takes_cyclic_orders(make_tuning):
    tuned = make_tuning(n_seeds=2, label_order="cyclic", max_epochs=1).fit(TEXTS, LABELS)
    stated = [member.prompt_.instruction for member in tuned.estimators_]
    assert "labels: negative, positive." in stated[0]
    assert "labels: positive, negative." in stated[1]


def test_a_list_states_the_labels_as_given(make_classifier):
    classifier = make_classifier(label_order=list(np.array(["positive", "negative"])))
    classifier.fit(TEXTS, LABELS)
    assert "labels: positive, negative." in classifier.prompt_.instruction
    assert classifier.classes_.tolist() == ["negative", "positive"]


@pytest.mark.parametrize("order", [["negative"], ["negative", "Positive"], ["negative"] * 2])
def test_a_list_must_name_each_label_once(order, make_prompting):
    with pytest.raises(InvalidLabelsError, match="must name each label once. The labels are"):
        make_prompting(label_order=order).fit(TEXTS, LABELS)


def test_one_seed_has_no_cycle(make_classifier):
    with pytest.raises(InvalidParameterError, match="Set n_seeds to the number of labels, here 2"):
        make_classifier(label_order="cyclic").fit(TEXTS, LABELS)


# One adapter for all seeds


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_one_adapter_scores_like_the_mean_of_the_updates_merged_by_hand(architecture, tokenizer):
    model = make_model(architecture)
    options = {**DRAWN, **ONE_ADAPTER, "max_epochs": 2, "learning_rate": 0.01}
    classifier = InstructionTunedClassifier((model, tokenizer)).set_params(**options)
    classifier.fit(TEXTS, LABELS)
    scores = classifier.label_log_likelihood(UNSEEN)
    merged = make_model(architecture)
    _add_updates(merged, [member.adapter_ for member in classifier.estimators_], scale=2)
    alone = InstructionTunedClassifier(
        (merged, tokenizer), learning_rate=1e-30, max_epochs=1, calibration=None
    )
    expected = alone.fit(TEXTS, LABELS).label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)


def _add_updates(model, adapters, scale):
    for name in [name for name in adapters[0] if "lora_A" in name]:
        path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        layer, other = model.get_submodule(path), name.replace("lora_A", "lora_B")
        update = torch.stack([scale * a[other] @ a[name] for a in adapters]).mean(dim=0)
        with torch.no_grad():
            layer.weight += update.T if isinstance(layer, Conv1D) else update  # stored transposed


def test_one_adapter_for_all_seeds_is_calibrated_and_pickled(make_tuning):
    options = {**DRAWN, **ONE_ADAPTER}
    classifier = make_tuning(**options).fit(TEXTS, LABELS)
    assert classifier.get_prompt("x") == classifier.estimators_[0].get_prompt("x")
    scores = classifier.label_log_likelihood(UNSEEN)
    expected = classifier.calibration_.log_probabilities(scores)
    np.testing.assert_allclose(classifier.predict_log_proba(UNSEEN), expected, rtol=1e-5)
    restored = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_allclose(restored.label_log_likelihood(UNSEEN), scores, atol=1e-6)


@pytest.mark.parametrize("order", ["random", "cyclic"])
def test_one_adapter_cannot_answer_prompts_with_several_label_orders(order, make_tuning):
    classifier = make_tuning(n_seeds=2, **ONE_ADAPTER, label_order=order)
    with pytest.raises(
        InvalidParameterError, match=r"Set label_order='sorted' or seed_average='log_proba'"
    ):
        classifier.fit(TEXTS, LABELS)


def test_several_adapters_cannot_start_warm_from_one(make_tuning):
    with pytest.raises(
        InvalidParameterError, match=r"n_seeds=2 makes several. Set n_seeds=1 or warm_start"
    ):
        make_tuning(n_seeds=2, training_options__warm_start=True).fit(TEXTS, LABELS)


def test_a_warm_start_continues_from_the_average_adapter(make_tuning):
    options = {**DRAWN, **ONE_ADAPTER}
    classifier = make_tuning(**options).fit(TEXTS, LABELS)
    rank = DRAWN["n_seeds"] * classifier.adapter.rank
    before = {name: tensor.clone() for name, tensor in classifier.adapter_.items()}
    warm = {"training_options__warm_start": True, "learning_rate": 1e-9}
    classifier.set_params(n_seeds=1, adapter__rank=rank, **warm)
    classifier.fit(TEXTS, LABELS)
    for name, tensor in classifier.adapter_.items():
        torch.testing.assert_close(tensor, before[name], rtol=1e-4, atol=1e-6)


def test_only_lora_adapters_are_averaged(make_tuning):
    options = {"adapter": IA3Config(), **ONE_ADAPTER}
    with pytest.raises(InvalidParameterError, match="plain LoRA, whose updates have an exact mean"):
        make_tuning(n_seeds=2, **options).fit(TEXTS, LABELS)


def test_rows_have_the_same_weights_under_every_seed(make_tuning):
    weights = np.linspace(0, 1, len(TEXTS))
    options = {"n_seeds": 2, "n_shots": None, "random_state": 0}
    classifier = make_tuning(**options).fit(TEXTS, LABELS, sample_weight=weights)
    for member in classifier.estimators_:
        alone = clone(member).fit(TEXTS, LABELS, sample_weight=weights)
        assert alone.loss_curve_ == member.loss_curve_
    assert 0 not in classifier.shots_


def test_shots_per_text_do_not_depend_on_the_seed(make_prompting):
    with pytest.raises(InvalidShotsError, match="sampler='knn' leaves nothing to draw"):
        make_prompting(sampler="knn", n_seeds=2).fit(TEXTS, LABELS)
    options = {"sampler": "knn", "n_seeds": 2, "label_order": "random"}
    classifier = make_prompting(**options).fit(TEXTS, LABELS)
    assert classifier.predict(UNSEEN).shape == (4,)
    with pytest.raises(AttributeError, match="has a prompt of its own"):
        classifier.shots_for(UNSEEN)


def test_rows_without_weight_do_not_calibrate_the_adapter_of_seeds(make_tuning):
    weights = np.ones(len(TEXTS))
    weights[[0, 3, 9]] = 0
    counted = np.flatnonzero(weights)
    options = {"n_shots": 4, "n_seeds": 2, "random_state": 0, **ONE_ADAPTER}
    weighted = make_tuning(**options).fit(TEXTS, LABELS, sample_weight=weights)
    fewer = make_tuning(**options).fit([TEXTS[i] for i in counted], [LABELS[i] for i in counted])
    np.testing.assert_array_equal(weighted.calibration_.bias, fewer.calibration_.bias)
    np.testing.assert_array_equal(weighted.shots_, counted[fewer.shots_])
