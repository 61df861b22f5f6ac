"""Inside scikit-learn's meta-estimators, over texts, beside its own classifiers."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import FunctionTransformer, Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from instructclf.exceptions import InvalidLabelsError, MissingClassWarning
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)
ENCODED = {0: "negative", 1: "positive"}
"""Some meta-estimators number the labels before their members see them, so words go by number."""
DEFINITIONS = {"positive": "They like it.", "negative": "They do not.", "other": "Neither."}


def strip(texts):
    return [text.strip() for text in texts]


def test_a_pipeline_ends_with_it(make_classifier):
    padded = [f"  {text}\n" for text in TEXTS]
    pipeline = make_pipeline(FunctionTransformer(strip), make_classifier()).fit(padded, LABELS)
    expected = make_classifier().fit(TEXTS, LABELS).predict_proba(TEXTS)
    np.testing.assert_array_equal(pipeline.predict_proba(padded), expected)
    assert pipeline.classes_.tolist() == ["negative", "positive"]
    restored = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(restored.predict_proba(padded), expected)


def test_a_column_of_a_frame_is_selected_by_a_pipeline(make_prompting):
    frame = pd.DataFrame({"id": range(16), "text": TEXTS}, index=range(16, 0, -1))
    select = FunctionTransformer(lambda own: own["text"])
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


def test_a_search_reaches_every_parameter(make_prompting):
    grid = {
        "classifier__template": ["alpaca", "alpaca_short"],
        "classifier__instruction": [None, "Good or bad?"],
        "classifier__calibration": [None, "auto"],
    }
    pipeline = Pipeline([("classifier", make_prompting())])
    search = GridSearchCV(pipeline, grid, cv=FOLDS, scoring="neg_log_loss").fit(TEXTS, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_search_compares_it_with_other_classifiers(make_prompting):
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


def test_folds_with_one_model_do_not_reach_each_other(make_tuning):
    result = cross_validate(make_tuning(), TEXTS, LABELS, cv=FOLDS, return_estimator=True)
    later = [one.predict_proba(TEXTS) for one in result["estimator"]]
    for (train, _), probabilities in zip(FOLDS.split(TEXTS, LABELS), later, strict=True):
        alone = make_tuning().fit([TEXTS[i] for i in train], [LABELS[i] for i in train])
        np.testing.assert_array_equal(alone.predict_proba(TEXTS), probabilities)


def test_a_fold_without_a_defined_label_knows_it_still(make_prompting):
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
    assert [own.shape[1] for own in probabilities] == [3, 3]


def test_a_learning_curve(make_prompting):
    _, _, scores = learning_curve(
        make_prompting(n_shots=2), TEXTS, LABELS, cv=FOLDS, train_sizes=[6, 10], shuffle=True
    )
    assert scores.shape == (2, 3)


def test_votes_beside_a_support_vector_machine(make_classifier):
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
    with pytest.raises(InvalidLabelsError, match=match):
        voting.fit(TEXTS, LABELS)
    voting.set_params(llm__label_definitions={1: "P.", 0: "N."}, llm__verbalizer=ENCODED)
    assert set(voting.fit(TEXTS, LABELS).predict(TEXTS)) <= set(LABELS)


def test_probabilities_are_averaged_beside_a_logistic_regression(make_classifier):
    linear = make_pipeline(TfidfVectorizer(), LogisticRegression())
    members = [("linear", linear), ("llm", make_classifier())]
    voting = VotingClassifier(members, voting="soft").fit(TEXTS, LABELS)
    expected = np.mean([one.predict_proba(TEXTS) for one in voting.estimators_], axis=0)
    np.testing.assert_allclose(voting.predict_proba(TEXTS), expected)


def test_its_probabilities_are_stacked(make_prompting):
    members = [("llm", make_prompting()), ("svm", make_pipeline(TfidfVectorizer(), LinearSVC()))]
    stacking = StackingClassifier(members, LogisticRegression(), cv=FOLDS).fit(TEXTS, LABELS)
    assert stacking.score(TEXTS, LABELS) == 1.0


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_frozen_one_is_calibrated_by_scikit_learn(method, make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    calibrated = CalibratedClassifierCV(FrozenEstimator(classifier), method=method, cv=FOLDS)
    probabilities = calibrated.fit(TEXTS, LABELS).predict_proba(TEXTS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert calibrated.classes_.tolist() == ["negative", "positive"]
