"""Hidden states as features: the prompt of a classifier, with heads of scikit-learn on top."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import PromptFeatures
from instructclf.engine.models.registry import clear_base_models
from instructclf.exceptions import (
    InvalidLabelsError,
    InvalidTemplateError,
    InvalidTextsError,
    PromptTooLongError,
)
from tests.fixtures import LABELS, TEXTS

CLASSES = ["negative", "positive"]
DEFINITIONS = {"positive": "They like it.", "negative": "They do not."}


@pytest.fixture
def make_features(model_folder):
    """Return a function that makes features of the random Llama."""
    return lambda **changes: PromptFeatures(model_folder, labels=CLASSES).set_params(**changes)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_definitions": DEFINITIONS},
        {"verbalizer": {"positive": ["good", "fine"], "negative": "bad"}},
        {"instruction": "Does the writer like it?", "template": "alpaca_short"},
    ],
    ids=["labels", "definitions", "words", "instruction"],
)
def test_the_prompt_is_that_of_a_classifier_without_shots(options, make_features, make_prompting):
    features = make_features(**options).fit()
    classifier = make_prompting(n_shots=0, calibration=None, **options).fit(TEXTS, LABELS)
    assert features.prompt_ == classifier.prompt_
    assert features.get_prompt("fine") == classifier.get_prompt("fine")
    assert str(features.show_prompt("fine")) == str(classifier.show_prompt("fine"))


def test_the_output_layer_turns_features_into_the_scores_of_a_classifier(
    make_features, make_prompting, model
):
    """Labels of one token each are scored at the position whose state is the feature."""
    words = {"positive": "1", "negative": "0"}
    features = make_features(verbalizer=words).fit()
    classifier = make_prompting(n_shots=0, calibration=None, verbalizer=words).fit(TEXTS, LABELS)
    weight = model.get_output_embeddings().weight.detach().double().numpy()
    logits = features.transform(TEXTS).astype(float) @ weight.T
    log_probabilities = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    trie = classifier.labeller_.scorer(open_model=None).encoder.trie
    tokens = [token for _, node, token in trie.edges if node == 0]
    assert len(tokens) == len(trie.edges) == 2
    expected = classifier.label_log_likelihood(TEXTS)
    np.testing.assert_allclose(log_probabilities[:, tokens], expected, rtol=0, atol=1e-4)


def test_label_definitions_alone_name_the_labels(make_features):
    by_definitions = make_features(labels=None, label_definitions=DEFINITIONS).fit()
    assert by_definitions.prompt_ == make_features(label_definitions=DEFINITIONS).fit().prompt_


def test_without_labels_the_task_alone_is_stated(make_features):
    features = make_features(labels=None, instruction="Judge it.").fit(TEXTS)
    assert features.prompt_.instruction == "Judge it."
    assert make_features(labels=None).fit().prompt_.instruction == "Classify the input."
    assert features.label_words_ == ()
    assert features.transform(["good"]).shape == (1, 32)


def test_fit_learns_nothing_from_rows(make_features):
    expected = make_features().fit().transform(TEXTS)
    for X, y in ((TEXTS[:3], None), (TEXTS, LABELS), (TEXTS[:2], [0.5, -1.0])):
        np.testing.assert_array_equal(make_features().fit(X, y).transform(TEXTS), expected)
    np.testing.assert_array_equal(make_features().fit_transform(TEXTS, LABELS), expected)


def test_a_clone_and_a_pickle_give_the_same_features(make_features, n_loads):
    features = make_features().fit(TEXTS)
    expected = features.transform(TEXTS)
    restored = pickle.loads(pickle.dumps(features))
    assert len(pickle.dumps(features)) < 10_000
    np.testing.assert_array_equal(restored.transform(TEXTS), expected)
    np.testing.assert_array_equal(clone(features).fit_transform(TEXTS), expected)
    assert n_loads() <= 1


def test_features_have_names_and_come_as_frames(make_features):
    features = make_features()
    with pytest.raises(NotFittedError, match="This PromptFeatures instance is not fitted yet"):
        features.get_feature_names_out()
    frame = pd.DataFrame({"text": TEXTS}, index=range(16, 0, -1))
    given = features.set_output(transform="pandas").fit_transform(frame)
    assert given.columns.tolist() == [f"promptfeatures{i}" for i in range(32)]
    assert given.index.tolist() == frame.index.tolist()
    polars = features.set_output(transform="polars").transform(TEXTS)
    assert polars.columns == given.columns.tolist()
    np.testing.assert_array_equal(polars.to_numpy(), given.to_numpy())


# Heads


def test_a_linear_head_learns_from_features(make_features):
    head = make_pipeline(make_features(), StandardScaler(), LogisticRegression())
    assert head.fit(TEXTS, LABELS).score(TEXTS, LABELS) == 1.0


def test_features_can_be_united_with_others(make_features):
    union = make_union(TfidfVectorizer(), make_features())
    head = make_pipeline(union, LogisticRegression(max_iter=1000)).fit(TEXTS, LABELS)
    assert head.score(TEXTS, LABELS) == 1.0
    assert head[0].get_feature_names_out()[-1] == "promptfeatures__promptfeatures31"


def test_columns_of_a_frame_have_separate_prompts(make_features):
    frame = pd.DataFrame({"title": TEXTS, "body": TEXTS[::-1], "stars": np.arange(16.0)})
    columns = ColumnTransformer(
        [("title", make_features(), "title"), ("body", make_features(labels=None), "body")],
        remainder="passthrough",
    )
    given = columns.fit_transform(frame)
    assert given.shape == (16, 65)
    np.testing.assert_array_equal(given[:, :32], make_features().fit_transform(TEXTS))
    np.testing.assert_array_equal(given[:, 64], frame["stars"])


def test_a_column_given_as_a_list_is_a_frame_of_one_column(make_features):
    frame = pd.DataFrame({"title": TEXTS})
    columns = ColumnTransformer([("title", make_features(), ["title"])])
    expected = make_features().fit_transform(TEXTS)
    np.testing.assert_array_equal(columns.fit_transform(frame), expected)


def test_a_regression_learns_from_features(make_features):
    head = make_pipeline(make_features(labels=None), StandardScaler(), Ridge())
    assert np.isfinite(head.fit(TEXTS, np.arange(16.0)).predict(TEXTS)).all()


def test_a_head_may_learn_from_rows_without_labels(make_features):
    partly = np.array([int(label == "positive") for label in LABELS])
    partly[[3, 4, 5, 12, 13]] = -1
    head = SelfTrainingClassifier(make_pipeline(StandardScaler(), LogisticRegression()))
    model = make_pipeline(make_features(), head).fit(TEXTS, partly)
    assert set(model.predict(TEXTS)) <= {0, 1}


def test_a_search_reaches_the_prompt(make_features, fresh_folder, n_loads):
    head = make_pipeline(make_features(model=fresh_folder), StandardScaler(), LogisticRegression())
    grid = {"promptfeatures__template": ["alpaca", "alpaca_short"]}
    search = GridSearchCV(head, grid, cv=2).fit(TEXTS, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert n_loads() == 1


def test_a_pipeline_with_a_memory_reads_the_same_texts_once(
    make_features, fresh_folder, n_loads, tmp_path
):
    def fit_head():
        steps = (make_features(model=fresh_folder), StandardScaler(), LogisticRegression())
        return make_pipeline(*steps, memory=str(tmp_path)).fit(TEXTS, LABELS)

    first = fit_head()
    expected = first[-1].coef_
    assert n_loads() == 1
    del first
    clear_base_models()
    np.testing.assert_array_equal(fit_head()[-1].coef_, expected)
    assert n_loads() == 1


# Errors


def test_labels_and_definitions_must_agree(make_features):
    match = r"\['a', 'b'\] and label_definitions, which has .* must name the same labels"
    with pytest.raises(InvalidLabelsError, match=match):
        make_features(labels=["a", "b"], label_definitions=DEFINITIONS).fit()


def test_a_str_in_place_of_labels_is_an_error(make_features):
    with pytest.raises(InvalidParameterError, match="'labels' .* must be an array-like"):
        make_features(labels="positive").fit()


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"template": "alpacca"}, InvalidTemplateError, "alpacca"),
        ({"model_options__max_length": 20}, PromptTooLongError, "which leaves 0 of max_length=20"),
        ({"verbalizer": {"positive": "good"}}, InvalidLabelsError, r"add \['negative'\]"),
    ],
    ids=["template", "max_length", "verbalizer"],
)
def test_a_failed_fit_leaves_features_unfitted(changes, error, match, make_features):
    features = make_features().fit()
    with pytest.raises(error, match=match):
        features.set_params(**changes).fit()
    with pytest.raises(NotFittedError):
        features.transform(["good"])


def test_invalid_texts_are_an_error_in_fit_and_in_transform(make_features):
    with pytest.raises(InvalidTextsError, match="Text 1 is None"):
        make_features().fit(["good", None])
    with pytest.raises(InvalidTextsError, match=r"Got one str: wrap it, as in \[X\]"):
        make_features().fit().transform("good")
