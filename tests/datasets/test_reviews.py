import re
from collections import Counter

import pytest

from instructclf.datasets import load_reviews
from instructclf.exceptions import DataFormatError


def test_both_splits_together_are_all_reviews():
    train, test, everything = load_reviews("train"), load_reviews("test"), load_reviews("all")
    assert len(train) >= 200
    assert len(test) >= 250
    assert len(train) + len(test) == len(everything)
    assert {*train.texts, *test.texts} == set(everything.texts)


def test_no_review_occurs_twice():
    normalised = [" ".join(re.findall(r"\w+", t.lower())) for t in load_reviews("all").texts]
    assert len(set(normalised)) == len(normalised)


@pytest.mark.parametrize("split", ["train", "test"])
def test_products_and_labels_are_balanced(split):
    reviews = load_reviews(split)
    counts = Counter(zip(reviews.products, reviews.labels, strict=True))
    assert len(set(reviews.products)) >= 10
    assert set(reviews.labels) == {"negative", "positive"}
    assert max(counts.values()) - min(counts.values()) <= 2


def test_every_review_has_a_text_a_label_and_a_product():
    reviews = load_reviews("all")
    assert len(reviews.texts) == len(reviews.labels) == len(reviews.products)
    assert all(text == text.strip() != "" for text in reviews.texts)


def test_unknown_split_is_refused():
    message = "'split' parameter must be one of 'train', 'test', 'all'. Got 'validation' instead"
    with pytest.raises(DataFormatError, match=message):
        load_reviews("validation")
