"""Labels that are read side by side: no order of them reaches a classifier."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.utils._param_validation import InvalidParameterError

from instructclf import InstructionTunedClassifier, PromptClassifier, load
from instructclf.evaluation import label_order_report
from instructclf.exceptions import ScoringError
from tests.families import make_encoder_decoder
from tests.fixtures import make_tokenizer

TEXTS = ["good film", "bad film", "it is so-so", "I like it", "I regret it", "fair"]
LABELS = ["good", "bad", "mixed", "good", "bad", "mixed"]
UNSEEN = ["good", "", "bad {input} </s>", "a film that is long and not so good", "so so"]
DEFINITIONS = {"good": "They like it.", "bad": "They do not like it at all.", "mixed": "Both."}
OPTIONS = {
    "default": {},
    "no shots": {"n_shots": 0},
    "definitions": {"label_definitions": DEFINITIONS},
    "words": {"verbalizer": {"good": ["very good", "fine"], "bad": ["bad"], "mixed": ["so-so"]}},
    "seeds": {"n_seeds": 2, "n_shots": 4},
    "shots for each text": {"sampler": "knn", "n_shots": 3},
    "a short template": {"template": "alpaca_short"},
}


def fitted(make_prompting, **options):
    return make_prompting(label_order="unordered", **options).fit(TEXTS, LABELS)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_no_other_order_changes_an_answer(options, make_prompting):
    classifier = fitted(make_prompting, **options)
    report = label_order_report(classifier, UNSEEN)
    assert len(report.orders) == 5
    assert report.flip_rate == 0


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_saved_classifier_reads_its_labels_in_the_same_way(options, make_prompting, tmp_path):
    classifier = fitted(make_prompting, **options)
    classifier.save(tmp_path / "saved")
    np.testing.assert_array_equal(
        load(tmp_path / "saved").predict_log_proba(UNSEEN), classifier.predict_log_proba(UNSEEN)
    )


def scores_under_other_names(make_prompting, label_order):
    """Rename the labels in every way, with the same words to answer with, which sorts them anew."""
    for names in permutations("abc"):
        renamed = dict(zip(DEFINITIONS, names, strict=True))
        classifier = make_prompting(
            label_order=label_order,
            n_shots=0,
            verbalizer={renamed[label]: label for label in DEFINITIONS},
            label_definitions={renamed[label]: text for label, text in DEFINITIONS.items()},
        ).fit(None, None)
        columns = [classifier.classes_.tolist().index(renamed[label]) for label in DEFINITIONS]
        yield classifier.label_log_likelihood(UNSEEN)[:, columns]


def test_the_place_of_a_label_in_the_alphabet_does_not_matter(make_prompting):
    scores = [*scores_under_other_names(make_prompting, "unordered")]
    np.testing.assert_allclose(scores, scores[:1] * len(scores), rtol=0, atol=1e-5)
    listed = [*scores_under_other_names(make_prompting, "sorted")]
    assert np.ptp(listed, axis=0).max() > 1e-3


def test_tuning_reads_a_list_and_says_so():
    classifier = InstructionTunedClassifier(label_order="unordered")
    with pytest.raises(InvalidParameterError, match="is only for PromptClassifier"):
        classifier.fit(TEXTS, LABELS)


class ForeignModel:
    """An engine that does not know alternatives of prompts, and would read the list."""

    name, context_length = "foreign", None

    def label_scorer(self, question, adapter=None):
        raise AssertionError(question, adapter)


def test_an_engine_that_would_read_a_list_is_an_error():
    classifier = PromptClassifier(ForeignModel(), label_order="unordered", n_shots=3)
    with pytest.raises(ScoringError, match="'foreign' cannot read labels side by side"):
        classifier.fit(TEXTS, LABELS)


def test_an_encoder_reads_a_list_and_says_so():
    model = make_encoder_decoder("t5")
    classifier = PromptClassifier((model, make_tokenizer()), label_order="unordered", n_shots=3)
    with pytest.raises(ScoringError, match="cannot read labels side by side"):
        classifier.fit(TEXTS, LABELS)
