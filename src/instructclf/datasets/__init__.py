"""Files → texts and labels: readers for real data, and the bundled reviews."""

from instructclf.datasets.amazon_polarity import load_amazon_polarity
from instructclf.datasets.labelled import LabelledTexts, read_labelled
from instructclf.datasets.reviews import Reviews, load_reviews

__all__ = ["LabelledTexts", "Reviews", "load_amazon_polarity", "load_reviews", "read_labelled"]
