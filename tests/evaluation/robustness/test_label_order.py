"""How often another order of labels flips an answer, on models whose answers are known."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import PromptClassifier
from instructclf.evaluation import LabelOrderReport, label_order_report
from instructclf.evaluation.robustness.label_order import _restated
from instructclf.exceptions import InvalidTextsError
from tests.engine.test_seam import UniformModel, WordModel
from tests.fixtures import LABELS, TEXTS

THREE = ["a", "b", "c"]


class FirstStated(UniformModel):
    """Finds the label likeliest that the prompt states first, except for texts that say it."""

    def score(self, texts, progress=None, *, relative=False):
        (stated,) = re.findall(r"labels: (.*)\.", self.question.prompt.instruction)
        words = [answers[0] for answers in self.question.label_words]
        said = [text if text in words else stated.split(", ")[0] for text in texts]
        return np.log([[0.8 if word == one else 0.1 for word in words] for one in said])


def fitted(model, labels=THREE, **options):
    classifier = PromptClassifier(model, n_shots=0, calibration=None, random_state=0, **options)
    return classifier.fit(labels, labels)


def test_a_model_that_takes_the_first_label_flips_with_it():
    report = label_order_report(fitted(FirstStated()), ["a", "b", "c", "anything"])
    assert report.predictions.tolist() == ["a", "b", "c", "a"]
    assert len(set(report.orders)) == 5
    assert ("a", "b", "c") not in report.orders
    for order, answers in zip(report.orders, report.reordered, strict=True):
        assert answers.tolist() == ["a", "b", "c", order[0]]
    assert report.flip_rate == pytest.approx(4 / 5 / 4)  # one order also begins with a


@pytest.mark.parametrize("model", [UniformModel(), WordModel()], ids=["uniform", "words"])
def test_a_model_that_ignores_the_order_flips_nothing(model):
    assert label_order_report(fitted(model), ["a", "x"]).flip_rate == 0


def test_two_labels_have_one_other_order():
    report = label_order_report(fitted(FirstStated(), ["no", "yes"]), ["x"])
    assert report.orders == (("yes", "no"),)
    assert report.flip_rate == 1


def test_the_order_of_the_fitted_prompt_is_left_out_whatever_it_is():
    labels = [f"l{i}" for i in range(4)]
    for order in ("sorted", "random"):
        classifier = fitted(FirstStated(), labels, label_order=order)
        report = label_order_report(classifier, ["x"], n_orders=23)
        (stated,) = re.findall(r"labels: (.*)\.", classifier.prompt_.instruction)
        assert (stated == "l0, l1, l2, l3") == (order == "sorted")
        assert len({*report.orders, tuple(stated.split(", "))}) == 24


def test_orders_are_drawn_from_the_random_state():
    labels = [f"l{i}" for i in range(8)]
    classifier = fitted(FirstStated(), labels)
    drawn = [
        label_order_report(classifier, ["x"], n_orders=4, random_state=seed).orders
        for seed in (0, 0, 1)
    ]
    assert len(set(drawn[0])) == 4
    assert drawn[0] == drawn[1] != drawn[2]


def test_only_the_instruction_changes(make_classifier):
    definitions = {"negative": "They regret it.", "positive": "They recommend it."}
    classifier = make_classifier(label_definitions=definitions, instruction="Judge.")
    classifier.fit(TEXTS, LABELS)
    restated = _restated(classifier, (1, 0))
    assert (
        "labels: positive, negative.\npositive: They recommend it.\nnegative: They regret it."
        in (restated.prompt_.instruction)
    )
    own, other = classifier.prompt_, restated.prompt_
    assert other.render("x").replace(other.instruction, own.instruction) == own.render("x")
    assert other.definitions in other.instruction
    assert restated.calibration_ is classifier.calibration_
    assert not np.allclose(
        restated.label_log_likelihood(TEXTS), classifier.label_log_likelihood(TEXTS)
    )
    assert_allclose(
        _restated(restated, (0, 1)).label_log_likelihood(TEXTS),
        classifier.label_log_likelihood(TEXTS),
    )


def test_the_answers_are_those_of_a_classifier_that_was_fitted_with_the_order(make_prompting):
    options = {"n_shots": 0, "calibration": None}
    sorted_, other = (make_prompting(**options).fit(TEXTS, LABELS) for _ in range(2))
    for seed in range(20):
        other.set_params(label_order="random", random_state=seed).fit(TEXTS, LABELS)
        if "positive, negative" in other.prompt_.instruction:
            break
    report = label_order_report(sorted_, TEXTS)
    assert_array_equal(report.reordered[0], other.predict(TEXTS))


def test_all_members_of_an_ensemble_state_the_labels_anew(make_tuning):
    for average in ("log_proba", "adapter"):
        tuned = make_tuning(n_seeds=2, training_options__seed_average=average).fit(TEXTS, LABELS)
        report = label_order_report(tuned, TEXTS[:3])
        assert report.reordered.shape == (1, 3)
        restated = _restated(tuned, (1, 0))
        for member in restated.estimators_:
            assert "positive, negative" in member.prompt_.instruction
        assert not np.allclose(
            restated.label_log_likelihood(TEXTS), tuned.label_log_likelihood(TEXTS)
        )


@pytest.mark.parametrize("order", ["sorted", "random", "cyclic", THREE])
def test_members_keep_their_orders_relative_to_each_other(order):
    seeds = {"n_seeds": 3} if order in ("random", "cyclic") else {}
    classifier = fitted(FirstStated(), label_order=order, **seeds)

    def stated(one):
        members = one.estimators_ if seeds else [one]
        return [
            re.findall(r"labels: (.*)\.", member.labeller_.prompt.instruction)[0].split(", ")
            for member in members
        ]

    if order != "random" or seeds:
        assert stated(_restated(classifier, (0, 1, 2))) == stated(classifier)
    renamed = dict(zip("abc", "cab", strict=True))
    expected = [[renamed[label] for label in own] for own in stated(classifier)]
    assert stated(_restated(classifier, (2, 0, 1))) == expected


def test_cyclic_orders_of_all_labels_flip_less():
    """A cycle of a cycle is the same set of orders, so only reversed cycles could flip."""
    texts = ["a", "b", "c", "anything"]
    one, all_ = (
        label_order_report(fitted(FirstStated(), label_order=order, n_seeds=n_seeds), texts)
        for order, n_seeds in (("sorted", 1), ("cyclic", 3))
    )
    assert one.flip_rate > 0
    assert all_.flip_rate == 0  # each label is stated first once, whatever the order


def test_a_text_counts_once_however_many_orders_flip_it():
    report = label_order_report(fitted(FirstStated()), ["a", "x"])
    assert report.flip_rate == pytest.approx(4 / 5 / 2)
    assert report.flipped_texts == 0.5
    assert "0.500 of the texts have more than one answer" in str(report)


def test_a_report_is_a_table_in_every_form():
    report = label_order_report(fitted(FirstStated(), list("abcdef")), ["x", "a"], n_orders=3)
    assert isinstance(report, LabelOrderReport)
    text = str(report)
    assert text.splitlines()[0].split("  ")[0] == "labels stated as"
    for order, row in zip(report.orders, report.to_rows(), strict=True):
        assert f"{', '.join(order[:4])}, …" in text
        assert row == {"order": order, "flipped": 0.5 * (order[0] != "a"), "n_texts": 2}
    flipped = report.flips.sum()
    assert f"Order flip rate {flipped / 6:.3f}: {flipped} of 6 answers change, over 2 texts" in text
    assert 'aria-label="Orders of labels"' in report.to_html()
    assert "1 other order of" in str(label_order_report(fitted(FirstStated(), ["a", "b"]), ["x"]))


def test_progress_names_the_orders(capsys):
    label_order_report(fitted(FirstStated()), ["x"], n_orders=2, verbose=1)
    assert "other orders" in capsys.readouterr().err


def test_a_classifier_without_a_prompt_is_refused():
    inside = make_pipeline(fitted(FirstStated()))
    match = "must be a PromptClassifier or an InstructionTunedClassifier. .* such as pipeline"
    with pytest.raises(InvalidParameterError, match=match):
        label_order_report(inside, ["x"])


def test_wrong_arguments_are_refused():
    with pytest.raises(InvalidParameterError, match="'n_orders' parameter must be an int of 1 or"):
        label_order_report(fitted(FirstStated()), ["x"], n_orders=0)
    with pytest.raises(NotFittedError):
        label_order_report(PromptClassifier(FirstStated()), ["x"])
    with pytest.raises(InvalidTextsError, match="Text 0 is 1"):
        label_order_report(fitted(FirstStated()), [1])
