"""Saved wrappers: a folder around that of the classifier inside, which predicts the same."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from huggingface_hub import ModelCard
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from instructclf import (
    BagOfWordsClassifier,
    BlendedClassifier,
    ConformalClassifier,
    OrdinalClassifier,
    SelectiveClassifier,
    load,
)
from instructclf.exceptions import AllAbstainedWarning, ModelLoadingError, SavedClassifierError
from tests.classifiers.wrapping.words import ASKED, draw, regression
from tests.fixtures import LABELS as FEW_LABELS
from tests.fixtures import TEXTS as FEW_TEXTS

TEXTS, LABELS = draw(200)
STARS = np.where(LABELS == "positive", 5, 1)
SCORES = {"positive": 2, "negative": -1}
RISK = {"risk": 0.9, "confidence": 0.5}  # which few rows can show


def words(**options):
    return BagOfWordsClassifier(C=1.0, **options)


def fit_ordinal():
    return OrdinalClassifier(words(), scores=SCORES).fit(TEXTS, LABELS)


def fit_selective():
    return SelectiveClassifier(words(), risk=0.2, random_state=0).fit(TEXTS, LABELS)


def fit_conformal():
    conformal = ConformalClassifier(words(), class_conditional=True, cv=0.4, random_state=0)
    return conformal.fit(TEXTS, LABELS)


def fit_prefit():
    return SelectiveClassifier(words().fit(TEXTS, LABELS), risk=0.3, cv="prefit").fit(TEXTS, LABELS)


def fit_blend_inside():
    two = [("words", words()), ("single", words(ngram_range=(1, 1)))]
    blend = BlendedClassifier(two, cv=2, random_state=0)
    return ConformalClassifier(blend, cv=4).fit(TEXTS, LABELS)


def fit_blend_outside():
    two = [("stars", OrdinalClassifier(words())), ("words", words(ngram_range=(1, 1)))]
    return BlendedClassifier(two, cv=2, random_state=0).fit(TEXTS, STARS)


def fit_three():
    ordinal = OrdinalClassifier(ConformalClassifier(words(), random_state=0))
    return SelectiveClassifier(ordinal, **RISK, random_state=0).fit(TEXTS, STARS)


WRAPPERS = [fit_ordinal, fit_selective, fit_conformal]
ALL = [*WRAPPERS, fit_prefit, fit_blend_inside, fit_blend_outside, fit_three]


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves a classifier and returns its folder."""

    def save(classifier):
        classifier.save(tmp_path / "saved")
        return tmp_path / "saved"

    return save


def record_of(folder):
    return json.loads((folder / "classifier.json").read_text(encoding="utf-8"))


def load_again(classifier, tmp_path):
    classifier.save(tmp_path / "again")
    return load(tmp_path / "again")


def say(classifier):
    """Return everything that a classifier says of texts."""
    further = [
        getattr(classifier, name)(ASKED)
        for name in ("predict_set", "expected_score")
        if hasattr(classifier, name)
    ]
    return [classifier.predict_proba(ASKED), classifier.predict(ASKED), *further]


# What comes back


@pytest.mark.parametrize("fit", ALL)
def test_a_loaded_wrapper_says_the_same_to_the_last_bit(fit, saved):
    fitted = fit()
    loaded = load(saved(fitted))
    assert type(loaded) is type(fitted)
    for said, expected in zip(say(loaded), say(fitted), strict=True):
        assert_array_equal(said, expected)


