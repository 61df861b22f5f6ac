from typing import ClassVar

import numpy as np
import pytest
from joblib import parallel_config
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import (
    BlendedClassifier,
    ConformalClassifier,
    DistilledClassifier,
    OrdinalClassifier,
    PromptClassifier,
    SelectiveClassifier,
)
from instructclf.engine.scoring.reading import PromptReader
from instructclf.evaluation import FewShot, evaluate_seeds
from instructclf.evaluation.running import execute, plan_runs, prepare
from instructclf.evaluation.splitting import check_split
from instructclf.exceptions import InvalidLabelsError, InvalidShotsError, InvalidTextsError
from instructclf.sampling import BalancedSampler

TRAIN = (
    [f"good {i}" for i in range(20)] + [f"bad {i}" for i in range(20)],
    ["p"] * 20 + ["n"] * 20,
)
TEST = (["good", "bad", "good bad", "other"], ["p", "n", "p", "n"])


class Recording(ClassifierMixin, BaseEstimator):
    """Answers with its first class, and keeps what it was fitted on for everyone to see."""

    seen: ClassVar = []

    def __init__(self, random_state=None, n_shots=None):
        self.random_state = random_state
        self.n_shots = n_shots

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.seen.append((self.random_state, X, y))
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))


@pytest.fixture
def seen(monkeypatch):
    """Return what the recording classifier was fitted on."""
    monkeypatch.setattr(Recording, "seen", [])
    return Recording.seen


def test_scores_are_the_accuracies_of_a_simple_loop():
    classifier = make_pipeline(TfidfVectorizer(), LinearSVC(random_state=0))
    scores = evaluate_seeds(classifier, *TRAIN, *TEST, n_shots=4, n_seeds=3)
    for score, shots in zip(scores.scores, scores.shots, strict=True):
        fitted = classifier.fit([TRAIN[0][i] for i in shots], [TRAIN[1][i] for i in shots])
        assert score == fitted.score(*TEST)
    assert scores.mean == pytest.approx(scores.scores.mean())
    assert scores.std == pytest.approx(scores.scores.std(ddof=1))


ASKED = {
    "prompting": lambda inner: inner,
    "in a pipeline": lambda inner: make_pipeline(FunctionTransformer(), inner),
    "few rows": lambda inner: FewShot(inner, n_shots=4),
    "ordinal": OrdinalClassifier,
    "selective": lambda inner: SelectiveClassifier(inner, risk=0.9, confidence=0.5, random_state=0),
    "conformal": lambda inner: ConformalClassifier(inner, confidence_level=0.5, random_state=0),
    "distilled": lambda inner: DistilledClassifier(inner, inner, ["good or not", "bad or not"]),
    "blended": lambda inner: BlendedClassifier([("one", inner), ("other", inner)], random_state=0),
    "nested": lambda inner: OrdinalClassifier(FewShot(inner, n_shots=4)),
}


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.AllAbstainedWarning")
@pytest.mark.parametrize("kind", ASKED)
def test_each_test_text_goes_through_a_model_once(kind, make_prompting, monkeypatch):
    numbers = {"n": 0, "p": 1}
    train = TRAIN[0], [numbers[label] for label in TRAIN[1]]
    test = TEST[0], [numbers[label] for label in TEST[1]]
    read, scored = PromptReader._read, []

    def noting(reader, texts, *inputs, **options):
        scored.extend(texts)
        return read(reader, texts, *inputs, **options)

    estimator = ASKED[kind](
        make_prompting(n_shots=2, calibration=None, verbalizer={0: "bad", 1: "good"})
    )
    (run,) = plan_runs(
        check_split(*train, *test), n_shots=12, n_seeds=1, sampler="balanced", random_state=0
    )
    prepared = prepare(estimator, run)
    with monkeypatch.context() as patch:
        patch.setattr(PromptReader, "_read", noting)
        found = execute(run, prepared, check_split(*train, *test))
    n_models = 2 if kind == "blended" else 1
    assert [scored.count(text) for text in TEST[0]] == [n_models] * len(TEST[0])
    assert found.predictions == prepared.predict(TEST[0]).tolist()
    np.testing.assert_allclose(
        np.exp(found.log_probabilities), prepared.predict_proba(TEST[0]), rtol=0, atol=1e-6
    )


def test_every_estimator_sees_the_same_rows(seen):
    kwargs = {"n_shots": 6, "n_seeds": 3, "random_state": 5}
    first = evaluate_seeds(Recording(), *TRAIN, *TEST, **kwargs)
    second = evaluate_seeds(make_pipeline(TfidfVectorizer(), LinearSVC()), *TRAIN, *TEST, **kwargs)
    assert_array_equal(first.shots, second.shots)
    for (_, texts, labels), shots in zip(seen, first.shots, strict=True):
        assert texts == [TRAIN[0][i] for i in shots]
        assert_array_equal(labels, [TRAIN[1][i] for i in shots])


