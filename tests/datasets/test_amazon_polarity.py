import json
import os
import sys
from pathlib import Path

import pytest

from instructclf.datasets import LabelledTexts, load_amazon_polarity
from instructclf.datasets.amazon_polarity import _from_hub, _open_hub_split
from instructclf.exceptions import DataFormatError, MissingExtraError

SHARED = os.environ.get(
    "INSTRUCTCLF_DATA", Path(__file__).parents[2].parent / "shared" / "data" / "amazon_polarity"
)


@pytest.fixture
def folder(tmp_path):
    """Return a folder with twenty training rows and one validation row."""
    rows = [
        {"id": i, "title": "t", "text": f"t: {i}", "label": ("negative", "positive")[i % 2]}
        for i in range(20)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "validation.csv").write_text("text,label\nt: x,positive\n")
    return tmp_path


class Columns(dict):
    """A minimal hub data set: columns, a length, a selection."""

    @property
    def column_names(self):
        return list(self)

    def __len__(self):
        return len(next(iter(self.values())))

    def select(self, indices):
        return Columns({name: [column[i] for i in indices] for name, column in self.items()})


HUB = Columns(title=["A", "", "C"], content=["x", "y", "z"], label=[1, 0, 1])


def test_split_is_read_from_a_folder(folder):
    train = load_amazon_polarity(folder, "train")
    assert train.texts[:2] == ["t: 0", "t: 1"]
    assert train.labels == ["negative", "positive"] * 10
    assert load_amazon_polarity(str(folder), "validation") == LabelledTexts(["t: x"], ["positive"])


def test_some_rows_are_drawn_by_seed_and_keep_their_order(folder):
    drawn = load_amazon_polarity(folder, n_rows=8, random_state=1)
    everything = load_amazon_polarity(folder)
    rows = [everything.texts.index(text) for text in drawn.texts]
    assert rows == sorted(set(rows))
    assert len(rows) == 8
    assert drawn.labels == [everything.labels[row] for row in rows]
    assert drawn == load_amazon_polarity(folder, n_rows=8, random_state=1)
    assert drawn != load_amazon_polarity(folder, n_rows=8, random_state=2)


@pytest.mark.parametrize("n_rows", [0, 21])
def test_more_rows_than_exist_are_refused(folder, n_rows):
    message = f"n_rows={n_rows} is not between 1 and 20, the number of"
    with pytest.raises(DataFormatError, match=message):
        load_amazon_polarity(folder, n_rows=n_rows)


def test_folder_without_the_split_is_an_error_that_lists_its_files(folder):
    message = r"has no file test\{\.jsonl,.*\}\. It has: train\.jsonl, validation\.csv\."
    with pytest.raises(DataFormatError, match=message):
        load_amazon_polarity(folder, "test")


def test_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DataFormatError, match="It has: no files"):
        load_amazon_polarity(tmp_path)


def test_unknown_split_is_refused(folder):
    message = "'split' parameter must be one of 'train', 'validation', 'test'. Got 'dev' instead"
    with pytest.raises(DataFormatError, match=message):
        load_amazon_polarity(folder, "dev")


def test_source_that_is_neither_folder_nor_hub_is_refused():
    message = "'amazon_polarty' is neither a folder nor 'amazon_polarity', the name on the hub"
    with pytest.raises(DataFormatError, match=message):
        load_amazon_polarity("amazon_polarty")


@pytest.mark.parametrize("name", ["amazon_polarity", "fancyzhx/amazon_polarity"])
def test_hub_without_datasets_is_an_error_with_the_install_command(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)  # without a folder of that name
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = r'from the hub needs datasets\. Install it with pip install "instructclf\[data\]"'
    with pytest.raises(MissingExtraError, match=message):
        load_amazon_polarity(name)


def test_hub_rows_join_title_and_content_and_name_their_labels():
    read = _from_hub(HUB, None, 0)
    assert read == LabelledTexts(["A: x", "y", "C: z"], ["positive", "negative", "positive"])


def test_some_hub_rows_are_drawn():
    read = _from_hub(HUB, 2, 0)
    assert len(read) == 2
    assert set(zip(read.texts, read.labels, strict=True)) < {
        ("A: x", "positive"),
        ("y", "negative"),
        ("C: z", "positive"),
    }


def test_hub_data_without_a_column_is_refused():
    message = r"no column 'title'\. The columns are \['content', 'label'\]"
    with pytest.raises(DataFormatError, match=message):
        _from_hub(Columns(content=["x"], label=[0]), None, 0)


@pytest.fixture
def stored_by_datasets(tmp_path, monkeypatch):
    """Return a folder that ``datasets`` reads as it reads the hub."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "stored"
    datasets.Dataset.from_dict(dict(HUB)).to_parquet(folder / "train-00000-of-00001.parquet")
    return str(folder)


def test_a_split_loaded_by_datasets_is_read(stored_by_datasets):
    expected = LabelledTexts(["A: x", "y", "C: z"], ["positive", "negative", "positive"])
    assert _from_hub(_open_hub_split(stored_by_datasets, "train"), None, 0) == expected
    assert len(_from_hub(_open_hub_split(stored_by_datasets, "train"), 2, 0)) == 2


def test_split_missing_on_the_hub_is_refused(stored_by_datasets):
    message = "Split 'validation' of .* cannot be loaded: Unknown split"
    with pytest.raises(DataFormatError, match=message):
        _open_hub_split(stored_by_datasets, "validation")


def test_hub_without_network_is_an_error_that_suggests_a_folder(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="Without a network, give a folder with one file per split"):
        load_amazon_polarity()


@pytest.mark.skipif(not Path(SHARED).is_dir(), reason="the real files are missing")
def test_real_files_have_the_sizes_of_the_reference_experiment():
    for split, n_rows in {"train": 32_000, "validation": 100, "test": 4_000}.items():
        read = load_amazon_polarity(SHARED, split)
        assert len(read) == n_rows
        assert set(read.labels) == {"negative", "positive"}
