"""The card of an estimator in a notebook: its diagram, labels and prompt."""

from __future__ import annotations

import pickle
import re
from html import unescape
from html.parser import HTMLParser

import pytest
import sklearn

from instructclf import InstructionTunedClassifier, PromptClassifier, PromptFeatures
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

DEFINITIONS = {"positive": "They <b>like</b> it.", "negative": "They do not."}
VOID = {"meta", "br", "img", "input", "hr", "link", "path"}


def picture(estimator):
    return estimator._repr_mimebundle_()["text/html"]


def card(estimator):
    """Return the part below scikit-learn's diagram."""
    return picture(estimator).partition('aria-label="Prompt and labels"')[2]


def words_of(html):
    return " ".join(unescape(re.sub("<[^>]*>", " ", html.replace("↵", ""))).split())


class TagCounter(HTMLParser):
    """Finds elements that are not closed, or closed without being opened."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("kind", [PromptClassifier, InstructionTunedClassifier, PromptFeatures])
def test_before_fit_the_card_shows_what_parameters_say_of_the_prompt(kind, n_loads):
    shown = card(kind("no such model", label_definitions=DEFINITIONS, instruction="Judge it."))
    words = words_of(shown)
    assert "Not fitted" in words
    assert "Judge it. Answer with exactly one of these labels: negative, positive." in words
    assert "positive They <b>like</b> it." in words
    assert "<b>like" not in shown
    assert n_loads() == 0


def test_labels_that_only_fit_will_know_are_left_open():
    words = words_of(card(PromptClassifier()))
    assert "the labels of y will stand in place of “…”" in words
    assert "these labels: …." in words


def test_the_tokenizers_own_template_is_not_loaded_for_it(n_loads):
    words = words_of(card(PromptClassifier("no such model", template="chat")))
    assert "the template is the tokenizer's own" in words
    assert n_loads() == 0


@pytest.mark.parametrize(
    "wrong", [{"template": "none such"}, {"label_definitions": 3}, {"verbalizer": {"a": ""}}]
)
def test_parameters_that_fit_will_refuse_can_be_shown(wrong):
    estimator = PromptClassifier(**({"label_definitions": {"a": "A.", "b": "B."}} | wrong))
    assert "Not fitted" in words_of(card(estimator))


def test_after_fit_the_card_shows_the_prompt_with_its_shots(make_prompting):
    classifier = make_prompting(label_definitions=DEFINITIONS).fit(TEXTS, LABELS)
    words = words_of(card(classifier))
    assert "Fitted · 4 shots" in words
    for row, text in enumerate(TEXTS):
        assert (text in words) == (row in classifier.shots_)


def test_the_card_shows_no_weights(make_tuning):
    classifier = make_tuning(label_definitions=DEFINITIONS, max_epochs=1).fit(TEXTS, LABELS)
    shown = picture(classifier)
    n_weights = sum(weight.numel() for weight in classifier.adapter_.values())
    assert f"tuned on 4 shots · an adapter of {n_weights:,} weights" in words_of(shown)
    assert "tensor(" not in shown
    assert "lora_A" not in shown
    assert not any(text in shown for text in TEXTS)


def test_for_several_seeds_the_card_shows_the_prompt_of_the_first(make_prompting):
    classifier = make_prompting(n_seeds=2, n_shots=2).fit(TEXTS, LABELS)
    words = words_of(card(classifier))
    assert "2 seeds are averaged, and this is the prompt of the first" in words
    assert words.count("answer 2") == 1


def test_the_card_mentions_shots_per_text(make_prompting):
    classifier = make_prompting(sampler="knn", calibration=None).fit(TEXTS, LABELS)
    words = words_of(card(classifier))
    assert "4 of 16 rows stand solved in each text's own prompt" in words


def test_showing_the_card_loads_no_model(make_prompting, fresh_folder, n_loads, tmp_path):
    stored = pickle.dumps(make_prompting().set_params(model=fresh_folder).fit(TEXTS, LABELS))
    assert n_loads() == 1
    restored = pickle.loads(stored).set_params(model=str(tmp_path / "moved away"))
    assert "Fitted · 4 shots" in words_of(card(restored))
    assert n_loads() == 1


def test_label_words_are_shown_if_they_differ_from_the_labels():
    named = PromptClassifier(label_definitions=DEFINITIONS)
    assert "words" not in words_of(card(named)).partition("Prompt")[0]
    named.set_params(verbalizer={"positive": ["good", "fine"], "negative": "bad"})
    assert "good, fine" in words_of(card(named))


def test_a_long_prompt_is_folded():
    assert "<details open>" in card(PromptClassifier())
    long = PromptClassifier(label_definitions={"a": "A. " * 600, "b": "B."})
    assert "<details>" in card(long)


def test_the_card_is_well_formed_and_only_made_for_diagrams():
    counter = TagCounter()
    estimator = PromptFeatures(labels=["a", "b"])
    counter.feed("<div " + card(estimator))
    assert counter.open == []
    assert estimator._repr_html_().partition("aria-label")[2]
    with sklearn.config_context(display="text"):
        assert "text/html" not in estimator._repr_mimebundle_()
        assert not hasattr(estimator, "_repr_html_")
