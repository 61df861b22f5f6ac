"""Classifiers inside scikit-learn's meta-estimators, next to its own classifiers."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  (makes it importable)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import FunctionTransformer, Pipeline, make_pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import LinearSVC

from instructclf.exceptions import InvalidLabelsError, MissingClassWarning, NumberedLabelsWarning
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)
ENCODED = {0: "negative", 1: "positive"}
"""Label words by number, since some meta-estimators number the labels for their members."""
DEFINITIONS = {"positive": "They like it.", "negative": "They do not.", "other": "Neither."}


def strip(texts):
    return [text.strip() for text in texts]


def test_a_pipeline_may_end_with_a_classifier(make_classifier):
    padded = [f"  {text}\n" for text in TEXTS]
    pipeline = make_pipeline(FunctionTransformer(strip), make_classifier()).fit(padded, LABELS)
    expected = make_classifier().fit(TEXTS, LABELS).predict_proba(TEXTS)
    np.testing.assert_array_equal(pipeline.predict_proba(padded), expected)
    assert pipeline.classes_.tolist() == ["negative", "positive"]
    restored = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(restored.predict_proba(padded), expected)


def test_a_column_of_a_frame_is_selected_by_a_pipeline(make_prompting):
    frame = pd.DataFrame({"id": range(16), "text": TEXTS}, index=range(16, 0, -1))
    select = FunctionTransformer(lambda rows: rows["text"])
    pipeline = make_pipeline(select, make_prompting()).fit(frame, LABELS)
    expected = make_prompting().fit(TEXTS, LABELS).predict(TEXTS)
    np.testing.assert_array_equal(pipeline.predict(frame), expected)


def test_a_search_of_two_candidates_and_three_folds_loads_the_model_once(
    make_classifier, fresh_folder, n_loads
):
    grid = {"n_shots": [2, 4]}
    search = GridSearchCV(make_classifier().set_params(model=fresh_folder), grid, cv=FOLDS)
    search.fit(TEXTS, LABELS)
    assert n_loads() == 1
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.best_estimator_.shots_) == search.best_params_["n_shots"]
    search.predict_proba(TEXTS)
    assert n_loads() == 1


def test_a_search_reaches_parameters_and_nested_parameters(make_prompting):
    grid = {
        "classifier__model_options__max_length": [500],
        "classifier__template": ["alpaca", "alpaca_short"],
        "classifier__instruction": [None, "Good or bad?"],
        "classifier__calibration": [None, "auto"],
    }
    pipeline = Pipeline([("classifier", make_prompting())])
    search = GridSearchCV(pipeline, grid, cv=FOLDS, scoring="neg_log_loss").fit(TEXTS, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_search_compares_classifiers(make_prompting):
    grid = {"classifier": [make_prompting(), make_pipeline(TfidfVectorizer(), LinearSVC())]}
    pipeline = Pipeline([("classifier", make_prompting())])
    search = GridSearchCV(pipeline, grid, cv=FOLDS).fit(TEXTS, LABELS)
    assert search.cv_results_["mean_test_score"][1] == 1.0


def test_worker_processes_load_the_model_themselves(make_prompting):
    classifier = make_prompting()
    expected = cross_val_score(classifier, TEXTS, LABELS, cv=FOLDS)
    actual = cross_val_score(classifier, TEXTS, LABELS, cv=FOLDS, n_jobs=2)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "roc_auc", "f1_macro"])
def test_cross_validation_with_any_scorer(scoring, make_classifier):
    scores = cross_val_score(make_classifier(), TEXTS, LABELS, cv=FOLDS, scoring=scoring)
    assert np.isfinite(scores).all()


def test_cross_validated_probabilities(make_classifier):
    classifier = make_classifier(calibration=None, verbalizer=ENCODED)
    actual = cross_val_predict(classifier, TEXTS, LABELS, cv=FOLDS, method="predict_proba")
    for train, test in FOLDS.split(TEXTS, LABELS):
        labels = [int(LABELS[i] == "positive") for i in train]
        fold = clone(classifier).fit([TEXTS[i] for i in train], labels)
        expected = fold.predict_proba([TEXTS[i] for i in test])
        np.testing.assert_allclose(actual[test], expected, rtol=0, atol=1e-6)


def test_folds_on_one_model_do_not_affect_each_other(make_tuning):
    result = cross_validate(make_tuning(), TEXTS, LABELS, cv=FOLDS, return_estimator=True)
    later = [one.predict_proba(TEXTS) for one in result["estimator"]]
    for (train, _), probabilities in zip(FOLDS.split(TEXTS, LABELS), later, strict=True):
        alone = make_tuning().fit([TEXTS[i] for i in train], [LABELS[i] for i in train])
        np.testing.assert_array_equal(alone.predict_proba(TEXTS), probabilities)


def test_a_fold_that_lacks_a_defined_label_still_knows_it(make_prompting):
    """Without definitions scikit-learn cannot score such folds by their probabilities."""
    labels = ["positive"] * 8 + ["negative"] * 7 + ["other"]
    classifier = make_prompting(label_definitions=DEFINITIONS, calibration=None)
    folds = [(list(range(15)), [15, 0]), (list(range(1, 16)), [0])]
    with pytest.warns(MissingClassWarning, match=r"names \['other'\], of which y has no row"):
        probabilities = [
            clone(classifier)
            .fit([TEXTS[i] for i in train], [labels[i] for i in train])
            .predict_proba([TEXTS[i] for i in test])
            for train, test in folds
        ]
    assert [columns.shape[1] for columns in probabilities] == [3, 3]


def test_a_learning_curve(make_prompting):
    _, _, scores = learning_curve(
        make_prompting(n_shots=2), TEXTS, LABELS, cv=FOLDS, train_sizes=[6, 10], shuffle=True
    )
    assert scores.shape == (2, 3)


def test_votes_with_a_support_vector_machine(make_classifier):
    svm = make_pipeline(TfidfVectorizer(), LinearSVC())
    members = [
        ("svm", svm),
        ("llm", make_classifier(verbalizer=ENCODED)),
        ("again", make_classifier(verbalizer=ENCODED, n_shots=2)),
    ]
    voting = VotingClassifier(members, voting="hard").fit(TEXTS, LABELS)
    votes = voting.transform(TEXTS)
    np.testing.assert_array_equal(votes[:, 1], voting.named_estimators_["llm"].predict(TEXTS))
    expected = np.array(["negative", "positive"])[(votes.sum(axis=1) > 1).astype(int)]
    np.testing.assert_array_equal(voting.predict(TEXTS), expected)
    assert voting.named_estimators_["llm"].label_words_ == (("negative",), ("positive",))


def test_labels_that_a_meta_estimator_numbered_need_definitions_by_number(make_prompting):
    member = make_prompting(label_definitions={"positive": "P.", "negative": "N."})
    voting = VotingClassifier([("llm", member)])
    match = r"says nothing about \[0, 1\], .* It defines \['negative', 'positive'\]"
    with pytest.raises(InvalidLabelsError, match=match) as caught:
        voting.fit(TEXTS, LABELS)
    assert "and in verbalizer={0: 'negative', 1: 'positive'}" in str(caught.value)
    voting.set_params(llm__label_definitions={1: "P.", 0: "N."}, llm__verbalizer=ENCODED)
    assert set(voting.fit(TEXTS, LABELS).predict(TEXTS)) <= set(LABELS)


def test_probabilities_are_averaged_with_a_logistic_regression(make_classifier):
    linear = make_pipeline(TfidfVectorizer(), LogisticRegression())
    members = [("linear", linear), ("llm", make_classifier())]
    voting = VotingClassifier(members, voting="soft")
    with pytest.warns(NumberedLabelsWarning, match="VotingClassifier.* number labels"):
        voting.fit(TEXTS, LABELS)
    expected = np.mean([one.predict_proba(TEXTS) for one in voting.estimators_], axis=0)
    np.testing.assert_allclose(voting.predict_proba(TEXTS), expected, rtol=1e-5)


def test_probabilities_are_stacked(make_prompting):
    members = [("llm", make_prompting()), ("svm", make_pipeline(TfidfVectorizer(), LinearSVC()))]
    stacking = StackingClassifier(members, LogisticRegression(), cv=FOLDS)
    with pytest.warns(NumberedLabelsWarning, match="The labels are numbers, 0, 1"):
        stacking.fit(TEXTS, LABELS)
    assert stacking.score(TEXTS, LABELS) == 1.0


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_frozen_classifier_is_calibrated_by_scikit_learn(method, make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    calibrated = CalibratedClassifierCV(FrozenEstimator(classifier), method=method, cv=FOLDS)
    probabilities = calibrated.fit(TEXTS, LABELS).predict_proba(TEXTS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert calibrated.classes_.tolist() == ["negative", "positive"]


# Searches with a growing budget


def test_a_randomised_search(make_prompting):
    grid = {"n_shots": [2, 4], "template": ["alpaca", "alpaca_short"]}
    search = RandomizedSearchCV(make_prompting(), grid, n_iter=2, cv=FOLDS, random_state=0)
    assert np.isfinite(search.fit(TEXTS, LABELS).cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("resource", "amounts"), [("n_samples", [8, 16]), ("n_shots", [2, 4])], ids=["rows", "shots"]
)
def test_a_halving_search_may_increase_rows_or_shots(resource, amounts, make_prompting):
    search = HalvingGridSearchCV(
        make_prompting(n_shots=2, calibration=None),
        {"template": ["alpaca", "alpaca_short"]},
        cv=2,
        factor=2,
        resource=resource,
        min_resources=amounts[0],
        max_resources=amounts[1],
        random_state=0,
    ).fit(TEXTS, LABELS)
    assert search.n_resources_ == amounts
    assert search.n_candidates_ == [2, 1]


# Members that are already fitted keep their labels


def test_fitted_members_are_stacked_with_their_labels_and_definitions(make_prompting):
    definitions = {"positive": "They like it.", "negative": "They do not."}
    member = make_prompting(label_definitions=definitions).fit(TEXTS, LABELS)
    stacking = StackingClassifier([("llm", member)], LogisticRegression(), cv="prefit")
    stacking.fit(TEXTS, LABELS)
    assert set(stacking.predict(TEXTS)) <= set(LABELS)
    np.testing.assert_array_equal(
        stacking.transform(TEXTS)[:, 0], member.predict_proba(TEXTS)[:, 1]
    )


def test_frozen_members_vote_softly_with_their_labels_and_definitions(make_prompting):
    definitions = {"positive": "They like it.", "negative": "They do not."}
    members = [
        (f"llm{n}", FrozenEstimator(make_prompting(n_shots=n, label_definitions=definitions)))
        for n in (2, 4)
    ]
    for _, member in members:
        member.estimator.fit(TEXTS, LABELS)
    voting = VotingClassifier(members, voting="soft")
    voting.fit(TEXTS, LABELS)
    expected = np.mean([one.predict_proba(TEXTS) for _, one in members], axis=0)
    np.testing.assert_allclose(voting.predict_proba(TEXTS), expected, rtol=1e-5)
    assert set(voting.predict(TEXTS)) <= set(LABELS)


# Meta-estimators for columns

COLUMN = np.array(TEXTS, dtype=object).reshape(-1, 1)


def test_bags_of_rows_are_drawn_from_a_column(make_prompting):
    bagging = BaggingClassifier(make_prompting(n_shots=2, verbalizer=ENCODED), n_estimators=2)
    bagging.set_params(random_state=0).fit(COLUMN, LABELS)
    expected = np.mean([one.predict_proba(TEXTS) for one in bagging.estimators_], axis=0)
    np.testing.assert_allclose(bagging.predict_proba(COLUMN), expected, rtol=1e-5)
    assert set(bagging.predict(COLUMN)) <= set(LABELS)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
        bagging.fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    ("make", "n_outputs"),
    [(SelfTrainingClassifier, 1), (ClassifierChain, 2)],
    ids=["SelfTrainingClassifier", "ClassifierChain"],
)
def test_meta_estimators_that_convert_to_numbers_take_no_texts(make, n_outputs, make_prompting):
    codes = np.array([[int(label == "positive")] * n_outputs for label in LABELS])
    with pytest.raises(ValueError, match="could not convert string to float: 'good thing 0'"):
        make(make_prompting()).fit(COLUMN, codes.squeeze())


def test_self_training_works_over_row_numbers(make_prompting):
    """The meta-estimator takes numbers, and a pipeline looks up the texts."""

    def look_up(rows):
        return [TEXTS[row] for row in np.asarray(rows).ravel()]

    labels = np.array([int(label == "positive") for label in LABELS])
    labels[[3, 4, 5, 12, 13]] = -1
    llm = make_pipeline(FunctionTransformer(look_up), make_prompting(verbalizer=ENCODED))
    rows = np.arange(16).reshape(-1, 1)
    training = SelfTrainingClassifier(llm, threshold=0.5).fit(rows, labels)
    assert (training.transduction_ != -1).all()
    assert set(training.predict(rows)) <= {0, 1}


# Decisions


def test_a_threshold_is_set(make_prompting):
    fixed = FixedThresholdClassifier(make_prompting(), threshold=0.3, pos_label="positive")
    fixed.fit(TEXTS, LABELS)
    expected = np.where(fixed.predict_proba(TEXTS)[:, 1] >= 0.3, "positive", "negative")
    np.testing.assert_array_equal(fixed.predict(TEXTS), expected)


def test_a_threshold_is_tuned(make_prompting):
    tuned = TunedThresholdClassifierCV(make_prompting(), cv=FOLDS, thresholds=9)
    assert 0 <= tuned.fit(TEXTS, LABELS).best_threshold_ <= 1
    assert set(tuned.predict(TEXTS)) <= set(LABELS)


def test_a_classifier_is_calibrated_by_scikit_learn_over_folds(make_prompting):
    calibrated = CalibratedClassifierCV(make_prompting(), cv=FOLDS).fit(TEXTS, LABELS)
    np.testing.assert_allclose(calibrated.predict_proba(TEXTS).sum(axis=1), 1)


# Several classifiers for several labels


def test_one_against_the_rest_shows_no_and_yes_in_place_of_the_label(make_prompting):
    labels = ["a"] * 5 + ["b"] * 5 + ["c"] * 6
    words = {0: "no", 1: "yes"}
    several = OneVsRestClassifier(make_prompting(n_shots=2, verbalizer=words)).fit(TEXTS, labels)
    assert [one.classes_.tolist() for one in several.estimators_] == [[0, 1]] * 3
    assert {one.prompt_.instruction for one in several.estimators_} == {
        "Classify the input. Answer with exactly one of these labels: no, yes."
    }
    assert several.classes_.tolist() == make_prompting().fit(TEXTS, labels).classes_.tolist()
    assert set(several.predict(TEXTS)) <= set(labels)


def test_one_against_one_takes_no_texts(make_prompting):
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
        OneVsOneClassifier(make_prompting()).fit(TEXTS, LABELS)


def test_several_outputs_keep_their_labels(make_prompting):
    outputs = np.column_stack([LABELS, ["short", "long"] * 8])
    several = MultiOutputClassifier(make_prompting(n_shots=2)).fit(TEXTS, outputs)
    words = [one.label_words_ for one in several.estimators_]
    assert words == [(("negative",), ("positive",)), (("long",), ("short",))]
    for column, one in enumerate(several.estimators_):
        np.testing.assert_array_equal(several.predict(TEXTS)[:, column], one.predict(TEXTS))


# Metadata


def test_weights_are_routed_to_fit_on_request(make_tuning):
    weights = np.array([1.0, 0.0] * 8)
    with config_context(enable_metadata_routing=True):
        tuning = make_tuning(n_shots=None, max_epochs=1)
        folds = StratifiedKFold(2)
        with pytest.raises(UnsetMetadataPassedError, match="not explicitly set as requested"):
            GridSearchCV(tuning, {"max_epochs": [1]}, cv=folds).fit(
                TEXTS, LABELS, sample_weight=weights
            )
        tuning.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(tuning, {"max_epochs": [1]}, cv=folds)
        search.fit(TEXTS, LABELS, sample_weight=weights)
    np.testing.assert_array_equal(search.best_estimator_.shots_, np.arange(0, 16, 2))


def test_prompting_takes_weights_for_the_score_alone(make_prompting):
    weights = np.linspace(1, 2, 16)
    with config_context(enable_metadata_routing=True):
        assert not hasattr(make_prompting(), "set_fit_request")
        prompting = make_prompting().set_score_request(sample_weight=True)
        scores = cross_val_score(
            prompting, TEXTS, LABELS, cv=FOLDS, params={"sample_weight": weights}
        )
    for (train, test), score in zip(FOLDS.split(TEXTS, LABELS), scores, strict=True):
        fold = make_prompting().fit([TEXTS[i] for i in train], [LABELS[i] for i in train])
        X, y = [TEXTS[i] for i in test], [LABELS[i] for i in test]
        assert score == pytest.approx(fold.score(X, y, sample_weight=weights[test]))
