"""Written rows are read back unchanged."""

from __future__ import annotations

import pytest

from instructclf.datasets.rows import read_rows
from instructclf.datasets.writing import write_file

CELLS = ["word", "", 'with "quotes"', "a, b", "two\nlines", "two\r\nlines", "old\rlines", " x "]


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.jsonl"])
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


def test_a_cell_of_csv_may_be_a_book(tmp_path):
    rows = [{"text": "word " * 50_000, "label": "a"}]
    write_file(tmp_path / "rows.csv", rows)
    assert [row.values for row in read_rows(tmp_path / "rows.csv")] == rows
