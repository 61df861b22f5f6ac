"""Shown tokens are those that are scored, with the numbers of an ordinary forward pass."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from tests.fixtures import END, LABELS, TEXTS

NESTED = {"positive": "good film", "negative": "good"}
TEXT = "I like it </s> very\n much"


def score_tokens_naively(model, tokenizer, classifier, text):
    """Score each token of each label in one full forward pass, nothing shared."""
    words = [answers[0] for answers in classifier.label_words_]
    prompt = tokenizer(classifier.get_prompt(text))["input_ids"]
    wholes = [
        tokenizer(classifier.get_prompt(text, label))["input_ids"] for label in classifier.classes_
    ]
    start = min(n_equal(prompt, whole) for whole in wholes)
    end = tokenizer.eos_token_id
    scored = [
        score_whole(model, start, [*whole, end] if begins(word, words) else whole)
        for word, whole in zip(words, wholes, strict=True)
    ]
    return start, scored


def begins(word, words):
    return any(other != word and other.startswith(word) for other in words)


def score_whole(model, start, whole):
    with torch.no_grad():
        logits = model(torch.tensor([whole]), use_cache=False).logits[0].double()
    values = logits.log_softmax(dim=-1)
    return [(whole[t], values[t - 1, whole[t]].item()) for t in range(start, len(whole))]


def n_equal(first, second):
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )


@pytest.mark.parametrize("template", ["alpaca", "alpaca_legacy"])
@pytest.mark.parametrize("verbalizer", [None, NESTED], ids=["apart", "nested"])
@pytest.mark.parametrize("sampler", ["balanced", "knn"])
def test_tokens_and_scores_equal_those_of_an_ordinary_pass(  # noqa: PLR0917  (three by fixtures)
    sampler, verbalizer, template, make_prompting, model, tokenizer
):
    classifier = make_prompting(verbalizer=verbalizer, template=template, sampler=sampler)
    classifier.fit(TEXTS, LABELS)
    shown = classifier.show_tokens(TEXT)
    n_prompt, expected = score_tokens_naively(model, tokenizer, classifier, TEXT)
    assert shown.n_prompt_tokens == n_prompt
    for label, pairs in zip(shown.labels, expected, strict=True):
        assert [token.id for token in label.tokens] == [token for token, _ in pairs]
        np.testing.assert_allclose(
            [token.log_likelihood for token in label.tokens],
            [value for _, value in pairs],
            rtol=0,
            atol=1e-5,
        )


@pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
def test_sums_are_label_log_likelihoods(make_classifier):
    classifier = make_classifier(verbalizer=NESTED).fit(TEXTS, LABELS)
    shown = classifier.show_tokens(TEXT)
    sums = [label.log_likelihood for label in shown.labels]
    expected = classifier.label_log_likelihood([TEXT, "another text"])[0]
    np.testing.assert_allclose(sums, expected, rtol=0, atol=1e-5)
    assert [label.label for label in shown.labels] == classifier.classes_.tolist()


def test_shared_tokens_and_end_tokens_are_marked(make_prompting, tokenizer):
    shown = make_prompting(verbalizer=NESTED).fit(TEXTS, LABELS).show_tokens(TEXT)
    negative, positive = shown.labels  # "good", "good film"
    assert [token.is_end for token in negative.tokens] == [False] * (len(negative.tokens) - 1) + [
        True
    ]
    assert negative.tokens[-1].piece == END
    assert not any(token.is_end for token in positive.tokens)
    n_shared = len(negative.tokens) - 1
    assert [token.shared_with for token in negative.tokens] == [("positive",)] * n_shared + [()]
    n_unshared = len(positive.tokens) - n_shared
    assert [token.shared_with for token in positive.tokens] == [("negative",)] * n_shared + [
        ()
    ] * n_unshared
    assert "".join(token.piece for token in positive.tokens) == "good film"
    printed = str(shown)
    assert "shared with positive" in printed
    assert "end token: these words begin another label" in printed
    assert "no end token is scored" not in printed


def test_an_end_token_is_scored_only_if_a_label_begins_another(make_prompting):
    shown = make_prompting().fit(TEXTS, LABELS).show_tokens(TEXT)
    assert not any(token.is_end for label in shown.labels for token in label.tokens)
    assert "No label is the beginning of another" in str(shown)


def test_the_prompts_tokens_are_counted_and_its_last_ones_shown(make_prompting):
    classifier = make_prompting().fit(TEXTS, LABELS)
    shown = classifier.show_tokens(TEXT)
    encoder = classifier.labeller_.scorer(open_model=None).encoder
    assert shown.n_shared_tokens == len(encoder.prefix_ids)
    assert 0 < shown.n_shared_tokens < shown.n_prompt_tokens
    assert classifier.get_prompt(TEXT).endswith("".join(shown.prompt_end))
    assert len(shown.prompt_end) == 6


def test_a_cut_text_is_mentioned_without_a_warning(make_prompting):
    classifier = make_prompting(model_options__max_length=500).fit(TEXTS, LABELS)
    shown = classifier.show_tokens("long " * 500)
    assert shown.was_cut
    assert "The text was cut to fit." in str(shown)
    assert not classifier.show_tokens("short").was_cut


def test_of_many_labels_that_share_a_token_three_are_named(make_prompting):
    texts = [f"text {i}" for i in range(12)]
    verbalizer = {i: f"very {chr(97 + i)}" for i in range(6)}
    classifier = make_prompting(n_shots=6, verbalizer=verbalizer).fit(texts, list(range(6)) * 2)
    assert "shared with 1, 2, 3 and 2 more" in str(classifier.show_tokens("a"))


def test_printed_columns_line_up(make_prompting):
    printed = str(make_prompting(verbalizer=NESTED).fit(TEXTS, LABELS).show_tokens(TEXT))
    header, *rows = printed.split("\n\n", maxsplit=1)[0].split("\n")
    end = header.index("log p") + len("log p")
    for row in rows:
        assert row[end - 1].isdigit()
        assert row[end : end + 2] == "  "
    assert rows[0].startswith("negative (good)")
    assert printed == repr(make_prompting(verbalizer=NESTED).fit(TEXTS, LABELS).show_tokens(TEXT))


class Cells(HTMLParser):
    """Read the cells of a table."""

    def __init__(self, html):
        super().__init__()
        self.cells, self.names = [], set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def test_html_is_a_table_with_the_same_cells(make_prompting):
    verbalizer = {"positive": "<script>x</script>", "negative": "a & b"}
    shown = make_prompting(verbalizer=verbalizer).fit(TEXTS, LABELS).show_tokens(TEXT)
    read = Cells(shown._repr_html_())
    assert "script" not in read.names
    expected = ["label", "token", "id", "log p", "p"]
    for name, *rows in ((group[0][0], *group) for group in shown.rows()):
        cells = ([f"{row[1]}{row[5]}", *row[2:5]] for row in rows)
        expected += [name, *(cell for row in cells for cell in row)]
    assert read.cells[:-1] == expected[:-1]
    assert "positive (<script>x</script>)" in read.cells


def test_each_answer_of_a_label_has_a_separate_sum(make_prompting):
    words = {"positive": ["good", "good film"], "negative": "bad"}
    classifier = make_prompting(verbalizer=words).fit(TEXTS, LABELS)
    shown = classifier.show_tokens(TEXT)
    assert [(label.label, label.words) for label in shown.labels] == [
        ("negative", "bad"),
        ("positive", "good"),
        ("positive", "good film"),
    ]
    bad, good, film = (label.log_likelihood for label in shown.labels)
    expected = classifier.label_log_likelihood([TEXT])[0]
    np.testing.assert_allclose([bad, np.logaddexp(good, film)], expected, atol=1e-5)
