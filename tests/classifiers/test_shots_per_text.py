"""Shots chosen for each text: their prompts, scores, calibration and cost."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from instructclf.calibration.labelled_rows import fit_calibration
from instructclf.exceptions import InvalidShotsError, PromptTooLongError, TruncationWarning
from instructclf.prompts import PromptTemplate
from instructclf.sampling import KNNSampler
from tests.fixtures import LABELS, TEXTS, make_chat_tokenizer, make_model

QUERIES = ["good thing", "bad thing 3 indeed", "good thing", "thing 5", "bad 2", "zzz", ""]
ENDS = "{instruction}\n\nReview: {input}\nVerdict:{response}"


class GivenOrder:
    """Takes these rows in this order."""

    def __init__(self, rows):
        self.rows = rows

    def select(self, X, y, n_shots, *, random_state=None):
        return np.array(self.rows)


@pytest.fixture
def make_neighbours(make_prompting):
    """Return a function that makes a classifier whose shots are chosen for each text."""
    return lambda **changes: make_prompting(**({"sampler": "knn"} | changes))


def score_one_by_one(classifier, make_prompting, texts, labels=LABELS, rows=TEXTS, **options):
    """Fit a classifier for each text, with the shots of that text for all texts."""
    scores = []
    for text, shots in zip(texts, classifier.shots_for(texts), strict=True):
        fixed = make_prompting(
            sampler=GivenOrder(shots.tolist()), n_shots=len(shots), calibration=None, **options
        )
        scores.append(fixed.fit(rows, labels).label_log_likelihood([text])[0])
        assert fixed.get_prompt(text) == classifier.get_prompt(text)
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
        {"model_options__max_batch_tokens": 1},
    ],
    ids=["default", "words", "merging", "special token", "all rows", "one shot", "unbatched"],
)
def test_scores_equal_those_of_a_fixed_prompt_with_the_same_shots(
    options, make_neighbours, make_prompting
):
    classifier = make_neighbours(**options).fit(TEXTS, LABELS)
    others = {name: options[name] for name in options if name not in {"sampler", "n_shots"}}
    np.testing.assert_allclose(
        classifier.label_log_likelihood(QUERIES),
        score_one_by_one(classifier, make_prompting, QUERIES, **others),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("architecture", ["mistral", "gpt2", "mamba"])
def test_scores_are_equal_on_models_with_other_ways_to_read_long_prompts(
    architecture, tokenizer, make_neighbours, make_prompting
):
    changes = {"state_size": 4} if architecture == "mamba" else {}
    pair = make_model(architecture, **changes), tokenizer
    classifier = make_neighbours().set_params(model=pair).fit(TEXTS, LABELS)

    def make_fixed(**options):
        return make_prompting(**options).set_params(model=pair)

    np.testing.assert_allclose(
        classifier.label_log_likelihood(QUERIES),
        score_one_by_one(classifier, make_fixed, QUERIES),
        rtol=0,
        atol=1e-5,
    )


def test_scores_are_the_same_with_a_chat_template(model, make_neighbours, make_prompting):
    pair = model, make_chat_tokenizer()
    classifier = make_neighbours(template="chat").set_params(model=pair).fit(TEXTS, LABELS)

    def make_fixed(**options):
        return make_prompting(template="chat", **options).set_params(model=pair)

    np.testing.assert_allclose(
        classifier.label_log_likelihood(QUERIES),
        score_one_by_one(classifier, make_fixed, QUERIES),
        rtol=0,
        atol=1e-5,
    )


def test_the_most_similar_row_is_the_last_shot_and_labels_are_balanced(make_neighbours):
    classifier = make_neighbours().fit(TEXTS, LABELS)
    (shots,) = classifier.shots_for(["bad thing 5"])
    assert TEXTS[shots[-1]] == "bad thing 5"
    assert sorted(LABELS[i] for i in shots) == ["negative"] * 2 + ["positive"] * 2
    prompt = classifier.get_prompt("bad thing 5")
    positions = [prompt.index(f"\n{TEXTS[i]}\n") for i in shots]
    assert positions == sorted(positions)
    assert prompt.count("### Input:") == 5


def test_each_row_may_become_a_shot_and_the_fitted_prompt_has_none(make_neighbours):
    classifier = make_neighbours().fit(TEXTS, LABELS)
    np.testing.assert_array_equal(classifier.shots_, np.arange(16))
    assert classifier.prompt_.demonstrations == ()


def test_scores_depend_on_no_other_text_nor_on_order_or_batch_size(make_neighbours):
    classifier = make_neighbours().fit(TEXTS, LABELS)
    expected = classifier.label_log_likelihood(QUERIES)
    np.testing.assert_array_equal(expected[0], expected[2])
    alone = np.concatenate([classifier.label_log_likelihood([text]) for text in QUERIES])
    backwards = classifier.label_log_likelihood(QUERIES[::-1])[::-1]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(backwards, expected, rtol=0, atol=1e-5)
    few = make_neighbours(model_options__max_batch_tokens=64).fit(TEXTS, LABELS)
    np.testing.assert_allclose(few.label_log_likelihood(QUERIES), expected, rtol=0, atol=1e-5)


# Tokens that go through the model


def local_scorer(classifier):
    """Return what scores after ``fit``, which opens no model."""
    return classifier.labeller_.scorer(open_model=None)


def count_tokens(classifier, texts):
    """Return the shape of the input of each forward pass."""
    shapes = []
    hook = (
        local_scorer(classifier)
        .model.get_input_embeddings()
        .register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape)))
    )
    classifier.label_log_likelihood(texts)
    hook.remove()
    return shapes


def test_prompts_that_differ_are_batched_after_the_instruction(make_neighbours):
    classifier = make_neighbours(model_options__max_batch_tokens=100_000, calibration=None)
    classifier.fit(TEXTS, LABELS)
    classifier.label_log_likelihood(["warm up"])
    different = [f"{mood} thing {i}" for i in range(8) for mood in ("good", "bad")]
    assert len({tuple(shots) for shots in classifier.shots_for(different)}) == 16
    shapes = count_tokens(classifier, different)
    assert len(shapes) < 8
    assert sum(n_rows for n_rows, _ in shapes) == 16
    encoder = local_scorer(classifier).encoder
    longest = max(len(prompt.ids) for prompt in encoder.encode(different))
    assert max(length for _, length in shapes) == longest - len(encoder.prefix_ids)


def test_shots_that_texts_share_are_computed_once(make_neighbours):
    classifier = make_neighbours(calibration=None).fit(TEXTS, LABELS)
    texts = (["bad thing 4" + " !" * n, "bad thing 5" + " !" * n] for n in range(3))
    first, alike = zip(*texts, strict=True)
    classifier.label_log_likelihood(first)  # tests which shortcuts are exact
    assert len({tuple(shots) for shots in classifier.shots_for(alike)}) == 1
    together = sum(n_rows * length for n_rows, length in count_tokens(classifier, alike))
    alone = sum(n * m for text in alike for n, m in count_tokens(classifier, [text]))
    assert together < 0.6 * alone


# Calibration


def test_calibration_rows_are_left_out_of_their_prompts(make_neighbours, make_prompting):
    texts, labels = [*TEXTS, TEXTS[0]], [*LABELS, LABELS[0]]  # one row twice
    classifier = make_neighbours().fit(texts, labels)
    shown = classifier.labeller_.shots_per_text.rows(texts, leave_out=True)
    scores = []
    for text, shots in zip(texts, shown, strict=True):
        assert text not in [texts[i] for i in shots]
        fixed = make_prompting(sampler=GivenOrder(shots.tolist()), calibration=None)
        scores.append(fixed.fit(texts, labels).label_log_likelihood([text])[0])
    codes = np.array([int(label == "positive") for label in labels])
    # Equal numbers of each class are taken, so one of the nine positive rows is not.
    candidates = [
        fit_calibration(np.delete(scores, i, axis=0), np.delete(codes, i)).bias
        for i in np.flatnonzero(codes)
    ]
    bias = classifier.calibration_.bias
    assert classifier.calibration_.n_rows == 16
    assert any(np.allclose(bias, candidate, atol=1e-5) for candidate in candidates)
    assert bias.any()


def test_a_text_among_the_rows_is_a_shot_in_its_prompt_when_predicting(make_neighbours):
    classifier = make_neighbours().fit(TEXTS, LABELS)
    for row, shots in enumerate(classifier.shots_for(TEXTS)):
        assert shots[-1] == row


def test_one_row_of_a_class_does_not_calibrate(make_neighbours):
    classifier = make_neighbours(n_shots=2).fit(["good", "bad"], ["yes", "no"])
    assert classifier.calibration_.n_rows == 0
    assert classifier.predict(["good"]).shape == (1,)


def test_a_text_with_two_labels_may_leave_no_shot(make_neighbours):
    texts, labels = ["same", "same", "good", "bad"], ["no", "yes", "yes", "no"]
    classifier = make_neighbours(n_shots=4).fit(texts, labels)
    assert classifier.calibration_.n_rows == 4
    few = make_neighbours(n_shots=2).fit(["same", "same"] * 2, ["no", "yes"] * 2)
    assert few.calibration_.n_rows == 4


# Short contexts


LONG_TEXTS = [f"{text} {'word ' * (20 * i)}" for i, text in enumerate(TEXTS)]


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.TruncationWarning")
@pytest.mark.parametrize("max_length", [400, 600, 1000])
def test_texts_and_shots_are_cut_as_in_a_fixed_prompt(max_length, make_neighbours, make_prompting):
    classifier = make_neighbours(model_options__max_length=max_length).fit(LONG_TEXTS, LABELS)
    texts = [*QUERIES, "long " * 1000, LONG_TEXTS[-1]]
    expected = score_one_by_one(
        classifier, make_prompting, texts, rows=LONG_TEXTS, model_options__max_length=max_length
    )
    np.testing.assert_allclose(classifier.label_log_likelihood(texts), expected, rtol=0, atol=1e-5)
    assert classifier.get_prompt("long " * 1000).count(" [...] ") > 1


def test_cut_demonstrations_and_cut_texts_give_one_warning_each(make_neighbours):
    classifier = make_neighbours(model_options__max_length=600, calibration=None)
    classifier.fit(LONG_TEXTS, LABELS)
    texts = [LONG_TEXTS[-1], TEXTS[0], "long " * 1000, LONG_TEXTS[-1]]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        classifier.predict(texts)
    told = sorted(str(one.message) for one in seen)
    assert [one.category for one in seen] == [TruncationWarning] * 2
    assert "texts are longer than max_length=600" in told[0] or "texts are longer" in told[1]
    assert any("demonstrations were cut in their middle to leave room" in one for one in told)
    assert any("(positions 0" in one for one in told)


def test_shots_that_do_not_fit_at_all_are_an_error(make_neighbours):
    texts = [f"{text} {'word ' * 300}" for text in TEXTS]
    classifier = make_neighbours(n_shots=16, model_options__max_length=500, calibration=None)
    with pytest.raises(PromptTooLongError, match="16 demonstrations do not fit .* Use fewer shots"):
        classifier.fit(texts, LABELS)


# The estimator


def test_a_clone_and_a_pickle_choose_and_score_the_same(make_neighbours):
    classifier = make_neighbours(sampler=KNNSampler(balanced=False)).fit(TEXTS, LABELS)
    expected = classifier.predict_proba(QUERIES)
    copy = pickle.loads(pickle.dumps(classifier))
    for one, other in zip(classifier.shots_for(QUERIES), copy.shots_for(QUERIES), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(copy.predict_proba(QUERIES), expected, atol=1e-6)
    assert copy.get_prompt("good 1") == classifier.get_prompt("good 1")
    again = clone(classifier).fit(TEXTS, LABELS)
    np.testing.assert_allclose(again.predict_proba(QUERIES), expected, atol=1e-6)


def test_the_given_sampler_is_left_unchanged(make_neighbours):
    sampler = KNNSampler()
    make_neighbours(sampler=sampler).fit(TEXTS, LABELS)
    assert not hasattr(sampler, "n_rows_")


def test_a_fit_with_another_sampler_forgets_the_first(make_neighbours, make_prompting):
    classifier = make_neighbours().fit(TEXTS, LABELS)
    classifier.set_params(sampler="balanced").fit(TEXTS, LABELS)
    other = make_prompting().fit(TEXTS, LABELS)
    np.testing.assert_array_equal(classifier.shots_, other.shots_)
    np.testing.assert_array_equal(classifier.predict_proba(QUERIES), other.predict_proba(QUERIES))


@pytest.mark.parametrize(("n_shots", "n_shown"), [(0, 0), (None, 16)])
def test_a_sampler_without_a_choice_is_not_used(n_shots, n_shown, make_neighbours):
    classifier = make_neighbours(n_shots=n_shots).fit(TEXTS, LABELS)
    assert len(classifier.prompt_.demonstrations) == n_shown
    assert [len(shots) for shots in classifier.shots_for(["a", "b"])] == [n_shown, n_shown]


def test_shots_of_other_samplers_are_the_same_for_each_text(make_prompting):
    classifier = make_prompting().fit(TEXTS, LABELS)
    for shots in classifier.shots_for(["a", "b"]):
        np.testing.assert_array_equal(shots, classifier.shots_)


def test_shots_for_before_fit_is_an_error(make_neighbours):
    with pytest.raises(NotFittedError):
        make_neighbours().shots_for(["a"])


@pytest.mark.parametrize(
    ("n_shots", "match"), [(17, "n_shots=17 is more than"), (1, "n_shots=1 is fewer than the 2")]
)
def test_impossible_numbers_of_shots_are_an_error_in_fit(n_shots, match, make_neighbours):
    with pytest.raises(InvalidShotsError, match=match):
        make_neighbours(n_shots=n_shots, calibration=None).fit(TEXTS, LABELS)


def test_tuning_with_a_sampler_for_each_text_is_an_error_with_a_remedy(make_tuning):
    match = "KNNSampler chooses other shots for each text, and InstructionTunedClassifier .*kmeans"
    with pytest.raises(InvalidShotsError, match=match):
        make_tuning(sampler="knn", n_shots=4).fit(TEXTS, LABELS)
