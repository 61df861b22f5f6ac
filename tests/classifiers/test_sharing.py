"""Clones share a model, and pickles do not contain it."""

from __future__ import annotations

import gc
import io
import pickle
import shutil

import joblib
import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils import get_tags

from instructclf import InstructionTunedClassifier, PromptClassifier, clear_models
from instructclf.engine.models.registry import get_base_model
from tests.fixtures import LABELS, TEXTS, make_model

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")


# Parameters


def test_a_constructor_only_assigns():
    """Invalid values are kept unchanged and unchecked."""
    nonsense = object()
    for kind in (PromptClassifier, InstructionTunedClassifier):
        names = [name for name in kind().get_params() if "__" not in name]
        classifier = kind(**dict.fromkeys(names, nonsense))
        assert vars(classifier) == dict.fromkeys(names, nonsense)


def test_fit_changes_no_parameter(make_classifier):
    classifier = make_classifier(label_definitions={"positive": "P.", "negative": "N."})
    before = classifier.get_params()
    copies = {name: repr(value) for name, value in before.items()}
    after = classifier.fit(TEXTS, LABELS).get_params()
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert {name: repr(value) for name, value in after.items()} == copies


def test_a_clone_has_equal_parameters_and_is_not_fitted(make_classifier):
    classifier = make_classifier(verbalizer={"positive": "good", "negative": "bad"})
    copy = clone(classifier.fit(TEXTS, LABELS))
    assert repr(copy.get_params()) == repr(classifier.get_params())
    assert not [name for name in vars(copy) if name.endswith("_")]
    with pytest.raises(NotFittedError, match="not fitted yet"):
        copy.label_log_likelihood(TEXTS)
    np.testing.assert_array_equal(
        copy.fit(TEXTS, LABELS).predict_proba(TEXTS), classifier.predict_proba(TEXTS)
    )


def test_parameters_can_be_set(make_classifier):
    classifier = make_classifier().set_params(n_shots=6, instruction="Good?")
    assert len(classifier.fit(TEXTS, LABELS).shots_) == 6
    assert "Good?" in classifier.get_prompt("x")
    with pytest.raises(ValueError, match="Invalid parameter 'n_shot' for estimator"):
        classifier.set_params(n_shot=6)


def test_it_is_a_classifier_of_strings(make_classifier):
    classifier = make_classifier()
    assert is_classifier(classifier)
    tags = get_tags(classifier)
    assert tags.input_tags.string
    assert tags.input_tags.one_d_array
    assert not tags.input_tags.two_d_array
    assert not tags.input_tags.sparse
    assert tags.target_tags.required
    assert tags.classifier_tags.multi_class
    assert not tags.classifier_tags.multi_label


def test_there_is_no_decision_function(make_classifier):
    """A decision function with a column for each of two classes breaks scikit-learn's scorers."""
    assert not hasattr(make_classifier(), "decision_function")


