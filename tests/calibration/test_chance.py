"""A warning where held-out rows say that a classifier guesses, and none where they do not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from instructclf import PromptClassifier
from instructclf.calibration.chance import warn_at_chance
from instructclf.datasets import load_reviews
from instructclf.exceptions import ChanceLevelWarning
from tests.engine.test_seam import UniformModel, WordModel

is_silent = pytest.mark.filterwarnings("error::instructclf.exceptions.ChanceLevelWarning")


def evidence(n_classes):
    classes = np.array(["bad", "good", "so-so", "none", "other"][:n_classes])
    return SimpleNamespace(n_classes=n_classes, classes=classes, what="This classifier")


def answers(n_right, n_rows, n_classes=2):
    """Return codes of rows, and answers of which so many are right, spread over the classes."""
    codes = np.arange(n_rows) % n_classes
    return np.where(np.arange(n_rows) < n_right, codes, (codes + 1) % n_classes), codes


# What is a reason to warn


@pytest.mark.parametrize(("n_right", "n_rows"), [(23, 50), (64, 128), (7, 16), (0, 16)], ids=str)
def test_answers_no_better_than_chance_are_a_reason(n_right, n_rows):
    match = (
        f"no better than chance on {n_rows} labelled rows .*: {n_right / n_rows:.2f} of them are "
        r"right, and guessing gives 0\.50.*verbalizer.*template.*shots.*model.*tuning"
    )
    with pytest.warns(ChanceLevelWarning, match=match):
        warn_at_chance(*answers(n_right, n_rows), evidence(2))


def test_guessing_among_more_labels_is_right_less_often():
    with pytest.warns(ChanceLevelWarning, match=r"guessing gives 0\.25"):
        warn_at_chance(*answers(10, 40, 4), evidence(4))


def test_one_label_for_nearly_all_rows_is_a_reason_even_above_chance():
    codes = np.arange(320) % 5
    chosen = np.where(np.isin(np.arange(320), np.arange(0, 320, 20) + 1), codes, 0)
    with pytest.warns(ChanceLevelWarning, match=r"hardly better .* 304 of the 320 answers are 'b"):
        warn_at_chance(chosen, codes, evidence(5))


@is_silent
@pytest.mark.parametrize(
    ("n_right", "n_rows"),
    [(0, 15), (10, 16), (24, 40), (74, 128), (128, 128)],
    ids=["few rows", "perhaps 0.75", "perhaps 0.75 of more", "above chance", "all right"],
)
def test_these_are_not(n_right, n_rows):
    warn_at_chance(*answers(n_right, n_rows), evidence(2))


@is_silent
@pytest.mark.parametrize("accuracy", [0.7, 0.8])
def test_a_useful_classifier_is_rarely_called_a_guess(accuracy):
    rng = np.random.RandomState(0)
    n_warned = 0
    for n_rows in (16, 24, 40, 64, 128) * 100:
        try:
            warn_at_chance(*answers(rng.binomial(n_rows, accuracy), n_rows), evidence(2))
        except ChanceLevelWarning:
            n_warned += 1
    assert n_warned <= (20 if accuracy == 0.7 else 2)  # of 500


# What classifiers say

ROWS = [f"{'good' if i % 2 else 'bad'} thing {i}" for i in range(40)]
CODES = ["positive", "negative"] * 20


def test_fit_warns_of_a_model_that_guesses_and_points_at_the_call():
    classifier = PromptClassifier(UniformModel(), n_shots=4, random_state=0)
    with pytest.warns(ChanceLevelWarning, match="36 of the 36 answers are 'negative'") as caught:
        classifier.fit(ROWS, CODES)
    assert caught[0].filename == __file__


@is_silent
def test_fit_says_nothing_of_a_model_that_knows():
    PromptClassifier(WordModel(), n_shots=4, random_state=0).fit(ROWS, CODES)


@is_silent
@pytest.mark.parametrize("calibration", [None, "auto"])
def test_fit_says_nothing_without_held_out_rows(calibration):
    n_shots = None if calibration else 4
    PromptClassifier(UniformModel(), n_shots=n_shots, calibration=calibration).fit(ROWS, CODES)


@is_silent
@pytest.mark.parametrize("n_shots", [0, 16])
def test_fit_says_nothing_of_the_bundled_model_and_its_reviews(n_shots):
    reviews = load_reviews("train")
    PromptClassifier(n_shots=n_shots, random_state=0).fit(reviews.texts, reviews.labels)
