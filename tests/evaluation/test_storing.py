import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import PromptClassifier
from instructclf.evaluation import evaluate_seeds
from instructclf.exceptions import CheckpointError
from instructclf.storage import read_record

TRAIN = (
    [f"good {i}" for i in range(20)] + [f"bad {i}" for i in range(20)],
    ["p"] * 20 + ["n"] * 20,
)
TEST = (["good", "bad", "good bad", "other"], ["p", "n", "p", "n"])
PIPELINE = make_pipeline(TfidfVectorizer(), LogisticRegression())


class Counting(ClassifierMixin, BaseEstimator):
    """Counts how often any of its kind is fitted."""

    fitted = 0

    def __init__(self, threshold=0.5, model=None):
        self.threshold = threshold
        self.model = model

    def fit(self, X, y):
        type(self).fitted += 1
        self.classes_ = np.unique(y)
        self.loss_curve_ = [1.0, 0.5]
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that evaluates with a folder and counts the runs not taken from it."""
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
def test_every_change_is_noticed(run, change):
    if "train" in change and change["train"][1] != TRAIN[1]:
        change = change | {"test": (TEST[0], [label.upper() for label in TEST[1]])}
    assert [run(), run(**change), run()] == [3, 3, 0]


def test_other_labels_of_the_same_texts_are_noticed(run):
    flipped = (TRAIN[0], ["n" if label == "p" else "p" for label in TRAIN[1]])
    assert [run(n_shots=None), run(n_shots=None, train=flipped)] == [3, 3]


def test_estimator_with_another_bound_method_gets_results_of_its_own(tmp_path):
    for pattern in ("[a-z]", "[0-9]"):
        vectorizer = CountVectorizer(tokenizer=re.compile(pattern).findall, token_pattern=None)
        estimator = make_pipeline(vectorizer, LogisticRegression())
        evaluate_seeds(estimator, *TRAIN, *TRAIN, n_shots=4, n_seeds=1, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_another_version_is_noticed(run, monkeypatch):
    assert run() == 3
    monkeypatch.setattr("instructclf.__version__", "1000.0")
    assert run() == 3


def test_search_with_folds_and_a_scorer_is_run_once(tmp_path):
    for _ in range(2):
        search = GridSearchCV(
            make_pipeline(CountVectorizer(preprocessor=str.lower), LogisticRegression()),
            {"logisticregression__C": [1, 10]},
            cv=StratifiedKFold(2),
            scoring=make_scorer(balanced_accuracy_score, adjusted=True),
        )
        evaluate_seeds(search, *TRAIN, *TEST, n_shots=4, n_seeds=1, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


class Loaded:
    """Stands for a model in memory."""

    def state_dict(self):
        return {}


def test_models_in_memory_are_refused(tmp_path):
    classifier = PromptClassifier((Loaded(), "tokenizer"), n_shots=4)
    message = "the 'model' parameter of PromptClassifier must be .*Loaded cannot be .* its name"
    with pytest.raises(InvalidParameterError, match=message):
        evaluate_seeds(classifier, *TRAIN, *TEST, n_shots=4, folder=tmp_path)


def test_refusal_names_the_parameter_where_the_user_set_it(tmp_path):
    pipeline = make_pipeline(CountVectorizer(tokenizer=lambda text: [text]), LogisticRegression())
    name = "estimator__countvectorizer__tokenizer"
    message = (
        rf"^With a folder, the '{name}' parameter of GridSearchCV must be recognised .*<lambda> "
        "cannot be recognised.* Define it at the top of a module. Or leave the folder out"
    )
    with pytest.raises(InvalidParameterError, match=message):
        evaluate_seeds(GridSearchCV(pipeline, {}), *TRAIN, *TEST, folder=tmp_path)


def test_class_that_is_made_in_a_function_is_refused(tmp_path):
    class Local(DummyClassifier):
        """May differ each time that the function runs."""

    with pytest.raises(InvalidParameterError, match="the estimator must .*Local cannot be .*top"):
        evaluate_seeds(Local(), *TRAIN, *TEST, folder=tmp_path)


def test_changed_model_folder_is_noticed(run, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    estimator = Counting(model=str(model))
    options = {"estimator": estimator, "folder": tmp_path / "runs"}
    assert [run(**options), run(**options)] == [3, 0]
    (model / "weights").write_text("1")
    assert [run(**options), run(**options)] == [3, 0]


def test_damaged_file_is_refused(tmp_path):
    evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_seeds=1, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"run-.* cannot be read.* Delete it to run it again"):
        evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_seeds=1, folder=tmp_path)


def test_file_of_another_run_is_refused(tmp_path):
    evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_seeds=2, folder=tmp_path)
    first, second = tmp_path.iterdir()
    first.write_bytes(second.read_bytes())
    with pytest.raises(CheckpointError, match="is not the outcome of the run that its name stands"):
        evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_seeds=2, folder=tmp_path)


def test_files_describe_their_run(tmp_path):
    evaluate_seeds(PIPELINE, *TRAIN, *TEST, n_seeds=1, folder=tmp_path / "new" / "folder")
    (path,) = (tmp_path / "new" / "folder").iterdir()
    description, arrays = read_record(path, "")
    assert description["approach"] == repr(PIPELINE)
    assert description["fingerprint"].startswith(path.stem.removeprefix("run-"))
    assert len(description["predictions"]) == 4
    assert arrays["log_probabilities"].shape == (4, 2)


def test_folder_that_is_no_path_is_refused():
    with pytest.raises(InvalidParameterError, match="'folder' parameter of evaluate_seeds"):
        evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, folder=3)
