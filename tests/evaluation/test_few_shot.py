import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation import FewShot, evaluate_seeds
from instructclf.exceptions import InvalidLabelsError, InvalidShotsError, InvalidTextsError
from instructclf.sampling import BalancedSampler
from tests.classifiers.test_sklearn_contract import DATA_FREE_CHECKS, RowsAsTexts

TEXTS = [f"good {i}" for i in range(20)] + [f"bad {i}" for i in range(20)]
LABELS = ["p"] * 20 + ["n"] * 20
TEST = (["good", "bad", "good bad", "other"], ["p", "n", "p", "n"])


class Weighed(ClassifierMixin, BaseEstimator):
    """A logistic regression on words, whose fit takes weights by that name."""

    def fit(self, X, y, sample_weight=None):
        self.words_ = TfidfVectorizer().fit(X)
        self.inner_ = LogisticRegression().fit(self.words_.transform(X), y, sample_weight)
        self.classes_ = self.inner_.classes_
        return self

    def predict(self, X):
        return self.inner_.predict(self.words_.transform(X))


def svm():
    return make_pipeline(TfidfVectorizer(), LinearSVC())


def regression():
    return make_pipeline(TfidfVectorizer(), LogisticRegression())


def test_classifier_is_trained_on_the_rows_that_the_sampler_draws():
    few = FewShot(regression(), n_shots=6, random_state=3).fit(TEXTS, LABELS)
    drawn = BalancedSampler().select(TEXTS, LABELS, 6, random_state=np.random.RandomState(3))
    assert_array_equal(few.shots_, drawn)
    alone = regression().fit([TEXTS[i] for i in drawn], [LABELS[i] for i in drawn])
    assert_array_equal(few.predict(TEST[0]), alone.predict(TEST[0]))
    for method in ("predict_proba", "predict_log_proba", "decision_function"):
        assert_allclose(getattr(few, method)(TEST[0]), getattr(alone, method)(TEST[0]))
    assert few.score(*TEST) == alone.score(*TEST)
    assert_array_equal(few.classes_, ["n", "p"])