@pytest.mark.parametrize("fit", WRAPPERS)
def test_what_was_learned_and_all_parameters_come_back(fit, saved):
    fitted = fit()
    loaded = load(saved(fitted))
    for name, value in vars(fitted).items():
        if not name.startswith("estimator"):
            assert_array_equal(getattr(loaded, name), value)
            assert type(getattr(loaded, name)) is type(value)
    assert repr(loaded.estimator) == repr(fitted.estimator)


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
@pytest.mark.parametrize("kind", ["ordinal", "selective", "conformal"])
def test_a_prompted_or_tuned_classifier_inside_predicts_the_same(
    kind, make_prompting, make_tuning, saved
):
    wrapper = {
        "ordinal": OrdinalClassifier(make_tuning(), scores=SCORES),
        "selective": SelectiveClassifier(
            OrdinalClassifier(make_prompting(), scores=SCORES), **RISK
        ),
        "conformal": ConformalClassifier(make_prompting(), confidence_level=0.6),
    }[kind]
    fitted = wrapper.fit(FEW_TEXTS, FEW_LABELS)
    loaded = load(saved(fitted))
    assert_array_equal(loaded.predict_proba(FEW_TEXTS), fitted.predict_proba(FEW_TEXTS))
    assert_array_equal(loaded.predict(FEW_TEXTS), fitted.predict(FEW_TEXTS))


def test_a_classifier_that_abstains_always_keeps_its_infinite_threshold(saved):
    selective = SelectiveClassifier(words(), risk=0.05, random_state=0)
    with pytest.warns(AllAbstainedWarning):
        selective.fit(TEXTS, np.random.default_rng(0).permutation(LABELS))
    loaded = load(saved(selective))
    assert loaded.threshold_ == np.inf
    assert loaded.predict(ASKED).tolist() == [None] * len(ASKED)


@pytest.mark.parametrize("fit", ALL)
def test_saving_what_was_loaded_writes_the_same(fit, saved, tmp_path):
    folder = saved(fit())
    load(folder).save(tmp_path / "again")
    assert record_of(tmp_path / "again") == record_of(folder)


def test_a_classifier_that_was_fitted_before_is_the_one_inside(saved):
    loaded = load(saved(fit_prefit()))
    assert loaded.estimator is loaded.estimator_
    again = clone(loaded).set_params(estimator=loaded.estimator).fit(TEXTS, LABELS)
    assert again.threshold_ == loaded.threshold_


def test_a_frozen_classifier_stays_frozen(saved):
    frozen = FrozenEstimator(words().fit(TEXTS, LABELS))
    fitted = OrdinalClassifier(frozen, scores=SCORES).fit(TEXTS[:20], LABELS[:20])
    loaded = load(saved(fitted))
    assert isinstance(loaded.estimator, FrozenEstimator)
    refitted = clone(loaded).fit(["great thing", "awful thing"], ["negative", "positive"])
    assert_array_equal(refitted.predict(ASKED), fitted.predict(ASKED))


def test_a_loaded_wrapper_is_fitted_again(saved):
    again = load(saved(fit_selective())).fit(TEXTS, LABELS)
    assert again.threshold_ == fit_selective().threshold_


# The folder


@pytest.mark.parametrize("fit", WRAPPERS)
def test_the_folder_holds_that_of_the_classifier_inside_and_no_code(fit, saved):
    fitted = fit()
    folder = saved(fitted)
    inside = load(folder / "estimator")
    assert_array_equal(inside.predict_proba(ASKED), fitted.estimator_.predict_proba(ASKED))
    endings = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert endings == {".json", ".safetensors", ".md"}


@pytest.mark.parametrize(
    ("fit", "lines"),
    [
        (
            fit_ordinal,
            ["labels, lowest first | negative, positive", "score of `negative` | -1"],
        ),
        (
            fit_selective,
            ["`risk` | 0.2", "`confidence` | 0.95", "`cv` | 0.5", "held-out rows | 100"],
        ),
        (
            fit_conformal,
            ["`confidence_level` | 0.9", "`class_conditional` | True", "held-out rows | 80"],
        ),
    ],
)
def test_the_card_says_what_was_stated_and_what_was_learned(fit, lines, saved):
    card = (saved(fit()) / "README.md").read_text(encoding="utf-8")
    for line in [*lines, "classifier inside | `BagOfWordsClassifier`, in the folder `estimator`"]:
        assert f"| {line} |\n" in card


