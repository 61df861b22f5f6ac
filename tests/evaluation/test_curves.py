import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation import FewShot, evaluate_seeds, learning_curve

TRAIN = (
    [f"good {i}" for i in range(20)] + [f"bad {i}" for i in range(20)],
    ["p"] * 20 + ["n"] * 20,
)
TEST = (["good", "bad", "good bad", "other"], ["p", "n", "p", "n"])
SVM = make_pipeline(TfidfVectorizer(), LinearSVC())


class Choosing(ClassifierMixin, BaseEstimator):
    """Answers with how it was set, which only the tests understand."""

    def __init__(self, n_shots=16, calibration="auto"):
        self.n_shots = n_shots
        self.calibration = calibration

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(f"{self.n_shots} {self.calibration}", len(X))


def test_points_are_those_of_evaluate_seeds():
    curve = learning_curve(SVM, *TRAIN, *TEST, shots=[8, 4], n_seeds=3)
    assert list(curve.scores) == [4, 8]
    for n_shots, scores in curve.scores.items():
        alone = evaluate_seeds(SVM, *TRAIN, *TEST, n_shots=n_shots, n_seeds=3)
        assert_array_equal(scores.predictions, alone.predictions)


def test_draws_are_nested():
    curve = learning_curve(SVM, *TRAIN, *TEST, shots=[4, 8, 16], n_seeds=3)
    for seed in range(3):
        few, some, more = (set(scores.shots[seed]) for scores in curve.scores.values())
        assert few < some < more


def test_draws_are_nested_without_a_seed_too():
    curve = learning_curve(SVM, *TRAIN, *TEST, shots=[4, 8], n_seeds=2, random_state=None)
    few, more = (scores.shots for scores in curve.scores.values())
    assert all(set(one) < set(other) for one, other in zip(few, more, strict=True))


def test_several_seeds_of_one_classifier_each_order_the_rows(make_prompting):
    classifier = make_prompting(n_seeds=2)
    curve = learning_curve(classifier, *TRAIN, *TEST, shots=[4], n_seeds=1)
    assert curve.scores[4].n_test == len(TEST[0])


def test_an_estimator_that_draws_shots_itself_takes_all_rows():
    few = FewShot(SVM, n_shots=2, random_state=0)
    curve = learning_curve(few, *TRAIN, *TEST, shots=[8], n_seeds=3)
    alone = learning_curve(SVM, *TRAIN, *TEST, shots=[8], n_seeds=3)
    assert_array_equal(curve.scores[8].predictions, alone.scores[8].predictions)


def test_estimator_that_chooses_shots_learns_from_all_rows_drawn():
    choosing = make_pipeline(Choosing())
    curve = learning_curve(choosing, *TRAIN, *TEST, shots=[0, 4, 32], n_seeds=1)
    settings = [scores.predictions[0, 0] for scores in curve.scores.values()]
    assert settings == ["0 None", "None auto", "None auto"]
    assert choosing[0].n_shots == 16


def test_prompting_goes_from_no_shots_to_some(make_prompting):
    curve = learning_curve(make_prompting(), *TRAIN, *TEST, shots=[0, 2], n_seeds=1)
    assert [len(scores.shots[0]) for scores in curve.scores.values()] == [0, 2]


def test_rows_and_frame_and_text_say_the_same():
    curve = learning_curve(SVM, *TRAIN, *TEST, shots=[4, 16], n_seeds=2)
    rows = curve.to_rows()
    assert [row["n_rows"] for row in rows] == [4, 16]
    pytest.importorskip("pandas")
    assert curve.to_frame()["accuracy"].tolist() == [row["accuracy"] for row in rows]
    assert str(curve).splitlines()[0].startswith(f" 4 shots: {rows[0]['accuracy']:.3f} [")


def test_points_that_are_done_are_read_again(tmp_path):
    options = {"n_seeds": 2, "folder": tmp_path}
    learning_curve(SVM, *TRAIN, *TEST, shots=[4], **options)
    learning_curve(SVM, *TRAIN, *TEST, shots=[4, 8], **options)
    assert len(list(tmp_path.iterdir())) == 4


def test_progress_names_the_shots(capsys):
    learning_curve(SVM, *TRAIN, *TEST, shots=[4, 8], n_seeds=2, verbose=1)
    err = capsys.readouterr().err
    assert "4/4" in err
    assert "8 shots, accuracy" in err


@pytest.mark.parametrize("shots", [[], 16, None])
def test_anything_but_some_numbers_is_refused(shots):
    with pytest.raises(InvalidParameterError, match="'shots' .* must be a sequence of int"):
        learning_curve(SVM, *TRAIN, *TEST, shots=shots)


@pytest.mark.parametrize(
    ("estimator", "shots", "message"),
    [
        (SVM, [-1, 4], "'n_shots' parameter of learning_curve must be an int .* Got -1"),
        (DummyClassifier(), [0, 4], "of learning_curve can be 0 only for an estimator"),
        (None, [4], "'estimator' parameter of learning_curve must be an object implementing"),
    ],
)
def test_parameters_outside_their_domain_are_refused(estimator, shots, message):
    with pytest.raises(InvalidParameterError, match=message):
        learning_curve(estimator, *TRAIN, *TEST, shots=shots)
