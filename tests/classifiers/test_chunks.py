"""Predictions in chunks are those of one call, and no chunk is scored twice."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import load, predict_in_chunks
from instructclf.engine.scoring.label_scoring import LabelScorer
from instructclf.exceptions import CheckpointError
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

UNSEEN = [f"text {number} </s> {{input}}" * (1 + number % 3) for number in range(9)] + ["text 0"]


@pytest.fixture
def scored(monkeypatch):
    """Return the texts that went through a model. One text stands for losing patience."""
    seen = []
    score = LabelScorer.score

    def count(self, texts, progress=None):
        if seen and "interrupt" in seen[0] and "text 5" in "".join(texts):
            seen.clear()
            raise KeyboardInterrupt
        seen.extend(texts)
        return score(self, texts, progress)

    monkeypatch.setattr(LabelScorer, "score", count)
    return seen


@pytest.mark.parametrize("options", [{}, {"n_seeds": 2}], ids=["one seed", "seeds"])
def test_chunks_are_what_one_call_predicts(options, make_classifier, tmp_path):
    classifier = make_classifier(**options).fit(TEXTS, LABELS)
    expected = classifier.predict_log_proba(UNSEEN)
    for size in (1, 4, 10, 11):
        found = predict_in_chunks(classifier, UNSEEN, tmp_path / str(size), chunk_size=size)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert len(list((tmp_path / str(size)).iterdir())) == -(-10 // size)


def test_what_is_done_is_not_scored_again(make_prompting, tmp_path, scored):
    classifier = make_prompting().fit(TEXTS, LABELS)
    expected = predict_in_chunks(classifier, UNSEEN, tmp_path / "whole", chunk_size=3)
    scored[:] = ["interrupt"]
    with pytest.raises(KeyboardInterrupt):
        predict_in_chunks(classifier, UNSEEN, tmp_path / "cut", chunk_size=3)
    found = predict_in_chunks(classifier, UNSEEN, tmp_path / "cut", chunk_size=3)
    assert scored == UNSEEN[3:]  # the second chunk was cut off
    np.testing.assert_array_equal(found, expected)
    scored.clear()
    again = predict_in_chunks(classifier, UNSEEN, tmp_path / "cut", chunk_size=3)
    np.testing.assert_array_equal(again, expected)
    assert scored == []


def test_a_loaded_classifier_goes_on_with_the_chunks_of_the_one_that_was_saved(
    make_tuning, tmp_path, scored
):
    classifier = make_tuning().fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    expected = predict_in_chunks(classifier, UNSEEN, tmp_path / "chunks", chunk_size=3)
    scored.clear()
    loaded = load(tmp_path / "saved")
    found = predict_in_chunks(loaded, UNSEEN, tmp_path / "chunks", chunk_size=3)
    np.testing.assert_array_equal(found, expected)
    assert scored == []


def test_another_classifier_other_texts_and_another_size_are_refused(make_tuning, tmp_path):
    classifier = make_tuning(n_shots=4).fit(TEXTS, LABELS)
    predict_in_chunks(classifier, UNSEEN, tmp_path, chunk_size=5)
    other = make_tuning(n_shots=4, random_state=1).fit(TEXTS, LABELS)
    refused = [
        (other, UNSEEN, 5, "of another classifier"),
        (classifier, UNSEEN[::-1], 5, "of other texts"),
        (classifier, UNSEEN[:5], 5, "of other texts"),
        (classifier, UNSEEN, 4, "in chunks of 5 texts"),
    ]
    for one, texts, size, meaning in refused:
        match = (
            rf"chunk-000000\.safetensors holds predictions {meaning}\. Give another folder than '"
        )
        with pytest.raises(CheckpointError, match=match):
            predict_in_chunks(one, texts, tmp_path, chunk_size=size)


def test_shots_for_each_text_make_another_classifier(make_prompting, tmp_path):
    """Nothing but the rows to choose from differs."""
    one = make_prompting(sampler="knn", calibration=None).fit(TEXTS, LABELS)
    other = make_prompting(sampler="knn", calibration=None).fit([*TEXTS[:-1], "new"], LABELS)
    predict_in_chunks(one, UNSEEN, tmp_path)
    with pytest.raises(CheckpointError, match="of another classifier"):
        predict_in_chunks(other, UNSEEN, tmp_path)


def test_a_damaged_chunk_is_refused_by_name(make_prompting, tmp_path):
    classifier = make_prompting().fit(TEXTS, LABELS)
    expected = predict_in_chunks(classifier, UNSEEN, tmp_path, chunk_size=4)
    path = tmp_path / "chunk-000001.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"chunk-000001\..* Delete it, and its texts are"):
        predict_in_chunks(classifier, UNSEEN, tmp_path, chunk_size=4)
    path.unlink()
    found = predict_in_chunks(classifier, UNSEEN, tmp_path, chunk_size=4)
    np.testing.assert_array_equal(found, expected)


def test_progress_is_shown_where_it_was_asked_for(make_prompting, tmp_path, capsys):
    classifier = make_prompting(calibration=None).fit(TEXTS, LABELS)
    predict_in_chunks(classifier, UNSEEN, tmp_path / "silent", chunk_size=5)
    assert capsys.readouterr().err == ""
    classifier.set_params(verbose=1)
    predict_in_chunks(classifier, UNSEEN, tmp_path / "shown", chunk_size=5)
    shown = capsys.readouterr().err
    assert "Chunks" in shown
    assert "2/2" in shown


def test_what_cannot_be_predicted_in_chunks_is_an_error(make_prompting, tmp_path):
    fitted = make_prompting().fit(TEXTS, LABELS)
    with pytest.raises(InvalidParameterError, match="'chunk_size' parameter .* Got 0 instead"):
        predict_in_chunks(fitted, UNSEEN, tmp_path, chunk_size=0)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        predict_in_chunks(make_prompting(), UNSEEN, tmp_path)
    by_batch = make_prompting(calibration="batch").fit(TEXTS, LABELS)
    with pytest.raises(InvalidParameterError, match="calibration='batch' reads all texts together"):
        predict_in_chunks(by_batch, UNSEEN, tmp_path)
    with pytest.raises(InvalidParameterError, match="must be a PromptClassifier or an Instruction"):
        predict_in_chunks(make_pipeline(fitted), UNSEEN, tmp_path)
    assert list(tmp_path.iterdir()) == []