@pytest.mark.parametrize("fit", [fit_selective, fit_conformal])
def test_the_card_has_all_digits_of_thresholds(fit, saved):
    fitted = fit()
    card = (saved(fitted) / "README.md").read_text(encoding="utf-8")
    learned = fitted.threshold_ if fit is fit_selective else fitted.thresholds_
    for threshold in np.atleast_1d(learned):
        assert f"| {threshold:.9g} |" in card


def test_the_hub_reads_the_card_with_scores(tmp_path):
    fit_selective().save(tmp_path / "saved", scores={"accuracy": 0.75})
    card = ModelCard.load(tmp_path / "saved/README.md")
    assert card.data.library_name == "instructclf"
    assert "| accuracy | 0.7500 |" in card.content


# Options of load


def test_options_reach_the_classifier_inside_by_nested_names(saved):
    folder = saved(fit_three())
    loaded = load(folder, estimator__estimator__estimator__verbose=1, estimator__estimator__cv=3)
    assert loaded.estimator_.estimator_.estimator_.verbose == 1
    assert loaded.estimator_.estimator_.cv == 3


def test_options_of_the_next_fit_may_be_set(saved):
    loaded = load(saved(fit_selective()), cv=0.3, random_state=7)
    assert (loaded.cv, loaded.random_state) == (0.3, 7)


@pytest.mark.parametrize(
    ("fit", "change"),
    [
        (fit_ordinal, {"scores": None}),
        (fit_ordinal, {"estimator": None}),
        (fit_selective, {"risk": 0.1}),
        (fit_selective, {"confidence": 0.5}),
        (fit_conformal, {"confidence_level": 0.8}),
        (fit_conformal, {"class_conditional": False}),
        (fit_conformal, {"model": "bundled"}),
    ],
)
def test_parameters_that_say_what_was_fitted_cannot_be_set(fit, change, saved):
    (name,) = change
    match = f"'{name}' cannot be set while loading this .*Classifier. Give .* estimator__model"
    with pytest.raises(SavedClassifierError, match=match):
        load(saved(fit()), **change)


def test_a_base_model_that_is_gone_names_the_option_that_load_takes(
    make_prompting, fresh_folder, model_folder, saved
):
    ordinal = OrdinalClassifier(make_prompting(model=fresh_folder), scores=SCORES)
    selective = SelectiveClassifier(ordinal, **RISK, random_state=0).fit(FEW_TEXTS, FEW_LABELS)
    folder = saved(selective)
    shutil.rmtree(fresh_folder)
    match = r"is not here: .*: load\('.*saved', estimator__estimator__model=\.\.\.\)\.$"
    with pytest.raises(ModelLoadingError, match=match):
        load(folder)
    loaded = load(folder, estimator__estimator__model=model_folder)
    assert_array_equal(loaded.predict_proba(FEW_TEXTS), selective.predict_proba(FEW_TEXTS))


# What cannot be saved


@pytest.mark.parametrize(
    ("classifier", "name", "remedy"),
    [
        (OrdinalClassifier(regression(), scores=SCORES), "'estimator' is a Pipeline", "Take a"),
        (
            SelectiveClassifier(OrdinalClassifier(regression(), scores=SCORES), **RISK),
            "'estimator__estimator' is a Pipeline",
            "such as PromptClassifier or BagOfWordsClassifier, instead, or pickle the Selective",
        ),
        (
            ConformalClassifier(GridSearchCV(words(), {"C": [1.0, 2.0]}, cv=2)),
            "'estimator' is a GridSearchCV",
            "put its best_estimator_ in its place in the fitted ConformalClassifier, or",
        ),
        (
            BlendedClassifier([("foreign", OrdinalClassifier(regression(), scores=SCORES))], cv=2),
            "'foreign__estimator' is a Pipeline",
            "or pickle the BlendedClassifier",
        ),
    ],
    ids=["pipeline", "pipeline in a wrapper", "search", "wrapper in a blend"],
)
@pytest.mark.parametrize("method", ["save", "push_to_hub"])
def test_what_only_a_pickle_could_store_is_refused(classifier, name, remedy, method, tmp_path):
    fitted = clone(classifier).fit(TEXTS, LABELS)
    with pytest.raises(SavedClassifierError, match=f"{name}, which only a pickle .*{remedy}"):
        getattr(fitted, method)(str(tmp_path / "some" / "saved"))
    assert not (tmp_path / "some").exists()


