"""Searches and threads share one real model."""

from __future__ import annotations

import os
import pickle
import shutil

import numpy as np
from sklearn.model_selection import GridSearchCV

from tests.classifiers.test_threads import at_once
from tests.real.rows import LABELS, TEXTS, UNSEEN


def test_a_search_loads_a_model_once(real_model, large_folder, n_loads):
    # The same files under another name, from which nothing has been loaded yet.
    shutil.copytree(real_model.safetensors, large_folder, copy_function=os.link)
    classifier = real_model.prompting(str(large_folder))
    search = GridSearchCV(classifier, {"n_shots": [0, 2]}, cv=2, error_score="raise")
    search.fit(TEXTS, LABELS)
    assert n_loads() == 1
    assert search.best_score_ >= 0.5
    assert set(search.predict(UNSEEN)) <= set(LABELS)


def test_two_threads_score_as_they_do_alone(real_model, tuned):
    classifiers = [tuned, real_model.prompting().fit(TEXTS, LABELS)]
    expected = [classifier.label_log_likelihood(UNSEEN) for classifier in classifiers]
    fresh = [pickle.loads(pickle.dumps(classifier)) for classifier in classifiers]
    together = at_once(
        lambda: fresh[0].label_log_likelihood(UNSEEN),
        lambda: fresh[1].label_log_likelihood(UNSEEN),
    )
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5)


def test_two_threads_may_use_one_classifier_from_the_first_text_on(tuned):
    expected = tuned.label_log_likelihood(UNSEEN)
    fresh = pickle.loads(pickle.dumps(tuned))
    for scores in at_once(*[lambda: fresh.label_log_likelihood(UNSEEN)] * 2):
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
