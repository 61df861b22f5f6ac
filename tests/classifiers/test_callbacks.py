"""Callbacks of scikit-learn follow a fit, alone and inside a search."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from instructclf import PromptFeatures
from tests.fixtures import LABELS, TEXTS

pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9 has no callbacks")


class Recorder:
    """Records the calls of a callback, and the predictions of the fitted estimator."""

    max_propagation_depth = None

    def __init__(self):
        self.calls = []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None):
        n_rows = None if X is None else len(X)
        self.calls.append(("begin", context.estimator_name, n_rows))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        learned = None
        if fitted_estimator is not None and hasattr(fitted_estimator, "shots_"):
            learned = fitted_estimator.predict_proba(TEXTS[:2])
        self.calls.append(("end", context.estimator_name, learned))


def test_a_fit_is_one_task_with_a_fitted_estimator(make_prompting):
    recorder = Recorder()
    classifier = make_prompting().set_callbacks(recorder).fit(TEXTS, LABELS)
    before, begin, (end, name, probabilities), after = recorder.calls
    assert (before, after) == ("setup", "teardown")
    assert begin == ("begin", "PromptClassifier", 16)
    assert (end, name) == ("end", "PromptClassifier")
    np.testing.assert_array_equal(probabilities, classifier.predict_proba(TEXTS[:2]))


def test_several_seeds_are_one_task(make_prompting):
    recorder = Recorder()
    make_prompting(n_seeds=2).set_callbacks(recorder).fit(TEXTS, LABELS)
    assert len(recorder.calls) == 4


def test_a_search_passes_its_callbacks_on_without_a_warning(make_prompting):
    recorder = Recorder()
    search = GridSearchCV(make_prompting(), {"n_shots": [2, 4]}, cv=2).set_callbacks(recorder)
    search.fit(TEXTS, LABELS)
    fits = [call for call in recorder.calls if call[:2] == ("begin", "PromptClassifier")]
    assert [n_rows for *_, n_rows in fits] == [8, 8, 8, 8, 16]


def test_a_failed_fit_ends_its_callbacks(make_prompting):
    recorder = Recorder()
    with pytest.raises(ValueError, match="only one class"):
        make_prompting().set_callbacks(recorder).fit(TEXTS[:4], LABELS[:4])
    assert recorder.calls[-1] == "teardown"


def test_callbacks_follow_features(model_folder):
    recorder = Recorder()
    PromptFeatures(model_folder).set_callbacks(recorder).fit(TEXTS)
    assert ("begin", "PromptFeatures", 16) in recorder.calls
