"""Workers of Dask and Ray, in other processes, find the same as this process.

Each cluster is real: two workers on this machine, reached through its loopback address.
"""

from __future__ import annotations

import os
import pickle
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

from instructclf.evaluation import evaluate_seeds
from tests.fixtures import LABELS, TEXTS

# Ray looks up its address, and Dask's workers come back to this process.
pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "localhost"])
NEW = [f"{text} again" for text in TEXTS]


@pytest.fixture
def _dask():
    """Two workers of Dask, which joblib uses during the test."""
    dask_distributed = pytest.importorskip("dask.distributed", reason="takes the scale extra")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "host": "127.0.0.1"}
    with (
        dask_distributed.LocalCluster(**options, dashboard_address=None) as cluster,
        dask_distributed.Client(cluster),
    ):
        yield


@pytest.fixture
def _ray(monkeypatch):
    """Two workers of Ray for joblib, and room for those of a data set."""
    ray = pytest.importorskip("ray", reason="takes the scale extra")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default 15: next to a busy neighbour, never
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )
    pytest.importorskip("ray.util.joblib").register_ray()
    yield
    ray.shutdown()


def search_and_seeds(classifier):
    """Return the scores of a grid search and of several seeds."""
    search = GridSearchCV(classifier, {"n_shots": [2, 4]}, cv=2, scoring="neg_log_loss")
    scores = search.fit(TEXTS, LABELS).cv_results_["mean_test_score"]
    seeds = evaluate_seeds(classifier, TEXTS, LABELS, NEW, LABELS, n_shots=4, n_seeds=2)
    return [*scores, *seeds.scores]


@pytest.mark.usefixtures("_dask")
def test_dask_searches_evaluates_seeds_and_predicts_a_collection(make_prompting, make_tuning):
    dask, bag = pytest.importorskip("dask"), pytest.importorskip("dask.bag")
    classifier = make_prompting()
    with joblib.parallel_config("dask"):
        found = search_and_seeds(classifier)
    np.testing.assert_allclose(found, search_and_seeds(classifier), rtol=0, atol=1e-6)

    fitted = make_tuning().fit(TEXTS, LABELS)
    shipped = dask.delayed(fitted)  # sent to each worker once, not with each partition
    texts = bag.from_sequence(NEW, npartitions=4)
    labels = texts.map_partitions(lambda part, it: it.predict(list(part)).tolist(), shipped)
    assert labels.compute() == fitted.predict(NEW).tolist()


# Ray 2.60 warns of some of its options while it sets them to their defaults. Look again by 2027-06.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("_ray")
def test_ray_searches_evaluates_seeds_and_predicts_a_data_set(make_prompting, make_tuning):
    data = pytest.importorskip("ray.data")
    classifier = make_prompting()
    with joblib.parallel_config("ray", n_jobs=2):
        found = search_and_seeds(classifier)
    np.testing.assert_allclose(found, search_and_seeds(classifier), rtol=0, atol=1e-6)

    fitted = make_tuning().fit(TEXTS, LABELS)

    class Predict:
        def __init__(self, classifier):
            self.classifier = classifier

        def __call__(self, batch):
            return batch | {"label": self.classifier.predict(batch["text"])}

    data.DataContext.get_current().enable_progress_bars = False
    texts = data.from_pandas(pd.DataFrame({"text": NEW}))
    labels = texts.map_batches(Predict, fn_constructor_args=[fitted], concurrency=1).to_pandas()
    expected = dict(zip(NEW, fitted.predict(NEW), strict=True))
    assert dict(zip(labels["text"], labels["label"], strict=True)) == expected


def test_a_pickle_for_a_worker_holds_the_adapter_and_no_base_weights(make_tuning, model):
    fitted = make_tuning(adapter__rank=1).fit(TEXTS, LABELS)
    fitted.predict(TEXTS)
    n_adapter = sum(weight.nbytes for weight in fitted.adapter_.values())
    n_base = sum(weight.nbytes for weight in model.parameters())
    n_shipped = len(pickle.dumps(fitted))
    assert n_adapter < n_shipped < n_adapter + 20_000 < n_base