def test_the_classifier_given_is_not_touched():
    inner = svm()
    FewShot(inner, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    assert not hasattr(inner[-1], "coef_")


def test_only_methods_of_the_classifier_exist():
    for few in (FewShot(svm(), n_shots=4), FewShot(svm(), n_shots=4).fit(TEXTS, LABELS)):
        assert hasattr(few, "decision_function")
        assert not hasattr(few, "predict_proba")
    assert hasattr(FewShot(regression()), "predict_proba")


def test_weights_are_cut_to_the_shots_and_other_arguments_passed_on():
    weights = np.arange(1.0, 41.0)
    few = FewShot(regression(), n_shots=6, random_state=0)
    few.fit(TEXTS, LABELS, logisticregression__sample_weight=weights)
    drawn = few.shots_
    alone = regression().fit(
        [TEXTS[i] for i in drawn],
        [LABELS[i] for i in drawn],
        logisticregression__sample_weight=weights[drawn],
    )
    assert_allclose(few.predict_proba(TEST[0]), alone.predict_proba(TEST[0]))
    unweighted = clone(few).fit(TEXTS, LABELS, logisticregression__sample_weight=None)
    assert not np.allclose(unweighted.predict_proba(TEST[0]), few.predict_proba(TEST[0]))


@pytest.mark.parametrize("routes", [False, True])
def test_weights_reach_the_classifier_through_a_search(routes):
    """Weight is on the rows whose words contradict their labels."""
    texts = [f"{word} {i}" for i in range(10) for word in ("good", "bad", "good", "bad")]
    labels, weights = ["p", "n", "n", "p"] * 10, [1.0, 1.0, 50.0, 50.0] * 10
    with config_context(enable_metadata_routing=routes):
        inner = Weighed().set_fit_request(sample_weight=True) if routes else Weighed()
        few = FewShot(inner, n_shots=None)
        if routes:
            few.set_score_request(sample_weight=True)
        search = GridSearchCV(few, {"n_shots": [None]}, cv=2)
        search.fit(texts, labels, sample_weight=np.array(weights))
    assert search.predict(["good", "bad"]).tolist() == ["n", "p"]


def test_weights_that_nobody_asked_for_are_refused_where_they_are_routed():
    with config_context(enable_metadata_routing=True):
        few = FewShot(Weighed().set_fit_request(sample_weight=False), n_shots=4)
        with pytest.raises(TypeError, match="sample_weight"):
            few.fit(TEXTS, LABELS, sample_weight=np.ones(40))


def test_a_weight_for_each_text_is_needed():
    with pytest.raises(ValueError, match="Got 6 values of sample_weight for 40 texts"):
        FewShot(Weighed(), n_shots=6).fit(TEXTS, LABELS, sample_weight=np.ones(6))


def test_all_rows_can_be_taken():
    few = FewShot(regression(), n_shots=None).fit(TEXTS, LABELS)
    assert_array_equal(few.shots_, np.arange(40))
    assert_allclose(
        few.predict_proba(TEST[0]), regression().fit(TEXTS, LABELS).predict_proba(TEST[0])
    )


def test_shots_and_inner_parameters_can_be_searched():
    search = GridSearchCV(
        FewShot(svm(), random_state=0), {"n_shots": [4, 8], "estimator__linearsvc__C": [1, 10]}
    )
    search.fit(TEXTS, LABELS)
    assert search.best_score_ > 0.5
    assert cross_val_score(FewShot(svm(), n_shots=4), TEXTS, LABELS, cv=3).shape == (3,)


def test_tags_are_those_of_the_classifier_for_texts():
    few = FewShot(MultinomialNB())
    assert is_classifier(few)
    tags = get_tags(few)
    assert tags.classifier_tags == get_tags(MultinomialNB()).classifier_tags
    assert (tags.input_tags.string, tags.input_tags.two_d_array) == (True, False)


def test_series_and_arrays_are_texts():
    pandas = pytest.importorskip("pandas")
    expected = FewShot(svm(), n_shots=4, random_state=0).fit(TEXTS, LABELS)
    for kind in (pandas.Series, np.array, tuple):
        few = FewShot(svm(), n_shots=4, random_state=0).fit(kind(TEXTS), kind(LABELS))
        assert_array_equal(few.shots_, expected.shots_)
        assert_array_equal(few.predict(kind(TEST[0])), expected.predict(TEST[0]))


def test_our_classifiers_may_stand_inside(make_prompting):
    few = FewShot(make_prompting(n_shots=None), n_shots=2)
    scores = evaluate_seeds(few, TEXTS, LABELS, *TEST, n_seeds=1)
    likeliest = scores.classes[scores.log_probabilities[0].argmax(axis=1)]
    assert_array_equal(scores.predictions[0], likeliest)


def test_unfitted_use_is_refused():
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError, match="This FewShot instance is not fitted yet"):
            getattr(FewShot(regression()), method)(["good"])


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        (TEXTS, None, InvalidLabelsError, "requires y to be passed, but the target y is None"),
        (TEXTS, LABELS[:-1], InvalidLabelsError, "40 texts in X and 39 labels in y"),
        (["a", 1], ["p", "n"], InvalidTextsError, r"Text 1 is 1 \(int\), expected a str"),
        (TEXTS[:10], LABELS[:10], InvalidLabelsError, "when only one class is present"),
        (TEXTS[15:25], LABELS[15:25], InvalidShotsError, "n_shots=16 is more than the 10"),
    ],
)
def test_rows_that_do_not_fit_are_refused(X, y, error, message):
    with pytest.raises(error, match=message):
        FewShot(svm()).fit(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_shots": 0}, "'n_shots' parameter of FewShot must be an int .* Got 0 instead"),
        ({"sampler": 3}, "'sampler' parameter of FewShot"),
        ({"estimator": TfidfVectorizer()}, "must be an object implementing 'fit' and 'predict'"),
    ],
)
def test_parameters_outside_their_domain_are_refused(options, message):
    few = FewShot(svm()).set_params(**options)
    with pytest.raises(InvalidParameterError, match=message):
        few.fit(TEXTS, LABELS)


# This one has data where an estimator has decision values: it runs below, on texts.
@pytest.mark.parametrize("name", sorted({*DATA_FREE_CHECKS} - {"check_decision_proba_consistency"}))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_checks_that_need_no_data(name):
    getattr(estimator_checks, name)("FewShot", FewShot(regression()))


class FewRows(RowsAsTexts, FewShot):
    """Rows of numbers, written out as texts."""

    def predict(self, X):
        return super().predict(self._write(X))

    def predict_proba(self, X):
        return super().predict_proba(self._write(X))

    def decision_function(self, X):
        return super().decision_function(self._write(X))


def test_all_checks_on_rows_written_out():
    words = TfidfVectorizer(token_pattern=r"\S+")
    few = FewRows(make_pipeline(words, LogisticRegression()), n_shots=7, random_state=0)
    results = estimator_checks.check_estimator(few, on_skip=None, on_fail=None)
    failed = {
        one["check_name"]: f"{type(one['exception']).__name__}: {one['exception']}"
        for one in results
        if one["status"] == "failed"
    }
    assert not failed
    assert sum(one["status"] == "passed" for one in results) > 40
