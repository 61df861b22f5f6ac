"""Written rows are read back unchanged."""

from __future__ import annotations

import pytest

from instructclf.datasets.rows import ENDINGS, read_rows
from instructclf.datasets.writing import write_file
from instructclf.exceptions import DataFormatError

CELLS = ["word", "", 'with "quotes"', "a, b", "two\nlines", "two\r\nlines", "old\rlines", " x "]


@pytest.mark.parametrize("name", [f"rows{ending}" for ending in ENDINGS])
@pytest.mark.parametrize("cell", CELLS)
def test_any_cell_is_read_back(cell, name, tmp_path):
    rows = [{"text": cell, "label": "a"}, {"text": "after", "label": "b"}]
    write_file(tmp_path / name, rows)
    assert [row.values for row in read_rows(tmp_path / name)] == rows


def test_a_lone_surrogate_in_json_lines_is_read_back(tmp_path):
    rows = [{"text": "größer", "note": "cut \ud83d"}, {"text": "größer", "note": "whole"}]
    write_file(tmp_path / "rows.jsonl", rows)
    assert [row.values for row in read_rows(tmp_path / "rows.jsonl")] == rows
    assert "größer" in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()[1]


def test_numbers_that_json_lacks_are_null_at_any_depth(tmp_path):
    write_file(tmp_path / "rows.jsonl", [{"a": float("nan"), "b": [{"c": float("inf")}, 1.5]}])
    assert (tmp_path / "rows.jsonl").read_text() == '{"a": null, "b": [{"c": null}, 1.5]}\n'


def test_a_trial_leaves_the_file_as_it_is(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("mine")
    write_file(path, [{"text": "a"}], is_trial=True)
    assert path.read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


def test_half_a_character_is_an_error_in_csv(tmp_path):
    with pytest.raises(DataFormatError, match=r"csv cannot be written as csv: .* Write jsonl inst"):
        write_file(tmp_path / "rows.csv", [{"text": "a\ud83d"}])


def test_a_cell_of_csv_may_be_a_book(tmp_path):
    rows = [{"text": "word " * 50_000, "label": "a"}]
    write_file(tmp_path / "rows.csv", rows)
    assert [row.values for row in read_rows(tmp_path / "rows.csv")] == rows