def test_each_seed_has_different_rows_and_a_different_random_state(seen):
    scores = evaluate_seeds(Recording(), *TRAIN, *TEST, n_shots=6, n_seeds=4)
    assert len({tuple(shots) for shots in scores.shots}) == 4
    assert len({random_state for random_state, _, _ in seen}) == 4


def test_fewer_seeds_are_the_first_of_more(seen):
    few = evaluate_seeds(Recording(), *TRAIN, *TEST, n_shots=6, n_seeds=2)
    more = evaluate_seeds(Recording(), *TRAIN, *TEST, n_shots=6, n_seeds=4)
    assert_array_equal(few.shots, more.shots[:2])
    assert [random_state for random_state, _, _ in seen[:2]] == [s for s, _, _ in seen[2:4]]


def test_fewer_shots_are_the_first_of_more():
    few = evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=4, n_seeds=3)
    more = evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=8, n_seeds=3)
    assert_array_equal(few.shots, [shots[:4] for shots in more.shots])


def test_another_random_state_draws_other_rows():
    one = evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=6, random_state=0)
    two = evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=6, random_state=1)
    none = evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=6, random_state=None)
    assert len({np.array(scores.shots).tobytes() for scores in (one, two, none)}) == 3


def test_nested_random_states_are_set_and_differ_from_each_other(seen):
    voters = [("one", Recording()), ("two", Recording())]
    evaluate_seeds(VotingClassifier(voters), *TRAIN, *TEST, n_shots=4, n_seeds=2)
    random_states = [random_state for random_state, _, _ in seen]
    assert len(set(random_states)) == 4
    assert all(isinstance(random_state, int) for random_state in random_states)


def test_the_estimator_given_is_not_touched():
    classifier = make_pipeline(TfidfVectorizer(), LinearSVC(random_state=7))
    evaluate_seeds(classifier, *TRAIN, *TEST, n_shots=4)
    assert classifier[-1].random_state == 7
    assert not hasattr(classifier[-1], "coef_")


def test_without_a_number_of_shots_all_rows_are_used(seen):
    scores = evaluate_seeds(Recording(), *TRAIN, *TEST, n_seeds=2)
    assert scores.n_shots is None
    assert_array_equal(scores.shots, [np.arange(40)] * 2)
    assert all(texts == TRAIN[0] for _, texts, _ in seen)


def test_with_zero_shots_the_rows_only_name_the_labels(seen):
    scores = evaluate_seeds(Recording(n_shots=0), *TRAIN, *TEST, n_shots=0, n_seeds=1)
    assert [len(shots) for shots in scores.shots] == [0]
    assert seen[0][2].tolist() == ["n", "p"]


def test_one_seed_has_no_standard_deviation():
    assert np.isnan(evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_seeds=1).std)


def test_seconds_are_measured_for_every_seed():
    scores = evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_seeds=3)
    assert scores.fit_seconds.shape == scores.predict_seconds.shape == (3,)
    assert (scores.fit_seconds > 0).all()
    assert (scores.predict_seconds > 0).all()
    assert scores.n_test == 4


def test_sampler_may_be_an_object():
    scores = evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=4, sampler=BalancedSampler())
    named = evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=4, sampler="balanced")
    assert_array_equal(scores.shots, named.shots)


def test_arrays_and_series_are_texts_and_labels():
    pandas = pytest.importorskip("pandas")
    expected = evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=4)
    for kind in (pandas.Series, lambda values: np.array(values, dtype=object), tuple):
        given = [kind(values) for values in (*TRAIN, *TEST)]
        scores = evaluate_seeds(DummyClassifier(), *given, n_shots=4)
        assert_array_equal(scores.shots, expected.shots)


def test_progress_is_shown_on_standard_error_when_asked_for(capsys):
    evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=4, n_seeds=2, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err
    assert "accuracy 0.500" in err


def test_without_verbose_nothing_is_shown(capsys):
    evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=4)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_shots", -1, r"'n_shots' parameter of evaluate_seeds must be an int .* Got -1 instead"),
        ("n_shots", 4.0, r"'n_shots' parameter of evaluate_seeds must be an int .* Got 4.0"),
        ("n_seeds", 0, r"'n_seeds' parameter of evaluate_seeds must be an int .* Got 0 instead"),
        ("random_state", -3, r"'random_state' parameter of evaluate_seeds .* Got -3 instead"),
        ("verbose", "yes", r"'verbose' parameter of evaluate_seeds .* Got 'yes' instead"),
        ("n_shots", 0, r"can be 0 only for an estimator that learns from no row, such as"),
    ],
)
def test_parameters_outside_their_domain_are_refused(name, value, message):
    with pytest.raises(InvalidParameterError, match=message):
        evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, **{name: value})


