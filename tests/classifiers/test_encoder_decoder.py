"""PromptClassifier on encoder-decoder models: all that it does on decoder-only ones."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from instructclf import PromptClassifier, PromptFeatures, load
from instructclf.exceptions import ModelLoadingError, PromptTooLongError, TruncationWarning
from tests.encoder_decoders import make_framing_tokenizer, score_with_labels
from tests.families import make_encoder_decoder
from tests.fixtures import LABELS, TEXTS

FAMILIES = ["t5", "bart"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    """A random model with its tokenizer, saved as users save their models."""
    folder = tmp_path_factory.mktemp("models") / request.param
    make_encoder_decoder(request.param).save_pretrained(folder)
    make_framing_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make(folder):
    def make(**changes):
        return PromptClassifier(folder, n_shots=4, random_state=0).set_params(**changes)

    return make


def test_it_is_fitted_and_predicts(make):
    classifier = make().fit(TEXTS, LABELS)
    probabilities = classifier.predict_proba(TEXTS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert classifier.predict(TEXTS).tolist() == [
        classifier.classes_[code] for code in probabilities.argmax(axis=1)
    ]
    log_likelihoods = classifier.label_log_likelihood(TEXTS)
    np.testing.assert_allclose(classifier.label_mass(TEXTS), np.exp(log_likelihoods).sum(axis=1))
    assert (log_likelihoods < 0).all()


@pytest.mark.parametrize("n_shots", [0, 1, 4, None])
def test_scores_equal_passes_with_labels_with_any_number_of_shots(make, n_shots):
    definitions = {"negative": "It is bad.", "positive": "It is good."}
    classifier = make(n_shots=n_shots, label_definitions=definitions, calibration=None)
    if n_shots == 1:
        classifier.set_params(sampler="random")
    classifier.fit(TEXTS, LABELS)
    base = classifier.open_model().base
    expected = score_with_labels(base.model, base.tokenizer, classifier, TEXTS)
    scores = classifier.label_log_likelihood(TEXTS)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_shots", [4, None], ids=["rows that are not shots", "shots"])
def test_rows_calibrate(make, n_shots):
    classifier = make(n_shots=n_shots).fit(TEXTS, LABELS)
    assert classifier.calibration_.n_rows == (12 if n_shots else 16)
    assert np.abs(classifier.calibration_.bias).sum() > 0


def test_each_shot_is_scored_after_the_others(make):
    classifier = make(n_shots=None, calibration=None).fit(TEXTS[6:10], LABELS[6:10])
    scorer = classifier.labeller_.scorer(classifier.open_model)
    found = scorer.score_demonstrations()
    shots = classifier.prompt_.demonstrations
    for left_out, (text, _) in enumerate(shots):
        others = classifier.prompt_.with_demonstrations(shots[:left_out] + shots[left_out + 1 :])
        (encoded,) = scorer.encoder.encode_variants([others], [text])
        assert encoded.ids == classifier.open_model().base.tokenizer(others.render(text)).input_ids
        expected = scorer._whole.score_after_part(encoded)
        np.testing.assert_allclose(found[left_out], expected, rtol=0, atol=1e-5)


def test_several_seeds_are_averaged(make):
    classifier = make(n_seeds=3).fit(TEXTS, LABELS)
    assert len({tuple(member.shots_) for member in classifier.estimators_}) == 3
    np.testing.assert_allclose(classifier.predict_proba(TEXTS).sum(axis=1), 1)


def test_shots_are_chosen_for_each_text(make):
    classifier = make(sampler="knn", calibration=None).fit(TEXTS, LABELS)
    base = classifier.open_model().base
    expected = score_with_labels(base.model, base.tokenizer, classifier, TEXTS[:9])
    scores = classifier.label_log_likelihood(TEXTS[:9])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_several_answers_of_a_label_add_up(make):
    verbalizer = {"positive": ["good", "good film"], "negative": ["bad"]}
    classifier = make(verbalizer=verbalizer, calibration=None).fit(TEXTS, LABELS)
    tokens = classifier.show_tokens("good")
    assert "good film" in str(tokens)
    assert np.isfinite(classifier.label_log_likelihood(TEXTS)).all()


def test_pickling_saving_and_loading_change_nothing(make, tmp_path):
    classifier = make().fit(TEXTS, LABELS)
    expected = classifier.predict_proba(TEXTS)
    classifier.save(tmp_path / "saved")
    for copy in (pickle.loads(pickle.dumps(classifier)), load(tmp_path / "saved")):
        np.testing.assert_array_equal(copy.predict_proba(TEXTS), expected)


def test_a_search_loads_one_model(make, folder, tmp_path, n_loads):
    fresh = str(shutil.copytree(folder, tmp_path / "copy"))
    search = GridSearchCV(make(model=fresh), {"n_shots": [2, 4]}, cv=2)
    search.fit(TEXTS, LABELS)
    assert n_loads() == 1
    assert len(search.predict(TEXTS)) == 16


def test_a_pair_gives_the_scores_of_its_folder_and_is_not_copied(make):
    expected = make().fit(TEXTS, LABELS)
    base = expected.open_model().base
    pair = clone(make(model=(base.model, base.tokenizer))).fit(TEXTS, LABELS)
    assert pair.model[0] is base.model
    np.testing.assert_array_equal(pair.predict_proba(TEXTS), expected.predict_proba(TEXTS))


def test_a_pair_with_an_adapter_of_peft_is_used_as_it_is():
    tokenizer = make_framing_tokenizer()
    plain = make_encoder_decoder("t5")
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q"], init_lora_weights=False)
    adapted = get_peft_model(make_encoder_decoder("t5"), config).eval()
    scores = []
    for model in (plain, adapted):
        classifier = PromptClassifier((model, tokenizer), n_shots=2, calibration=None)
        classifier.fit(TEXTS, LABELS)
        scores.append(classifier.label_log_likelihood(TEXTS))
        expected = score_with_labels(model, tokenizer, classifier, TEXTS)
        np.testing.assert_allclose(scores[-1], expected, rtol=0, atol=1e-5)
    assert np.abs(scores[0] - scores[1]).max() > 1e-3


# Too long


def test_a_text_that_is_too_long_is_cut_with_a_warning(make):
    classifier = make(n_shots=2, model_options__max_length=200).fit(TEXTS, LABELS)
    with pytest.warns(
        TruncationWarning, match=r"1 text is longer than max_length=200 .*position 1"
    ):
        classifier.predict(["short", "a long text " * 100])
    scorer = classifier.labeller_.scorer(classifier.open_model)
    (encoded,) = scorer.encoder.encode(["a long text " * 100])
    assert 190 < encoded.n_tokens <= 200
    assert encoded.ids[-1] == classifier.open_model().base.tokenizer.eos_token_id


def test_a_prompt_that_leaves_no_room_is_an_error(make):
    with pytest.raises(PromptTooLongError, match="which leaves 0 of max_length=40 for a text"):
        make(n_shots=0, model_options__max_length=40).fit(TEXTS, LABELS).predict(TEXTS)


def test_the_context_is_that_of_the_encoder():
    tokenizer = make_framing_tokenizer()
    contexts = {
        family: PromptClassifier((make_encoder_decoder(family), tokenizer)).open_model()
        for family in ("t5", "bart", "led")
    }
    assert contexts["t5"].context_length is None
    assert contexts["bart"].context_length == 2048
    assert (
        contexts["led"].context_length
        == contexts["led"].base.config.max_encoder_position_embeddings
    )


# What does not apply


def test_hidden_states_are_an_error_that_names_the_remedy(folder):
    match = r"Reading hidden states \(PromptFeatures\) needs a decoder-only .* Use PromptClassif"
    with pytest.raises(ModelLoadingError, match=match):
        PromptFeatures(folder).fit(TEXTS)
