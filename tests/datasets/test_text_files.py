"""Encodings and delimiters are read where a file tells them, or else by name."""

from __future__ import annotations

import gzip
import json

import pytest

from instructclf.datasets import LabelledTexts, read_labelled
from instructclf.datasets.rows import read_rows
from instructclf.exceptions import DataFormatError

EXPECTED = LabelledTexts(["Größer, als gedacht", "Ein Euro: €"], ["good", "bad"])


def csv_text(delimiter):
    cells = [["id", "text", "label"]]
    cells += [["1", EXPECTED.texts[0], "good"], ["2", EXPECTED.texts[1], "bad"]]
    lines = [[f'"{cell}"' if delimiter in cell else cell for cell in line] for line in cells]
    return "".join(f"{delimiter.join(line)}\r\n" for line in lines)


def write(path, text, encoding="utf-8"):
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# Delimiters


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_that_gives_both_columns_is_found(delimiter, ending, tmp_path):
    assert read_labelled(write(tmp_path / f"rows{ending}", csv_text(delimiter))) == EXPECTED


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("text,label,a;b", "fine,good,1"),
        ("a;b|text|label", "1|fine|good"),
        ('"a, b";text;label', '"1, 2";fine;good'),
    ],
)
def test_other_delimiters_in_the_header_are_characters(header, row, tmp_path):
    path = write(tmp_path / "rows.csv", f"{header}\n{row}\n")
    assert read_labelled(path) == LabelledTexts(["fine"], ["good"])


@pytest.mark.parametrize("delimiter", ["tab", r"\t", "\t"])
def test_a_tab_has_a_name(delimiter, tmp_path):
    path = write(tmp_path / "rows.csv", "text\tlabel\nfine\tgood\n")
    assert read_labelled(path, delimiter=delimiter) == LabelledTexts(["fine"], ["good"])


def test_any_character_may_be_named(tmp_path):
    path = write(tmp_path / "rows.csv", "text~label\na, b~good\n")
    assert read_labelled(path, delimiter="~") == LabelledTexts(["a, b"], ["good"])


@pytest.mark.parametrize("delimiter", ["", "::", '"', "\n"])
def test_a_delimiter_is_one_character(delimiter, tmp_path):
    path = write(tmp_path / "rows.csv", "text,label\n")
    with pytest.raises(DataFormatError, match="The delimiter must be one character, such as ';'"):
        read_labelled(path, delimiter=delimiter)


def test_columns_of_an_unusual_delimiter_are_listed(tmp_path):
    path = write(tmp_path / "rows.csv", "Text;label\nfine;good\n")
    match = r"csv:2 has no column 'text'. The columns are 'Text', 'label'. Did you mean 'Text' inst"
    with pytest.raises(DataFormatError, match=match):
        read_labelled(path)


def test_an_unclear_delimiter_is_asked_for(tmp_path):
    path = write(tmp_path / "rows.csv", "review;stars|x\nfine;5|y\n")
    with pytest.raises(DataFormatError, match=r"name their 'delimiter' \(--delimiter\)"):
        read_labelled(path)


def test_a_row_of_too_many_cells_names_the_delimiter(tmp_path):
    path = write(tmp_path / "rows.csv", "text;label\na;b;c\n")
    with pytest.raises(DataFormatError, match=r"csv:2 has 3 cells .* contains the delimiter, ';'"):
        read_labelled(path)


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".jsonl", ".json"])
def test_a_byte_order_mark_tells_the_encoding(encoding, ending, tmp_path):
    rows = zip(EXPECTED.texts, EXPECTED.labels, strict=True)
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    text = csv_text(";") if "csv" in ending else "\n".join(lines)
    assert read_labelled(write(tmp_path / f"rows{ending}", text, encoding)) == EXPECTED


def test_the_mark_of_big_endian_utf_16_is_read(tmp_path):
    path = write(tmp_path / "rows.csv", f"\ufeff{csv_text(',')}", "utf-16-be")
    assert read_labelled(path) == EXPECTED
    assert read_labelled(path, encoding="cp1252") == EXPECTED  # the file is sure


@pytest.mark.parametrize("encoding", ["cp1252", "iso8859-15", "utf-16-le"])
def test_other_encodings_are_named(encoding, tmp_path):
    path = write(tmp_path / "rows.csv", csv_text(","), encoding)
    assert read_labelled(path, encoding=encoding) == EXPECTED
    match = r"rows\.csv:\d is not UTF-8 text: .* name its encoding, such as 'cp1252' or 'utf-16-le'"
    with pytest.raises(DataFormatError, match=match):
        read_labelled(path)


def test_the_line_and_the_byte_of_a_wrong_encoding_are_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("text,label\r\nfine,good\r\nä".encode() + b"b\x81,bad\r\n")
    with pytest.raises(DataFormatError, match=r"csv:3 is not UTF-8 text: byte 0x81 at character 3"):
        read_labelled(path)
    with pytest.raises(DataFormatError, match=r"csv:3 is not CP1252 text: byte 0x81 at character "):
        read_labelled(path, encoding="cp1252")


def test_a_cut_file_of_utf_16_is_an_error(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(csv_text(",").encode("utf-16")[:-1])
    with pytest.raises(DataFormatError, match=r"rows\.csv is not UTF-16 text: .*truncated.* Save"):
        read_labelled(path)


@pytest.mark.parametrize("encoding", ["klingon", "base64"])
def test_an_unknown_encoding_is_an_error(encoding, tmp_path):
    path = write(tmp_path / "rows.csv", csv_text(","))
    with pytest.raises(DataFormatError, match=f"There is no encoding '{encoding}'. Usual ones are"):
        read_labelled(path, encoding=encoding)


# Lists of JSON


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_of_objects_is_read(indent, ending, tmp_path):
    rows = [{"text": "a", "label": 1, "note": ["x, y", {}]}, {"text": "b\n", "label": 2}]
    path = write(tmp_path / f"rows{ending}", f" {json.dumps(rows, indent=indent)}\n")
    assert [row.values for row in read_rows(path)] == rows
    assert [json.loads(row.text) for row in read_rows(path)] == rows
    assert not any("\n" in row.text for row in read_rows(path))


def test_a_json_file_may_have_one_object_a_line(tmp_path):
    path = write(tmp_path / "rows.json", '\n{"text": "a", "label": "x"}\n{"text": "b", "label": 1}')
    assert read_labelled(path) == LabelledTexts(["a", "b"], ["x", "1"])


def test_an_empty_list_has_no_rows(tmp_path):
    with pytest.raises(DataFormatError, match=r"json has no rows"):
        read_labelled(write(tmp_path / "rows.json", "[]"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            '[\n{"text": "a"},\n{"text": }]',
            r"json:3 is not valid JSON: .* at column 10. A .json",
        ),
        ('[\n{"text": "a",\n "label": "x"},\n\n["b"]]', r"json:5 is a JSON list, expected an obj"),
        ('[\n{"text": "a",\n "label": "x"},\n\n{"text": "b"}]', r"json:5 has no column 'label'"),
        ('{\n"data": []}', r"json:1 is not valid JSON: .* a .json file may be a list"),
    ],
    ids=["syntax", "no object", "no label", "an object over several lines"],
)
def test_errors_in_a_list_name_the_line(text, match, tmp_path):
    with pytest.raises(DataFormatError, match=match):
        read_labelled(write(tmp_path / "rows.json", text))
