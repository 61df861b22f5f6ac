import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from instructclf.evaluation import FoldScores, SeedScores, cross_validate_seeds
from instructclf.exceptions import InvalidLabelsError, InvalidShotsError

TEXTS = [f"{'good' if i % 2 else 'bad'} {i} {i % 5}" for i in range(50)]
LABELS = ["p" if i % 2 else "n" for i in range(50)]
BAYES = make_pipeline(TfidfVectorizer(token_pattern=r"\w+"), MultinomialNB())


def with_scores(scores, n_rows=50):
    """Make fold scores of these accuracies, of shape (n_folds, n_seeds), of ten texts a fold."""
    folds = []
    for row in scores:
        right = [np.arange(10) < round(10 * accuracy) for accuracy in row]
        predicted = np.where(right, "p", "n")
        seconds = np.ones(len(row))
        shots = [np.arange(4)] * len(row)
        folds.append(SeedScores(np.array(["p"] * 10), predicted, seconds, seconds, shots, 4))
    rows = np.arange(len(folds) * 10).reshape(-1, 10)
    return FoldScores(folds, list(rows), n_rows)


def test_scores_are_those_of_a_simple_loop():
    found = cross_validate_seeds(BAYES, TEXTS, LABELS, n_shots=6, n_seeds=2, n_folds=5)
    folds = StratifiedKFold(5, shuffle=True, random_state=0).split(TEXTS, LABELS)
    for (train, test), scores, rows in zip(folds, found.folds, found.test_rows, strict=True):
        assert_array_equal(rows, test)
        for score, shots in zip(scores.scores, scores.shots, strict=True):
            chosen = train[shots]
            fitted = BAYES.fit([TEXTS[i] for i in chosen], [LABELS[i] for i in chosen])
            assert score == fitted.score([TEXTS[i] for i in test], [LABELS[i] for i in test])
    assert found.scores.shape == (5, 2)


def test_every_fold_and_seed_draws_different_shots():
    found = cross_validate_seeds(DummyClassifier(), TEXTS, LABELS, n_shots=6, n_seeds=3)
    assert len({tuple(shots) for fold in found.folds for shots in fold.shots}) == 15


def test_interval_is_that_of_nadeau_and_bengio():
    scores = with_scores([[0.8, 0.6], [0.9, 0.9], [0.7, 0.5], [0.8, 0.8], [1.0, 0.6]])
    means = np.array([0.7, 0.9, 0.6, 0.8, 0.8])
    variance = (1 / 5 + 10 / 40) * means.var(ddof=1)
    half = stats.t(4).ppf(0.975) * np.sqrt(variance)
    assert_allclose(scores.interval(), [means.mean() - half, means.mean() + half])
    assert (scores.mean, scores.std) == (pytest.approx(0.76), pytest.approx(means.std(ddof=1)))


def test_interval_of_accuracies_stays_among_accuracies():
    scores = with_scores([[1.0], [1.0], [0.6], [1.0], [1.0]])
    assert scores.interval().high == 1.0
    assert scores.interval().low > 0


def test_difference_is_that_of_the_corrected_paired_t_test():
    one = with_scores([[0.8], [0.9], [0.7], [0.8], [1.0]])
    other = with_scores([[0.7], [0.9], [0.6], [0.6], [0.8]])
    differences = one.scores[:, 0] - other.scores[:, 0]
    found = one.compare(other)
    statistic = differences.mean() / np.sqrt((1 / 5 + 10 / 40) * differences.var(ddof=1))
    assert found.difference == pytest.approx(differences.mean())
    assert found.p_value == pytest.approx(2 * stats.t(4).sf(statistic))
    assert str(found).startswith("+0.120 [")


def test_difference_stays_among_differences():
    one, other = with_scores([[1.0], [0.6]]), with_scores([[0.0], [0.5]])
    assert one.compare(other).interval == (-1.0, 1.0)


def test_seeds_are_drawn_where_none_is_given():
    drawn = [
        cross_validate_seeds(BAYES, TEXTS, LABELS, n_shots=4, n_seeds=1, random_state=None)
        for _ in range(2)
    ]
    assert not np.array_equal(drawn[0].test_rows[0], drawn[1].test_rows[0])


def test_a_seed_that_numpy_cannot_take_is_refused():
    with pytest.raises(InvalidParameterError, match=f"'random_state' .* Got {2**32} instead"):
        cross_validate_seeds(BAYES, TEXTS, LABELS, n_shots=4, random_state=2**32)


def test_other_folds_are_refused():
    one, other = with_scores([[0.8]] * 5), with_scores([[0.8]] * 4)
    with pytest.raises(InvalidLabelsError, match="Only scores on the same folds can be paired"):
        one.compare(other)
    first, second = (
        cross_validate_seeds(DummyClassifier(), TEXTS, LABELS, random_state=seed) for seed in (0, 1)
    )
    with pytest.raises(InvalidLabelsError, match="same random_state"):
        first.compare(second)


def test_finished_folds_are_read_again(tmp_path):
    options = {"n_shots": 6, "n_seeds": 2, "folder": tmp_path}
    first = cross_validate_seeds(BAYES, TEXTS, LABELS, **options)
    second = cross_validate_seeds(BAYES, TEXTS, LABELS, **options)
    assert len(list(tmp_path.iterdir())) == 10
    for one, other in zip(first.folds, second.folds, strict=True):
        assert_array_equal(one.fit_seconds, other.fit_seconds)


def test_progress_counts_folds_and_seeds(capsys):
    cross_validate_seeds(DummyClassifier(), TEXTS, LABELS, n_seeds=2, verbose=1)
    assert "10/10" in capsys.readouterr().err


def test_label_with_fewer_rows_than_folds_is_refused():
    with pytest.raises(InvalidLabelsError, match="Label 'p' has 2 rows, fewer than the 5 folds"):
        cross_validate_seeds(DummyClassifier(), TEXTS[:20], ["n"] * 18 + ["p"] * 2)


def test_more_shots_than_a_fold_leaves_are_refused():
    with pytest.raises(InvalidShotsError, match="n_shots=41 is more than the 40"):
        cross_validate_seeds(DummyClassifier(), TEXTS, LABELS, n_shots=41)


def test_one_fold_is_refused():
    message = "'n_folds' parameter of cross_validate_seeds must be an int .* Got 1 instead"
    with pytest.raises(InvalidParameterError, match=message):
        cross_validate_seeds(DummyClassifier(), TEXTS, LABELS, n_folds=1)