def test_an_estimator_that_cannot_predict_is_refused():
    message = "must be an object implementing 'fit' and 'predict'. Got TfidfVectorizer"
    with pytest.raises(InvalidParameterError, match=message):
        evaluate_seeds(TfidfVectorizer(), *TRAIN, *TEST)


def test_zero_shots_are_refused_without_parameters_to_see():
    class Bare:
        def fit(self, X, y): ...

        def predict(self, X): ...

    with pytest.raises(InvalidParameterError, match=r"'n_shots' parameter .* can be 0 only for"):
        evaluate_seeds(Bare(), *TRAIN, *TEST, n_shots=0)


def test_unknown_sampler_is_refused():
    with pytest.raises(
        InvalidShotsError, match=r"'sampler' parameter must be one of .* Got 'best'"
    ):
        evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=4, sampler="best")


def test_an_estimator_cannot_take_more_shots_than_it_is_given():
    sampling = make_pipeline(FunctionTransformer(), PromptClassifier(n_shots=16))
    match = "evaluate_seeds gives n_shots=4 rows .* promptclassifier__n_shots=16 .* to None"
    with pytest.raises(InvalidParameterError, match=match):
        evaluate_seeds(sampling, *TRAIN, *TEST, n_shots=4)


@pytest.mark.parametrize(
    ("n_shots", "message"), [(1, "fewer than the 2 labels"), (41, "more than")]
)
def test_shots_that_cannot_be_drawn_are_refused(n_shots, message):
    with pytest.raises(InvalidShotsError, match=message):
        evaluate_seeds(DummyClassifier(), *TRAIN, *TEST, n_shots=n_shots)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("good", r"X_test must be a sequence of texts. Got one str: wrap it, as in \[X_test\]"),
        (b"good", "X_test must be a sequence of texts. Got one bytes: wrap it"),
        (None, "X_test must be a sequence of texts. Got NoneType: give a list of str"),
        (np.array([["a", "b"]]), r"X_test must be one-dimensional, .* of shape \(1, 2\)"),
        ([], r"Found array with 0 sample\(s\) .* in X_test .* Give at least one text"),
        (["a", "b", None, "d"], r"Text 2 of X_test is None \(NoneType\), expected a str"),
        (["a", 1.5, "c", "d"], r"Text 1 of X_test is 1\.5 \(float\), expected a str"),
    ],
)
def test_anything_but_a_sequence_of_texts_is_refused(texts, message):
    with pytest.raises(InvalidTextsError, match=message):
        evaluate_seeds(DummyClassifier(), *TRAIN, texts, TEST[1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"p", "n"}, "y_test must be a sequence of labels. Got set: give a list"),
        (["p", "n"], "4 texts in X_test and 2 labels in y_test"),
        (["p", "n", None, "n"], "Label 2 is None: Input y_test contains NaN or None"),
        ([1.0, float("nan"), 1.0, 0.0], "Label 1 is nan: Input y_test contains NaN or None"),
        ([1.0, float("inf"), 1.0, 0.0], "Label 1 is inf: Input y_test contains infinity"),
        ([1, 0, 1, 0], "no label in common: 0, 1 and 'n', 'p'. Give both the same labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(InvalidLabelsError, match=message):
        evaluate_seeds(DummyClassifier(), *TRAIN, TEST[0], labels)


def test_only_some_of_many_foreign_labels_are_named():
    texts = [str(i) for i in range(9)]
    with pytest.raises(InvalidLabelsError, match=r"common: 0, 1, 2, 3, 4, … and 'n', 'p'\."):
        evaluate_seeds(DummyClassifier(), *TRAIN, texts, list(range(9)))


def test_workers_of_joblib_run_the_seeds_where_they_are_asked_to(tmp_path):
    estimator = make_pipeline(TfidfVectorizer(), DummyClassifier(strategy="uniform"))
    alone = evaluate_seeds(estimator, *TRAIN, *TEST, n_shots=4, n_seeds=4)
    with parallel_config("threading", n_jobs=2):
        shared = evaluate_seeds(estimator, *TRAIN, *TEST, n_shots=4, n_seeds=4, folder=tmp_path)
    assert_array_equal(shared.scores, alone.scores)
    assert len(list(tmp_path.glob("run-*.safetensors"))) == 4
