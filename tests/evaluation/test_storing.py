import functools
import importlib.util
import json
import os
import random
import re
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model._sgd_fast import Hinge
from sklearn.metrics import balanced_accuracy_score, f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, PredefinedSplit, RepeatedKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import PromptClassifier
from instructclf.evaluation import evaluate_seeds
from instructclf.evaluation.fingerprints import fingerprint
from instructclf.exceptions import DataFormatError
from instructclf.prompts import PromptTemplate
from instructclf.sampling import KMeansSampler

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


def test_estimator_with_another_bound_method_gets_results_of_its_own(tmp_path):
    for pattern in ("[a-z]", "[0-9]"):
        vectorizer = CountVectorizer(tokenizer=re.compile(pattern).findall, token_pattern=None)
        estimator = make_pipeline(vectorizer, LogisticRegression())
        evaluate_seeds(estimator, *TRAIN, *TRAIN, n_shots=4, n_seeds=1, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


MODULE = """
from sklearn.dummy import DummyClassifier

class Base(DummyClassifier):
    base_answer = 1

class Mine(Base):
    own_answer = 1
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return what makes a module of a text, as if it had been written in the file of before."""

    def load(text):
        file = tmp_path / str(len(list(tmp_path.iterdir()))) / "mine.py"
        file.parent.mkdir()
        file.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "mine", module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize("changed", ["own_answer", "base_answer"])
def test_changed_source_of_a_class_or_its_base_is_noticed(load, changed):
    before = fingerprint(estimator=load(MODULE).Mine())
    assert before == fingerprint(estimator=load(MODULE).Mine())
    assert before != fingerprint(estimator=load(MODULE.replace(changed, "another")).Mine())


@pytest.mark.parametrize("name", ["__main__", "builtins", "mine"])
def test_class_that_is_in_no_file_is_refused(load, name):
    load("")
    space = {"__name__": name}
    exec(MODULE, space)
    with pytest.raises(
        InvalidParameterError, match=rf"class {name}\.Mine cannot be. Put it at the"
    ):
        fingerprint(estimator=space["Mine"]())


def test_lines_of_another_class_are_not_taken_for_its_source(load, monkeypatch):
    mine = load(MODULE).Mine
    monkeypatch.setattr("inspect.getsource", lambda kind: "class MineToo:\n    pass")
    with pytest.raises(InvalidParameterError, match=r"class mine\.Mine cannot be"):
        fingerprint(estimator=mine())


def test_class_that_is_made_in_a_function_is_refused():
    class Local(DummyClassifier):
        """May differ by the values of the function."""

    with pytest.raises(InvalidParameterError, match="Local cannot be. Put it at the top of a mod"):
        fingerprint(estimator=make_pipeline(Local()))


def test_functions_of_an_interactive_session_are_told_apart():
    one, same, other = {}, {}, {}
    for space, amount in ((one, 1), (same, 1), (other, 2)):
        exec(f"def add(text): return text * {amount}", {"__name__": "__main__"}, space)
    assert fingerprint(value=one["add"]) == fingerprint(value=same["add"])
    assert fingerprint(value=one["add"]) != fingerprint(value=other["add"])


@pytest.mark.parametrize("kind", [np.float32, str, Hinge, random.Random.__base__])
def test_compiled_classes_need_no_source(kind):
    assert fingerprint(value=kind) != fingerprint(value=float)


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


@pytest.mark.parametrize(
    "make",
    [
        PromptClassifier,
        lambda path: KMeansSampler(embedder=path),
        lambda path: GridSearchCV(PromptClassifier(), {"model": ["hub/name", str(path)]}),
    ],
    ids=["model", "embedder", "grid"],
)
def test_changed_file_of_a_model_is_noticed(tmp_path, make):
    path = tmp_path / "tiny.gguf"
    missing = fingerprint(estimator=make(path))
    path.write_text("1")
    before = fingerprint(estimator=make(path))
    path.write_text("22")
    assert len({missing, before, fingerprint(estimator=make(path))}) == 3


@pytest.mark.parametrize("definition", ["long " * 1000, "~nobody of this name/at all"])
def test_text_beside_a_label_that_is_called_model_is_only_a_text(definition):
    assert fingerprint(definitions={"model": definition})


def plus(amount):
    return lambda text: text + amount


class Words:
    """A tokenizer with a setting."""

    def __init__(self, mark):
        self.mark = mark

    def split(self, text):
        return text.split(self.mark)


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
        (np.mean, np.median),
        ({"a": 1}.get, {"a": 2}.get),
        ({1}.__contains__, {2}.__contains__),
        ("a".__add__, "b".__add__),
        (re.compile("[a-z]"), re.compile("[0-9]")),
        (re.compile("a"), re.compile("a", re.IGNORECASE)),
        (re.compile("[a-z]").findall, re.compile("[0-9]").findall),
        (re.compile("a").findall, re.compile("a").split),
        (str.lower, str.upper),
        (str.lower, bytes.lower),
        (str.__len__, list.__len__),
        (dict.fromkeys, dict.__dict__["fromkeys"]),
        (Words(" ").split, Words("-").split),
        (Words(" "), Words("-")),
        (functools.partial(round, ndigits=1), functools.partial(round, ndigits=2)),
        (functools.partial(min, 1), functools.partial(max, 1)),
        (lambda a, b: a - b, lambda b, a: b - a),  # a keyword tells them apart
        (lambda text: text[1:], lambda text: text[2:]),
        (slice(1, 2), slice(1, 3)),
        (1j, 2j),
        (..., None),
        (range(3), range(4)),
        (StratifiedKFold(2), StratifiedKFold(3)),
        (RepeatedKFold(n_splits=2), RepeatedKFold(n_splits=3)),
        (PredefinedSplit([0, 1]), PredefinedSplit([1, 0])),
        (make_scorer(f1_score, average="macro"), make_scorer(f1_score, average="micro")),
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


@pytest.mark.parametrize(
    "make",
    [
        lambda: StratifiedKFold(2, shuffle=True, random_state=0),
        lambda: RepeatedKFold(n_splits=2),
        lambda: make_scorer(f1_score, average="macro"),
        lambda: functools.partial(round, ndigits=1),
        lambda: Words(" ").split,
        lambda: re.compile("[a-z]").findall,
    ],
)
def test_objects_made_again_have_the_same_fingerprint(make):
    assert fingerprint(value=make()) == fingerprint(value=make())


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

    def __init__(self):
        self.weights = iter([])  # compiled, as tensors are


class Slotted:
    """Keeps its value where `vars` does not look."""

    __slots__ = ("__dict__", "value")


class Pickled:
    """Has its own idea of what it is."""

    def __getstate__(self):
        return {}


class Seeded(random.Random):
    """Keeps its state in a compiled base."""


def test_models_in_memory_are_refused(tmp_path):
    classifier = PromptClassifier((Loaded(), Loaded()), n_shots=4)
    message = "the 'model' parameter of PromptClassifier must .* cannot be. Give a model by name"
    with pytest.raises(InvalidParameterError, match=message):
        evaluate_seeds(classifier, *TRAIN, *TEST, n_shots=4, folder=tmp_path)


@pytest.mark.parametrize("kind", [object, Slotted, Pickled, Seeded])
def test_objects_that_may_hold_more_than_attributes_are_refused(kind):
    message = rf"what is evaluated must be .* a \S+{kind.__name__} cannot be. Give a number, a text"
    with pytest.raises(InvalidParameterError, match=message):
        fingerprint(value=kind())


def test_functions_bound_to_what_cannot_be_recognised_are_refused():
    with pytest.raises(InvalidParameterError, match=r"a random\.Random cannot be"):
        fingerprint(value=random.Random(0).random)


def test_lambdas_made_ufuncs_are_refused_as_all_have_one_name():
    ufunc = np.frompyfunc(lambda number: number + 1, 1, 1)
    with pytest.raises(InvalidParameterError, match=r"of numpy\.frompyfunc cannot be"):
        fingerprint(value=ufunc)


def test_refusal_names_the_parameter_where_the_user_set_it():
    tokenize = functools.partial(next, iter([]))
    pipeline = make_pipeline(CountVectorizer(tokenizer=tokenize), LogisticRegression())
    name = "estimator__countvectorizer__tokenizer"
    message = (
        rf"^With a folder, the '{name}' parameter of GridSearchCV must be recognised .* Give a"
    )
    with pytest.raises(InvalidParameterError, match=message):
        fingerprint(estimator=GridSearchCV(pipeline, {}))


def test_refusal_names_the_inner_estimator_where_no_outer_name_leads_to_it():
    outer = FunctionTransformer(kw_args={"inner": CountVectorizer(tokenizer=iter([]))})
    with pytest.raises(InvalidParameterError, match="the 'tokenizer' parameter of CountVectorizer"):
        fingerprint(estimator=outer)


def test_value_that_refers_to_itself_is_refused():
    def again(text):
        return again(text[1:]) if text else text

    message = "'func' parameter of FunctionTransformer must .* a value that refers to itself"
    with pytest.raises(InvalidParameterError, match=message):
        fingerprint(estimator=FunctionTransformer(again))


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
