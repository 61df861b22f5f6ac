"""Shots for each text: every text has a prompt of its own, and costs no more than it must."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from instructclf.classifiers.calibration import fit_calibration
from instructclf.exceptions import InvalidShotsError, PromptTooLongError, TruncationWarning
from instructclf.prompts import PromptTemplate
from instructclf.sampling import KNNSampler
from tests.fixtures import LABELS, TEXTS, make_chat_tokenizer, make_model

QUERIES = ["good thing", "bad thing 3 indeed", "good thing", "thing 5", "bad 2", "zzz", ""]
ENDS = "{instruction}\n\nReview: {input}\nVerdict:{response}"


class GivenOrder:
    """Take these very rows, in this order."""

    def __init__(self, rows):
        self.rows = rows

    def select(self, X, y, n_shots, *, random_state=None):
        return np.array(self.rows)


@pytest.fixture
def make_neighbours(make_prompting):
    """Return what makes a classifier whose shots are chosen for each text."""
    return lambda **changes: make_prompting(**({"sampler": "knn"} | changes))


def score_one_by_one(classifier, make_prompting, texts, labels=LABELS, rows=TEXTS, **options):
    """Fit a plain classifier for each text, with the very shots that the text gets."""
    scores = []
    for text, shots in zip(texts, classifier.shots_for(texts), strict=True):
        plain = make_prompting(
            sampler=GivenOrder(shots.tolist()), n_shots=len(shots), calibration=None, **options
        )
        scores.append(plain.fit(rows, labels).label_log_likelihood([text])[0])
        assert plain.get_prompt(text) == classifier.get_prompt(text)
    return np.array(scores)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"verbalizer": {"positive": "good film", "negative": "good"}, "n_shots": 6},
        {"template": "alpaca_legacy", "n_shots": 3},
        {"template": PromptTemplate(ENDS, demonstration_separator="</s>Review: ")},
        {"n_shots": 16},
        {"sampler": KNNSampler(balanced=False), "n_shots": 1},
        {"max_batch_tokens": 1},
    ],
    ids=["plain", "words", "merging", "special token", "all rows", "one shot", "unbatched"],
)
def test_scores_are_those_of_a_plain_prompt_with_the_same_shots(
    options, make_neighbours, make_prompting
):
    classifier = make_neighbours(**options).fit(TEXTS, LABELS)
    plain = {name: options[name] for name in options if name not in {"sampler", "n_shots"}}
    np.testing.assert_allclose(
        classifier.label_log_likelihood(QUERIES),
        score_one_by_one(classifier, make_prompting, QUERIES, **plain),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("architecture", ["mistral", "gpt2", "mamba"])
def test_scores_are_the_same_where_models_treat_long_prompts_in_their_own_way(
    architecture, tokenizer, make_neighbours, make_prompting
):
    changes = {"state_size": 4} if architecture == "mamba" else {}
    own = make_model(architecture, **changes), tokenizer
    classifier = make_neighbours().set_params(model=own).fit(TEXTS, LABELS)

    def make_plain(**options):
        return make_prompting(**options).set_params(model=own)

    np.testing.assert_allclose(
        classifier.label_log_likelihood(QUERIES),
        score_one_by_one(classifier, make_plain, QUERIES),
        rtol=0,
        atol=1e-5,
    )


def test_scores_are_the_same_with_a_chat_template(model, make_neighbours, make_prompting):
    own = model, make_chat_tokenizer()
    classifier = make_neighbours(template="chat").set_params(model=own).fit(TEXTS, LABELS)

    def make_plain(**options):
        return make_prompting(template="chat", **options).set_params(model=own)

    np.testing.assert_allclose(
        classifier.label_log_likelihood(QUERIES),
        score_one_by_one(classifier, make_plain, QUERIES),
        rtol=0,
        atol=1e-5,
    )


def test_the_most_similar_row_stands_last_and_labels_are_balanced(make_neighbours):
    classifier = make_neighbours().fit(TEXTS, LABELS)
    (shots,) = classifier.shots_for(["bad thing 5"])
    assert TEXTS[shots[-1]] == "bad thing 5"
    assert sorted(LABELS[i] for i in shots) == ["negative"] * 2 + ["positive"] * 2
    prompt = classifier.get_prompt("bad thing 5")
    places = [prompt.index(f"\n{TEXTS[i]}\n") for i in shots]
    assert places == sorted(places)
    assert prompt.count("### Input:") == 5


def test_each_row_may_become_a_shot_and_the_prompt_has_none_yet(make_neighbours):
    classifier = make_neighbours().fit(TEXTS, LABELS)
    np.testing.assert_array_equal(classifier.shots_, np.arange(16))
    assert classifier.prompt_.demonstrations == ()


def test_scores_depend_neither_on_neighbours_nor_on_order_nor_on_the_batch(make_neighbours):
    classifier = make_neighbours().fit(TEXTS, LABELS)
    expected = classifier.label_log_likelihood(QUERIES)
    np.testing.assert_array_equal(expected[0], expected[2])
    alone = np.concatenate([classifier.label_log_likelihood([text]) for text in QUERIES])
    backwards = classifier.label_log_likelihood(QUERIES[::-1])[::-1]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(backwards, expected, rtol=0, atol=1e-5)
    few = make_neighbours(max_batch_tokens=64).fit(TEXTS, LABELS)
    np.testing.assert_allclose(few.label_log_likelihood(QUERIES), expected, rtol=0, atol=1e-5)


# What goes through the model


def count_tokens(classifier, texts):
    """Return the shape of the input of each forward pass."""
    shapes = []
    hook = classifier._scorer.model.get_input_embeddings().register_forward_hook(
        lambda _, inputs, __: shapes.append(tuple(inputs[0].shape))
    )
    classifier.label_log_likelihood(texts)
    hook.remove()
    return shapes


def test_prompts_that_differ_go_through_together_after_the_instruction(make_neighbours):
    classifier = make_neighbours(max_batch_tokens=100_000, calibration=None).fit(TEXTS, LABELS)
    classifier.label_log_likelihood(["warm up"])
    different = [f"{mood} thing {i}" for i in range(8) for mood in ("good", "bad")]
    assert len({tuple(shots) for shots in classifier.shots_for(different)}) == 16
    shapes = count_tokens(classifier, different)
    assert len(shapes) < 8
    assert sum(n_rows for n_rows, _ in shapes) == 16
    encoder = classifier._scorer.encoder
    longest = max(len(prompt.ids) for prompt in encoder.encode(different))
    assert max(length for _, length in shapes) == longest - len(encoder.prefix_ids)


def test_texts_with_the_same_shots_send_them_through_once(make_neighbours):
    classifier = make_neighbours(calibration=None).fit(TEXTS, LABELS)
    classifier.label_log_likelihood(["warm up"])
    alike = ["bad thing 5", "bad thing 5 !", "bad thing 5 ! !"]
    assert len({tuple(shots) for shots in classifier.shots_for(alike)}) == 1
    together = sum(n_rows * length for n_rows, length in count_tokens(classifier, alike))
    alone = sum(n * m for text in alike for n, m in count_tokens(classifier, [text]))
    assert together < 0.6 * alone


# Calibration


def test_rows_are_calibrated_on_after_prompts_that_leave_them_out(make_neighbours, make_prompting):
    texts, labels = [*TEXTS, TEXTS[0]], [*LABELS, LABELS[0]]  # one row twice
    classifier = make_neighbours().fit(texts, labels)
    shown = classifier._own_shots.rows(texts, leave_out=True)
    scores = []
    for text, shots in zip(texts, shown, strict=True):
        assert text not in [texts[i] for i in shots]
        plain = make_prompting(sampler=GivenOrder(shots.tolist()), calibration=None)
        scores.append(plain.fit(texts, labels).label_log_likelihood([text])[0])
    codes = np.array([int(label == "positive") for label in labels])
    # As many rows of each class are calibrated on, so one of the nine good ones is not.
    candidates = [
        fit_calibration(np.delete(scores, i, axis=0), np.delete(codes, i)).bias
        for i in np.flatnonzero(codes)
    ]
    bias = classifier.calibration_.bias
    assert classifier.calibration_.n_rows == 16
    assert any(np.allclose(bias, own, atol=1e-5) for own in candidates)
    assert bias.any()


def test_a_text_among_the_rows_is_a_shot_of_its_own_when_predicting(make_neighbours):
    classifier = make_neighbours().fit(TEXTS, LABELS)
    for row, shots in enumerate(classifier.shots_for(TEXTS)):
        assert shots[-1] == row


@pytest.mark.parametrize("calibration", [None, "batch"])
def test_other_calibrations_that_look_at_no_one_prompt_work(calibration, make_neighbours):
    classifier = make_neighbours(calibration=calibration).fit(TEXTS, LABELS)
    np.testing.assert_allclose(classifier.predict_proba(QUERIES).sum(axis=1), 1)


@pytest.mark.parametrize("calibration", ["contextual", "domain"])
def test_a_calibration_of_one_prompt_is_an_error(calibration, make_neighbours):
    match = f"calibration='{calibration}' measures the bias of one prompt.*Use calibration='auto'"
    with pytest.raises(InvalidShotsError, match=match):
        make_neighbours(calibration=calibration).fit(TEXTS, LABELS)


def test_one_row_of_a_class_is_not_calibrated_on(make_neighbours):
    classifier = make_neighbours(n_shots=2).fit(["good", "bad"], ["yes", "no"])
    assert classifier.calibration_.n_rows == 0
    assert classifier.predict(["good"]).shape == (1,)


def test_a_text_with_two_labels_may_leave_no_shot(make_neighbours):
    texts, labels = ["same", "same", "good", "bad"], ["no", "yes", "yes", "no"]
    classifier = make_neighbours(n_shots=4).fit(texts, labels)
    assert classifier.calibration_.n_rows == 4
    few = make_neighbours(n_shots=2).fit(["same", "same"] * 2, ["no", "yes"] * 2)
    assert few.calibration_.n_rows == 4


# Contexts too short


LONG_TEXTS = [f"{text} {'word ' * (20 * i)}" for i, text in enumerate(TEXTS)]


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.TruncationWarning")
@pytest.mark.parametrize("max_length", [400, 600, 1000])
def test_what_does_not_fit_is_cut_as_in_a_plain_prompt(max_length, make_neighbours, make_prompting):
    classifier = make_neighbours(max_length=max_length).fit(LONG_TEXTS, LABELS)
    texts = [*QUERIES, "long " * 1000, LONG_TEXTS[-1]]
    expected = score_one_by_one(
        classifier, make_prompting, texts, rows=LONG_TEXTS, max_length=max_length
    )
    np.testing.assert_allclose(classifier.label_log_likelihood(texts), expected, rtol=0, atol=1e-5)
    assert classifier.get_prompt("long " * 1000).count(" [...] ") > 1


def test_cut_demonstrations_and_cut_texts_are_told_once_each(make_neighbours):
    classifier = make_neighbours(max_length=600, calibration=None).fit(LONG_TEXTS, LABELS)
    texts = [LONG_TEXTS[-1], TEXTS[0], "long " * 1000, LONG_TEXTS[-1]]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        classifier.predict(texts)
    told = sorted(str(one.message) for one in seen)
    assert [one.category for one in seen] == [TruncationWarning] * 2
    assert "texts are longer than max_length=600" in told[0] or "texts are longer" in told[1]
    assert any("demonstrations were cut in their middle to fit beside them" in one for one in told)
    assert any("(positions 0" in one for one in told)


def test_shots_that_do_not_fit_at_all_are_an_error(make_neighbours):
    texts = [f"{text} {'word ' * 300}" for text in TEXTS]
    with pytest.raises(PromptTooLongError, match="16 demonstrations do not fit .* Use fewer shots"):
        make_neighbours(n_shots=16, max_length=500, calibration=None).fit(texts, LABELS)


# An estimator like any other


def test_a_clone_and_a_pickle_choose_and_score_alike(make_neighbours):
    classifier = make_neighbours(sampler=KNNSampler(balanced=False)).fit(TEXTS, LABELS)
    expected = classifier.predict_proba(QUERIES)
    copy = pickle.loads(pickle.dumps(classifier))
    for own, other in zip(classifier.shots_for(QUERIES), copy.shots_for(QUERIES), strict=True):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_allclose(copy.predict_proba(QUERIES), expected, atol=1e-6)
    assert copy.get_prompt("good 1") == classifier.get_prompt("good 1")
    again = clone(classifier).fit(TEXTS, LABELS)
    np.testing.assert_allclose(again.predict_proba(QUERIES), expected, atol=1e-6)


def test_the_sampler_given_is_left_as_it_was(make_neighbours):
    sampler = KNNSampler()
    make_neighbours(sampler=sampler).fit(TEXTS, LABELS)
    assert not hasattr(sampler, "n_rows_")


def test_fitting_again_with_another_sampler_forgets_the_first(make_neighbours, make_prompting):
    classifier = make_neighbours().fit(TEXTS, LABELS)
    classifier.set_params(sampler="balanced").fit(TEXTS, LABELS)
    plain = make_prompting().fit(TEXTS, LABELS)
    np.testing.assert_array_equal(classifier.shots_, plain.shots_)
    np.testing.assert_array_equal(classifier.predict_proba(QUERIES), plain.predict_proba(QUERIES))


@pytest.mark.parametrize(("n_shots", "n_shown"), [(0, 0), (None, 16)])
def test_without_a_choice_to_make_the_sampler_is_not_asked(n_shots, n_shown, make_neighbours):
    classifier = make_neighbours(n_shots=n_shots, calibration="contextual").fit(TEXTS, LABELS)
    assert len(classifier.prompt_.demonstrations) == n_shown
    assert [len(own) for own in classifier.shots_for(["a", "b"])] == [n_shown, n_shown]


def test_shots_of_other_samplers_are_the_same_for_each_text(make_prompting):
    classifier = make_prompting().fit(TEXTS, LABELS)
    for own in classifier.shots_for(["a", "b"]):
        np.testing.assert_array_equal(own, classifier.shots_)


def test_asking_for_shots_before_fit_is_scikit_learns_error(make_neighbours):
    with pytest.raises(NotFittedError):
        make_neighbours().shots_for(["a"])


@pytest.mark.parametrize(
    ("n_shots", "match"), [(17, "n_shots=17 is more than"), (1, "n_shots=1 is fewer than the 2")]
)
def test_shots_that_cannot_be_chosen_are_an_error_of_fit(n_shots, match, make_neighbours):
    with pytest.raises(InvalidShotsError, match=match):
        make_neighbours(n_shots=n_shots, calibration=None).fit(TEXTS, LABELS)


def test_tuning_refuses_a_sampler_for_each_text_and_names_a_way_out(make_tuning):
    match = "KNNSampler chooses other shots for each text, and InstructionTunedClassifier .*kmeans"
    with pytest.raises(InvalidShotsError, match=match):
        make_tuning(sampler="knn", n_shots=4).fit(TEXTS, LABELS)
