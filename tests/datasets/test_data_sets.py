"""Data sets of ``datasets`` are read with their class names, and take predictions as columns."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from instructclf.datasets import LabelledTexts, read_labelled
from instructclf.exceptions import DataFormatError, InvalidTextsError
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

NAMES = ["negative", "positive"]
FEATURES = datasets.Features(
    {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES)}
)
NUMBERS = [NAMES.index(label) for label in LABELS]
EXPECTED = LabelledTexts(TEXTS, LABELS)


@pytest.fixture
def data_set():
    """Return the rows as the hub stores them: labels are numbers, named in the features."""
    return datasets.Dataset.from_dict({"text": TEXTS, "label": NUMBERS}, features=FEATURES)


# Reading


def test_class_numbers_are_read_as_class_names(data_set):
    assert read_labelled(data_set) == EXPECTED


def test_the_format_of_the_data_set_does_not_matter(data_set):
    assert read_labelled(data_set.with_format("numpy")) == EXPECTED


def test_columns_may_have_other_names(data_set):
    renamed = data_set.rename_columns({"text": "review", "label": "verdict"})
    assert read_labelled(renamed, text_column="review", label_column="verdict") == EXPECTED


def test_a_parquet_file_of_datasets_has_the_class_names_too(data_set, tmp_path):
    data_set.to_parquet(tmp_path / "rows.parquet")
    assert read_labelled(tmp_path / "rows.parquet") == EXPECTED


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_class_names_can_be_given_for_files_without_them(data_set, ending, tmp_path):
    path = tmp_path / f"rows.{ending}"
    data_set.to_json(path) if ending == "jsonl" else data_set.to_csv(path)
    assert read_labelled(path).labels == [str(number) for number in NUMBERS]
    assert read_labelled(path, label_names=NAMES) == EXPECTED


def test_labels_without_names_are_read_unchanged(data_set):
    unnamed = data_set.cast_column("label", datasets.Value("int64"))
    assert read_labelled(unnamed).labels == [str(number) for number in NUMBERS]
    assert read_labelled(unnamed, label_names=NAMES) == EXPECTED


def test_a_row_without_a_label_is_an_error_with_its_number(data_set):
    rows = {"text": TEXTS, "label": [*NUMBERS[:-1], -1]}
    unlabelled = datasets.Dataset.from_dict(rows, features=FEATURES)
    with pytest.raises(DataFormatError, match="The data set, row 16: 'label' is empty, expected a"):
        read_labelled(unlabelled)


@pytest.mark.parametrize("label", [2, "2", "neutral", 0.5])
def test_a_number_without_a_name_is_an_error_with_its_row(label):
    rows = datasets.Dataset.from_dict({"text": ["a"], "label": [label]})
    match = (
        rf"row 1: 'label' is {label!r}, which is neither one of the 2 class names .* nor the number"
    )
    with pytest.raises(DataFormatError, match=match):
        read_labelled(rows, label_names=NAMES)


def test_a_missing_column_is_an_error_that_lists_the_columns(data_set):
    match = "row 1 has no column 'review'. The columns are 'text', 'label'. Name .* text_column=…"
    with pytest.raises(DataFormatError, match=match):
        read_labelled(data_set, text_column="review")


def test_several_splits_are_refused(data_set):
    splits = datasets.DatasetDict(train=data_set, test=data_set)
    with pytest.raises(DataFormatError, match="several splits. Choose one of them: .train., "):
        read_labelled(splits)


def test_a_streamed_data_set_is_refused_with_the_remedy(data_set):
    streamed = data_set.to_iterable_dataset()
    match = r"streamed \(a IterableDataset\).* datasets.Dataset.from_list\(list\(data_set.take"
    with pytest.raises(DataFormatError, match=match):
        read_labelled(streamed)
    taken = datasets.Dataset.from_list(list(streamed.take(1000)), features=streamed.features)
    assert read_labelled(taken) == EXPECTED


@pytest.mark.parametrize("source", [3, None, [("a", "b")]])
def test_other_objects_are_refused(source):
    with pytest.raises(DataFormatError, match="read from a file or from a datasets.Dataset. Got"):
        read_labelled(source)


def test_a_data_set_without_rows_is_refused(data_set):
    with pytest.raises(DataFormatError, match="The data set has no rows. Expected the columns 'te"):
        read_labelled(data_set.select([]))


# Input of classifiers


def test_classifiers_accept_columns(data_set, make_classifier):
    named = make_classifier().fit(TEXTS, LABELS)
    fitted = make_classifier(verbalizer=dict(enumerate(NAMES))).fit(
        data_set["text"], data_set["label"]
    )
    assert fitted.classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(
        fitted.predict_proba(data_set["text"]), named.predict_proba(TEXTS)
    )


def test_classifiers_refuse_a_whole_data_set(data_set, make_prompting):
    streamed = data_set.to_iterable_dataset()
    for whole in (data_set, streamed):
        match = rf"Got a {type(whole).__name__} with 2 columns: select one of \['text', 'label'\]"
        with pytest.raises(InvalidTextsError, match=match):
            make_prompting().fit(whole, LABELS)
    with pytest.raises(InvalidTextsError, match="Got IterableColumn: give a list of str"):
        make_prompting().fit(streamed["text"], LABELS)


# Output of classifiers


def test_predictions_become_columns(data_set, make_classifier, tmp_path):
    classifier = make_classifier().fit(TEXTS, LABELS)
    expected = classifier.predict_proba(TEXTS)

    def classify(batch):
        probabilities = classifier.predict_proba(batch["text"])
        labels = classifier.classes_[probabilities.argmax(axis=1)]
        return {"prediction": labels, "probabilities": probabilities}

    mapped = data_set.map(classify, batched=True, batch_size=5)
    assert list(mapped["prediction"]) == classifier.predict(TEXTS).tolist()
    np.testing.assert_allclose(mapped["probabilities"], expected, rtol=0, atol=1e-5)
    assert mapped.column_names == ["text", "label", "prediction", "probabilities"]
    added = data_set.add_column("prediction", classifier.predict(data_set["text"]).tolist())
    assert list(added["prediction"]) == list(mapped["prediction"])