@pytest.mark.parametrize(
    ("fit", "change", "message"),
    [
        (fit_selective, {"risk": 0.01}, "risk=0.01 was set after the fit with risk=0.2, which thr"),
        (fit_conformal, {"class_conditional": False}, "class_conditional=False was set after"),
        (
            fit_ordinal,
            {"scores": {"negative": 5, "positive": 1}},
            "scores=.* belong to. Set it back",
        ),
    ],
)
def test_a_card_never_states_what_was_not_fitted(fit, change, message, tmp_path):
    fitted = fit()
    (name,) = change
    before = getattr(fitted, name)
    for one in (fitted, load_again(fitted, tmp_path)):
        with pytest.raises(SavedClassifierError, match=message):
            one.set_params(**change).save(tmp_path / "some" / "saved")
        assert not (tmp_path / "some").exists()
        one.set_params(**{name: before}).save(tmp_path / "back")


def test_a_search_is_saved_as_what_it_has_found(saved):
    search = GridSearchCV(words(), {"C": [1.0, 2.0]}, cv=2)
    conformal = ConformalClassifier(search, random_state=0).fit(TEXTS, LABELS)
    expected = say(conformal)
    conformal.estimator_ = conformal.estimator_.best_estimator_
    for said, found in zip(expected, say(load(saved(conformal))), strict=True):
        assert_array_equal(said, found)


@pytest.mark.parametrize(
    "change", [{"cv": StratifiedKFold(2)}, {"random_state": np.random.RandomState(0)}]
)
def test_a_parameter_that_is_no_text_is_refused(change, tmp_path):
    (name,) = change
    with pytest.raises(SavedClassifierError, match=f"{name}=.* cannot be saved as text"):
        fit_selective().set_params(**change).save(tmp_path / "some" / "saved")
    assert not (tmp_path / "some").exists()


