"""Class numbers become class names, also where names look like numbers."""

from __future__ import annotations

import pytest

from instructclf.datasets import read_labelled
from instructclf.exceptions import DataFormatError
from tests.datasets.test_labelled import write, write_jsonl, write_parquet

STARS = ["1", "2", "3"]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("names", [STARS, ["2", "1", "0"], ["10", "20", "30"], [1, 2, 3]], ids=str)
def test_a_number_is_the_name_at_its_position_in_every_format(names, ending, tmp_path):
    path = tmp_path / f"rows{ending}"
    if ending == ".jsonl":
        write_jsonl(path, [{"text": "a", "label": number} for number in range(3)])
    elif ending == ".parquet":
        write_parquet(path, {"text": ["a"] * 3, "label": range(3)})
    else:
        mark = "," if ending == ".csv" else "\t"
        write(path, f"text{mark}label\n" + "".join(f"a{mark}{number}\n" for number in range(3)))
    assert read_labelled(path, label_names=names).labels == [str(name) for name in names]


def test_a_text_of_a_file_with_types_is_a_name(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": name} for name in STARS])
    assert read_labelled(path, label_names=STARS).labels == STARS
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": "0"}])
    with pytest.raises(DataFormatError, match=r"jsonl:1: 'label' is '0'. The class .* as names"):
        read_labelled(path, label_names=STARS)


def test_a_name_that_looks_like_a_number_is_refused_in_csv(tmp_path):
    path = write(tmp_path / "rows.csv", "text,label\na,2\nb,3\n")
    match = r"csv:3: 'label' is '3'. The class names .* look like numbers, .* from 0 to 2. Leave o"
    with pytest.raises(DataFormatError, match=match):
        read_labelled(path, label_names=STARS)
    assert read_labelled(path).labels == ["2", "3"]


def test_names_that_are_no_positions_may_stand_in_csv(tmp_path):
    path = write(tmp_path / "rows.csv", "text,label\na,20\nb,0\nc,bad\n")
    assert read_labelled(path, label_names=["bad", "20"]).labels == ["20", "bad", "bad"]
    path = write(tmp_path / "rows.csv", "text,label\na,-1\nb,2\n")
    assert read_labelled(path, label_names=["x", "-1", "y"]).labels == ["-1", "y"]


def test_names_are_a_list(tmp_path):
    path = write(tmp_path / "rows.csv", "text,label\na,0\n")
    with pytest.raises(DataFormatError, match="label_names must be a list of names. Got the text"):
        read_labelled(path, label_names="bad,good")
