import json
import os

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import PromptClassifier
from instructclf.evaluation import evaluate_seeds
from instructclf.evaluation.fingerprints import fingerprint
from instructclf.exceptions import DataFormatError
from instructclf.prompts import PromptTemplate

TRAIN = (
    [f"good {i}" for i in range(20)] + [f"bad {i}" for i in range(20)],
    ["p"] * 20 + ["n"] * 20,
)
TEST = (["good", "bad", "good bad", "other"], ["p", "n", "p", "n"])
PIPELINE = make_pipeline(TfidfVectorizer(), LogisticRegression())


class Counting(ClassifierMixin, BaseEstimator):
    """Counts how often any of its kind is fitted."""

    fitted = 0

    def __init__(self, threshold=0.5):
        self.threshold = threshold

    def fit(self, X, y):
        type(self).fitted += 1
        self.classes_ = np.unique(y)
        self.loss_curve_ = [1.0, 0.5]
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return what evaluates with a folder and says how many runs were not taken from it."""
    monkeypatch.setattr(Counting, "fitted", 0)

    def run(*, estimator=None, train=TRAIN, test=TEST, **options):
        before = Counting.fitted
        options = {"n_shots": 4, "n_seeds": 3, "folder": tmp_path} | options
        evaluate_seeds(estimator or Counting(), *train, *test, **options)
        return Counting.fitted - before

    return run


def test_finished_runs_come_back_as_they_were(tmp_path):
    first = evaluate_seeds(PIPELINE, *TRAIN, *TEST, n_shots=4, folder=tmp_path)
    second = evaluate_seeds(PIPELINE, *TRAIN, *TEST, n_shots=4, folder=tmp_path)
    for name in ("predictions", "log_probabilities", "fit_seconds", "predict_seconds", "classes"):
        assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.predictions.dtype == second.predictions.dtype
    assert first.to_row() == second.to_row()


def test_losses_come_back_and_missing_probabilities_stay_missing(tmp_path):
    for _ in range(2):
        scores = evaluate_seeds(Counting(), *TRAIN, *TEST, n_seeds=1, folder=tmp_path)
        assert [curve.tolist() for curve in scores.loss_curves] == [[1.0, 0.5]]
        assert scores.log_probabilities is None


def test_nothing_is_run_twice(run):
    assert [run(), run(), run(n_seeds=5)] == [3, 0, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"estimator": Counting(threshold=0.6)},
        {"estimator": Counting(threshold="0.5")},
        {"random_state": 1},
        {"n_shots": 6},
        {"train": ([text + "!" for text in TRAIN[0]], TRAIN[1])},
        {"train": (TRAIN[0], [label.upper() for label in TRAIN[1]])},
        {"test": (["better", *TEST[0][1:]], TEST[1])},
        {"test": (TEST[0], ["n", *TEST[1][1:]])},
    ],
    ids=["parameter", "its type", "seed", "shots", "texts", "labels", "test texts", "test labels"],
)
def test_whatever_changes_is_noticed(run, change):
    if "train" in change and change["train"][1] != TRAIN[1]:
        change = change | {"test": (TEST[0], [label.upper() for label in TEST[1]])}
    assert [run(), run(**change), run()] == [3, 3, 0]


def test_other_labels_of_the_same_texts_are_noticed(run):
    flipped = (TRAIN[0], ["n" if label == "p" else "p" for label in TRAIN[1]])
    assert [run(n_shots=None), run(n_shots=None, train=flipped)] == [3, 3]


def test_changed_source_of_a_class_is_noticed(run, monkeypatch):
    assert run() == 3
    monkeypatch.setattr(
        "instructclf.evaluation.fingerprints.inspect.getsource", lambda kind: "another"
    )
    assert run() == 3


def test_another_version_is_noticed(run, monkeypatch):
    assert run() == 3
    monkeypatch.setattr("instructclf.__version__", "1000.0")
    assert run() == 3


def test_changed_model_folder_is_noticed(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("1")
    before = fingerprint(estimator=PromptClassifier(folder))
    assert before == fingerprint(estimator=PromptClassifier(folder))
    (folder / "weights").write_text("22")
    longer = fingerprint(estimator=PromptClassifier(folder))
    os.utime(folder / "weights", ns=(1, 1))
    assert len({before, longer, fingerprint(estimator=PromptClassifier(folder))}) == 3


def plus(amount):
    return lambda text: text + amount


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, "1"),
        ([1, 2], (1, 2)),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ([["a"], "b"], [["a", "b"]]),
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (np.array([1, 2]), np.array([[1], [2]])),
        (np.array(["a", "b"], dtype=object), np.array(["a", "c"], dtype=object)),
        (b"a", "a"),
        ({"a"}, frozenset("a")),
        (plus("x"), plus("y")),
        (lambda text: text.lower(), lambda text: text.upper()),
        (lambda text: [len(one) for one in text], lambda text: [len(one) + 1 for one in text]),
        (len, sum),
        (np.log, np.exp),
        (
            PromptTemplate("{instruction} {input} {response}"),
            PromptTemplate("{instruction}{input}{response}"),
        ),
        (LinearSVC, LogisticRegression),
        (LinearSVC(), LinearSVC(C=2)),
        (make_pipeline(LinearSVC()), make_pipeline(LinearSVC(C=2))),
    ],
)
def test_different_values_have_different_fingerprints(one, other):
    assert fingerprint(value=one) == fingerprint(value=one)
    assert fingerprint(value=one) != fingerprint(value=other)


def test_sets_have_one_fingerprint_whatever_their_order():
    words = [8, 16, 0]  # these collide, so that a set keeps the order of their arrival
    backwards = words[::-1]
    assert list(set(words)) != list(set(backwards))
    assert fingerprint(value=set(words)) == fingerprint(value=set(backwards))


def test_what_cannot_be_recognised_is_refused(tmp_path):
    class Loaded:
        """Stands for a model in memory."""

    classifier = PromptClassifier((Loaded(), Loaded()), n_shots=4)
    with pytest.raises(InvalidParameterError, match="Loaded cannot be. Give a model by name"):
        evaluate_seeds(classifier, *TRAIN, *TEST, n_shots=4, folder=tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 0, "fingerprint": "x"}'])
def test_file_that_is_no_finished_run_is_refused(tmp_path, content):
    evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_seeds=1, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    with pytest.raises(DataFormatError, match="is not a finished run of this version. Delete it"):
        evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_seeds=1, folder=tmp_path)


def test_files_are_plain_json_that_says_what_was_run(tmp_path):
    evaluate_seeds(PIPELINE, *TRAIN, *TEST, n_seeds=1, folder=tmp_path / "new" / "folder")
    (path,) = (tmp_path / "new" / "folder").iterdir()
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["approach"] == repr(PIPELINE)
    assert content["fingerprint"].startswith(path.stem.removeprefix("run-"))
    assert len(content["predictions"]) == 4


def test_folder_that_is_no_path_is_refused():
    with pytest.raises(InvalidParameterError, match="'folder' parameter of evaluate_seeds"):
        evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, folder=3)