def test_representations_are_short(make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    assert len(repr(classifier)) < 1500
    assert "tensor(" not in repr(classifier)
    assert len(classifier._repr_html_()) < 100_000


# Objects


def test_clones_share_a_model_given_as_objects(make_classifier, model, tokenizer):
    pair = (model, tokenizer)
    classifier = make_classifier().set_params(model=pair).fit(TEXTS, LABELS)
    copy = clone(classifier)
    assert copy.model is pair
    assert clone([copy, classifier])[0].model[0] is model
    np.testing.assert_array_equal(
        copy.fit(TEXTS, LABELS).predict_proba(TEXTS), classifier.predict_proba(TEXTS)
    )


def test_a_folder_and_its_loaded_objects_give_equal_predictions(make_classifier, model, tokenizer):
    by_name = make_classifier().fit(TEXTS, LABELS)
    by_object = make_classifier().set_params(model=(model, tokenizer)).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(by_object.predict_proba(TEXTS), by_name.predict_proba(TEXTS))


def test_a_model_in_training_mode_is_read_in_evaluation_mode(make_prompting, tokenizer):
    model = make_model("gpt2", attn_pdrop=0.5, embd_pdrop=0.5).train()
    classifier = make_prompting().set_params(model=(model, tokenizer)).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert model.training


@pytest.mark.parametrize("fitted", [True, False])
def test_objects_are_not_pickled(fitted, make_classifier, model, tokenizer):
    classifier = make_classifier().set_params(model=(model, tokenizer))
    if fitted:
        classifier.fit(TEXTS, LABELS)
    match = "whose 'model' is a pair .* cannot be pickled: .* Save the model to a folder and give i"
    with pytest.raises(pickle.PicklingError, match=match):
        pickle.dumps(classifier)


# Pickles


def pickled(classifier):
    return pickle.loads(pickle.dumps(classifier))


def joblibbed(classifier):
    stream = io.BytesIO()
    joblib.dump(classifier, stream)
    stream.seek(0)
    return joblib.load(stream)


@pytest.mark.parametrize("trip", [pickled, joblibbed])
def test_a_round_trip_keeps_predictions(trip, make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    restored = trip(classifier)
    expected = classifier.predict_proba(["good", "bad", ""])
    np.testing.assert_array_equal(restored.predict_proba(["good", "bad", ""]), expected)
    np.testing.assert_array_equal(restored.classes_, classifier.classes_)
    assert restored.get_prompt("x") == classifier.get_prompt("x")
    np.testing.assert_array_equal(trip(restored).predict_proba(["good", "bad", ""]), expected)


def test_an_unfitted_classifier_can_be_pickled(make_classifier):
    restored = pickled(make_classifier())
    assert repr(restored.get_params()) == repr(make_classifier().get_params())


def test_a_pickle_holds_no_base_weights(make_prompting, make_tuning, model):
    n_bytes = 4 * sum(weight.numel() for weight in model.parameters())
    assert len(pickle.dumps(make_prompting().fit(TEXTS, LABELS))) < 5_000 < n_bytes
    classifier = make_tuning(adapter__rank=1).fit(TEXTS, LABELS)
    adapter = 4 * sum(weight.numel() for weight in classifier.adapter_.values())
    classifier.predict(TEXTS)
    assert len(pickle.dumps(classifier)) < adapter + 20_000 < n_bytes


def test_a_classifier_in_4_bits_is_cloned_and_pickled(make_classifier, fresh_folder, n_loads):
    pytest.importorskip("bitsandbytes", reason="4 bits take the quantization extra")
    options = {"model_options__quantization": "4bit", "model": fresh_folder, "n_shots": 4}
    classifier = make_classifier(**options)
    search = GridSearchCV(classifier, {"calibration": [None, "auto"]}, cv=2).fit(TEXTS, LABELS)
    expected = search.best_estimator_.predict_proba(TEXTS)
    again = clone(search.best_estimator_).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), expected)
    np.testing.assert_array_equal(pickled(again).predict_proba(TEXTS), expected)
    assert n_loads() == 1
    full = make_classifier().fit(TEXTS, LABELS)
    assert len(pickle.dumps(again)) < len(pickle.dumps(full)) + 500
    assert not np.allclose(full.predict_proba(TEXTS), expected, atol=1e-3)


def test_predictions_do_not_change_the_pickle(make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    before = len(pickle.dumps(classifier))
    classifier.predict(TEXTS)
    assert len(pickle.dumps(classifier)) == before


# The registry


def test_many_classifiers_load_one_model(make_classifier, fresh_folder, n_loads):
    for seed in range(3):
        classifier = make_classifier(random_state=seed).set_params(model=fresh_folder)
        clone(classifier.fit(TEXTS, LABELS)).fit(TEXTS, LABELS)
        pickled(classifier).predict(TEXTS)
    assert n_loads() == 1


def test_a_model_that_a_fitted_classifier_holds_is_found_again(
    make_classifier, fresh_folder, tmp_path, n_loads
):
    classifier = make_classifier().set_params(model=fresh_folder).fit(TEXTS, LABELS)
    others = [str(shutil.copytree(fresh_folder, tmp_path / f"other-{n}")) for n in range(2)]
    for other in others:  # of which the registry keeps the last two
        get_base_model(other)
    gc.collect()
    make_classifier().set_params(model=fresh_folder).fit(TEXTS, LABELS)
    assert n_loads() == 1 + len(others)
    classifier.predict(TEXTS)


def test_after_clear_models_the_next_fit_loads_anew_and_a_fitted_classifier_goes_on(
    make_classifier, fresh_folder, n_loads
):
    classifier = make_classifier().set_params(model=fresh_folder).fit(TEXTS, LABELS)
    before = classifier.predict_proba(TEXTS)
    clear_models()
    make_classifier().set_params(model=fresh_folder).fit(TEXTS, LABELS)
    assert n_loads() == 2
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS), before)
