"""Saved blends: a folder of folders, which predicts the same and runs no code."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
from huggingface_hub import ModelCard
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from instructclf import BagOfWordsClassifier, BlendedClassifier, load
from instructclf.exceptions import ModelLoadingError, SavedClassifierError
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

UNSEEN = ["good", "bad thing", "a film that is long and not so good"]


@pytest.fixture
def make_blend(make_prompting, make_tuning):
    def make(**options):
        approaches = [
            ("prompting", make_prompting(n_shots=2)),
            ("tuning", make_tuning(max_epochs=1)),
            ("words", BagOfWordsClassifier(random_state=0)),
        ]
        return BlendedClassifier(approaches, cv=2, random_state=0, **options).fit(TEXTS, LABELS)

    return make


def words_only(**options):
    two = [("words", BagOfWordsClassifier()), ("other", BagOfWordsClassifier(C=1.0))]
    return BlendedClassifier(two, cv=2, random_state=0, **options).fit(TEXTS, LABELS)


def test_a_saved_blend_predicts_the_same(make_blend, tmp_path):
    blend = make_blend()
    blend.save(tmp_path / "blend", scores={"accuracy": 0.75})
    loaded = load(tmp_path / "blend")
    assert_array_equal(loaded.predict_proba(UNSEEN), blend.predict_proba(UNSEEN))
    assert_array_equal(loaded.predict(UNSEEN), blend.predict(UNSEEN))
    assert loaded.weights_ == blend.weights_
    assert loaded.temperatures_ == blend.temperatures_
    assert list(loaded.cv_results_) == list(blend.cv_results_)
    for name, values in blend.cv_results_.items():
        assert_array_equal(loaded.cv_results_[name], values)


def test_the_folder_holds_one_of_each_classifier_that_counts_and_no_code(make_blend, tmp_path):
    blend = make_blend()
    blend.save(tmp_path / "blend")
    names = list(blend.estimators_)
    for number, name in enumerate(names):
        alone = load(tmp_path / f"blend/member-{number}")
        assert_array_equal(
            alone.predict_proba(UNSEEN), blend.estimators_[name].predict_proba(UNSEEN)
        )
    endings = {path.suffix for path in (tmp_path / "blend").rglob("*") if path.is_file()}
    assert endings <= {".json", ".safetensors", ".md"}


def test_the_best_alone_is_saved_without_the_others(make_blend, tmp_path):
    blend = make_blend(method="best")
    blend.save(tmp_path / "blend")
    loaded = load(tmp_path / "blend")
    assert len(loaded.estimators) == 1
    assert loaded.weights_ == blend.weights_
    assert loaded.method == "best"
    assert_array_equal(loaded.predict_proba(UNSEEN), blend.predict_proba(UNSEEN))


def test_a_loaded_blend_is_cloned_saved_and_fitted_again(tmp_path):
    words_only().save(tmp_path / "one")
    loaded = load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    again = load(tmp_path / "two")
    assert clone(again).get_params()["words__C"] == "auto"
    again.fit(TEXTS, LABELS)
    assert again.cv == 2


def test_a_blend_of_blends_is_saved(tmp_path):
    two = [("inner", words_only()), ("words", BagOfWordsClassifier())]
    blend = BlendedClassifier(two, cv=2, random_state=0).fit(TEXTS, LABELS)
    blend.save(tmp_path / "blend")
    assert_array_equal(load(tmp_path / "blend").predict_proba(UNSEEN), blend.predict_proba(UNSEEN))


def test_the_card_lists_what_was_tried(make_blend, tmp_path):
    blend = make_blend()
    blend.save(tmp_path / "blend", scores={"accuracy": 0.75})
    card = (tmp_path / "blend/README.md").read_text()
    for name, weight in blend.weights_.items():
        number = list(blend.estimators_).index(name) if weight else None
        folder = "none" if number is None else f"`member-{number}`"
        assert f"| {name} | {folder} | {weight:.4f} |" in card
    assert "| accuracy | 0.7500 |" in card
    tried = [line for line in card.splitlines() if line.startswith(("| classifier |", "| words |"))]
    assert len({line.count(" | ") for line in tried}) == 1


def test_the_hub_reads_the_cards(tmp_path):
    words_only().save(tmp_path / "blend")
    for path in (tmp_path / "blend").rglob("README.md"):
        data = ModelCard.load(path).data
        assert data.library_name == "instructclf"
        assert data.pipeline_tag == "text-classification"


def test_a_blend_is_pickled():
    blend = words_only()
    again = pickle.loads(pickle.dumps(blend))
    assert_array_equal(again.predict_proba(UNSEEN), blend.predict_proba(UNSEEN))


def test_cards_may_be_edited_and_nothing_else(tmp_path):
    words_only().save(tmp_path / "blend")
    for card in (tmp_path / "blend").rglob("README.md"):
        card.write_text("Mine.")
    load(tmp_path / "blend")
    words = tmp_path / "blend/member-0/words.json"
    words.write_text(words.read_text() + " ")
    with pytest.raises(SavedClassifierError, match="is not the file that was saved"):
        load(tmp_path / "blend")


def test_options_reach_a_classifier_by_its_name(make_blend, tmp_path):
    make_blend().save(tmp_path / "blend")
    loaded = load(tmp_path / "blend", prompting__verbose=1, verbose=1)
    assert loaded.estimators_["prompting"].verbose == 1
    assert loaded.verbose == 1


def test_other_options_are_errors(tmp_path):
    words_only().save(tmp_path / "blend")
    for change in ({"method": "best"}, {"estimators": []}, {"model": "m"}, {"tuning__model": "m"}):
        with pytest.raises(SavedClassifierError, match="cannot be set while loading this Blended"):
            load(tmp_path / "blend", **change)


def test_a_base_model_that_is_gone_names_the_option(
    make_prompting, fresh_folder, model_folder, tmp_path
):
    two = [("prompting", make_prompting(model=fresh_folder)), ("words", BagOfWordsClassifier())]
    inner = BlendedClassifier(two, cv=2, random_state=0)
    blend = BlendedClassifier([("inner", inner)], cv=2, random_state=0).fit(TEXTS, LABELS)
    blend.save(tmp_path / "blend")
    shutil.rmtree(fresh_folder)
    with pytest.raises(
        ModelLoadingError, match=r"load\('.*blend', inner__prompting__model=\.\.\.\)"
    ):
        load(tmp_path / "blend")
    loaded = load(tmp_path / "blend", inner__prompting__model=model_folder)
    assert_array_equal(loaded.predict_proba(UNSEEN), blend.predict_proba(UNSEEN))


def test_a_foreign_classifier_cannot_be_saved(tmp_path):
    foreign = make_pipeline(TfidfVectorizer(), LogisticRegression())
    two = [("words", BagOfWordsClassifier()), ("svm", foreign)]
    blend = BlendedClassifier(two, cv=2, random_state=0).fit(TEXTS, LABELS)
    assert blend.weights_["svm"] > 0
    with pytest.raises(SavedClassifierError, match="'svm' is a Pipeline, which only a pickle"):
        blend.save(tmp_path / "blend")
    assert not (tmp_path / "blend").exists()


def test_a_splitter_cannot_be_saved(tmp_path):
    blend = words_only().set_params(cv=StratifiedKFold(2))
    with pytest.raises(SavedClassifierError, match="cv=StratifiedKFold"):
        blend.save(tmp_path / "blend")


def test_it_must_be_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        BlendedClassifier([("words", BagOfWordsClassifier())]).save(tmp_path / "blend")


def test_scores_are_exact_in_json(tmp_path):
    blend = words_only()
    blend.save(tmp_path / "blend")
    record = json.loads((tmp_path / "blend/classifier.json").read_text())
    assert record["class"] == "BlendedClassifier"
    assert record["members"] == list(blend.estimators_)
    assert np.isclose(sum(dict(record["fitted"]["weights_"]["dict"]).values()), 1)