@pytest.mark.parametrize(
    "unfitted",
    [
        OrdinalClassifier(words()),
        ConformalClassifier(words()),
        SelectiveClassifier(words().fit(TEXTS, LABELS), cv="prefit"),
    ],
)
def test_it_must_be_fitted(unfitted, tmp_path):
    for write in (unfitted.save, unfitted.push_to_hub):
        with pytest.raises(NotFittedError):
            write(str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()


def test_a_save_that_fails_inside_leaves_the_old_folder_whole(saved, tmp_path):
    folder = saved(fit_ordinal())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = fit_selective()
    other.estimator_.random_state = np.random.RandomState(0)
    with pytest.raises(SavedClassifierError, match="random_state=.* cannot be saved as text"):
        other.save(folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_nothing_else_is_replaced(tmp_path):
    (tmp_path / "results.csv").write_text("1")
    with pytest.raises(SavedClassifierError, match=r"holds something else: there is no 'classifi"):
        fit_ordinal().save(tmp_path)


def test_a_base_model_is_named_only_where_there_is_one():
    with pytest.raises(SavedClassifierError, match="base_model='a/b' names one .* has none. Leave"):
        fit_ordinal().push_to_hub("me/stars", base_model="a/b")


# What was changed


CHANGED = [
    (fit_ordinal, lambda fitted: fitted.pop("scores_"), "it has no scores_"),
    (
        fit_ordinal,
        lambda fitted: fitted.update(scores_=[1, 2]),
        r"scores_=\[1, 2\] is no array of 2",
    ),
    (
        fit_ordinal,
        lambda fitted: fitted["scores_"].update(array=[1.0, 1.0]),
        "scores_=.* the same score",
    ),
    (
        fit_ordinal,
        lambda fitted: fitted["scores_"].update(dtype="O"),
        "scores_ cannot be read: .*'O",
    ),
    (fit_ordinal, lambda fitted: fitted["scores_"].update(shape=[3]), "scores_ cannot be read: "),
    (
        fit_ordinal,
        lambda fitted: fitted["scores_"].update(array=[1.0, {"number": "nan"}]),
        "scores_=array.* finite",
    ),
    (
        fit_conformal,
        lambda fitted: fitted["thresholds_"].update(array=[0.5], shape=[1]),
        r"thresholds_=array\(\[0.5\]\) is no array of 2 finite numbers, one for each label",
    ),
    (fit_conformal, lambda fitted: fitted.update(held_out_=7), "held_out_=7 is no list of rows"),
    (
        fit_selective,
        lambda fitted: fitted.update(threshold_="high"),
        "threshold_='high' is no prob",
    ),
    (
        fit_selective,
        lambda fitted: fitted.update(threshold_={"number": "nan"}),
        "threshold_=nan is",
    ),
    (fit_selective, lambda fitted: fitted.update(coverage_=1.5), "coverage_=1.5 is no share"),
    (
        fit_selective,
        lambda fitted: fitted.update(held_out_={"code": "x"}),
        "held_out_ cannot be read",
    ),
]


@pytest.mark.parametrize(("fit", "change", "message"), CHANGED)
def test_a_value_that_was_changed_is_named(fit, change, message, saved):
    folder = saved(fit())
    record = record_of(folder)
    change(record["fitted"])
    (folder / "classifier.json").write_text(json.dumps(record))
    match = f"classifier.json is not what was saved: {message}.*save the classifier again"
    with pytest.raises(SavedClassifierError, match=match):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["parameters"].update(risk=2.0), "'risk' parameter .* Got 2.0"),
        (lambda record: record["parameters"].update(riks=0.2), "has no parameter 'riks'"),
        (lambda record: record.pop("is_frozen"), "its 'is_frozen' is None, and no bool"),
        (lambda record: record.pop("fitted"), "its 'fitted' is None, and no dict"),
        (lambda record: record.pop("files"), "its 'files' is None, and no dict"),
        (lambda record: record.update(parameters=[]), r"its 'parameters' is \[\], and no dict"),
        (lambda record: record.update({"class": "Wrapper"}), "is of a 'Wrapper'. There are: "),
    ],
)
def test_an_entry_that_was_changed_or_removed_is_named(change, message, saved):
    folder = saved(fit_selective())
    record = record_of(folder)
    change(record)
    (folder / "classifier.json").write_text(json.dumps(record))
    with pytest.raises(SavedClassifierError, match=f"classifier.json .*{message}"):
        load(folder)


@pytest.mark.parametrize("name", ["classifier.json", "words.json", "weights.safetensors"])
def test_a_file_of_the_classifier_inside_is_checked(name, saved):
    folder = saved(fit_three())
    (path,) = (folder / "estimator/estimator/estimator").glob(name)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(SavedClassifierError, match=f"{name} is not the file that was saved.*copy"):
        load(folder)
    path.unlink()
    with pytest.raises(SavedClassifierError, match=f"{name} is missing .* Save it again, or copy"):
        load(folder)


def test_another_classifier_inside_is_noticed(saved, tmp_path):
    folder = saved(fit_selective())
    fit_ordinal().save(tmp_path / "other")
    shutil.rmtree(folder / "estimator")
    shutil.copytree(tmp_path / "other", folder / "estimator")
    with pytest.raises(SavedClassifierError, match=r"estimator.classifier.json is not the file"):
        load(folder)


def test_cards_may_be_edited(saved):
    folder = saved(fit_three())
    for card in folder.rglob("README.md"):
        card.write_text("Mine.")
    assert_array_equal(load(folder).predict(ASKED), fit_three().predict(ASKED))
