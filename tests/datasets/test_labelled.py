import gzip
import json
import sys

import pytest

from instructclf.datasets import LabelledTexts, read_labelled
from instructclf.exceptions import DataFormatError, MissingExtraError

ROWS = [
    {"id": 1, "text": 'Good, "very" good.\nTruly.', "label": "positive"},
    {"id": 2, "text": "Größer als gedacht", "label": "negative"},
]
EXPECTED = LabelledTexts([row["text"] for row in ROWS], ["positive", "negative"])


def write(path, text, *, encoding="utf-8"):
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_jsonl(path, rows):
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path, columns):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "ROWS.JSONL"])
def test_json_lines_are_read(tmp_path, name):
    assert read_labelled(write_jsonl(tmp_path / name, ROWS)) == EXPECTED


def test_blank_lines_between_json_lines_are_skipped(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"text": "a", "label": "x"}\n\n  \n{"text": "b", "label": "y"}\n\n')
    assert read_labelled(path) == LabelledTexts(["a", "b"], ["x", "y"])


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_is_read_with_quotes_commas_and_line_ends_in_cells(tmp_path, name, encoding):
    text = (
        'text,id,label\r\n"Good, ""very"" good.\nTruly.",1,positive\r\n'
        "Größer als gedacht,2,negative\r\n"
    )
    assert read_labelled(write(tmp_path / name, text, encoding=encoding)) == EXPECTED


def test_parquet_is_read(tmp_path):
    columns = {"text": EXPECTED.texts, "label": EXPECTED.labels, "stars": [5, 1]}
    assert read_labelled(write_parquet(tmp_path / "rows.parquet", columns)) == EXPECTED


def test_a_path_may_be_a_string(tmp_path):
    assert read_labelled(str(write_jsonl(tmp_path / "rows.jsonl", ROWS))) == EXPECTED


def test_columns_may_have_other_names(tmp_path):
    path = write(tmp_path / "rows.csv", "review,stars\nfine,5\n")
    read = read_labelled(path, text_column="review", label_column="stars")
    assert read == LabelledTexts(["fine"], ["5"])


def test_integer_labels_become_strings(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": 0}])
    assert read_labelled(path).labels == ["0"]


def test_an_empty_text_is_a_text(tmp_path):
    path = write(tmp_path / "rows.csv", "text,label\n,positive\n")
    assert read_labelled(path) == LabelledTexts([""], ["positive"])


def test_length_is_the_number_of_texts():
    assert len(EXPECTED) == 2


def test_unknown_ending_is_an_error_that_lists_the_known_ones(tmp_path):
    message = r"rows\.txt does not end in one of \.jsonl, .*\.parquet\. Convert or rename"
    with pytest.raises(DataFormatError, match=message):
        read_labelled(tmp_path / "rows.txt")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"rows\.jsonl"):
        read_labelled(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("missing", ["text", "label"])
def test_missing_column_is_an_error_that_lists_the_columns(tmp_path, missing):
    row = {"title": "t", "text": "a", "label": "x"}
    del row[missing]
    columns = ", ".join(repr(name) for name in row)
    path = write_jsonl(tmp_path / "rows.jsonl", [row])
    message = (
        rf"rows\.jsonl:1 has no column '{missing}'\. The columns are {columns}\. Name the right "
        rf"one with {missing}_column=…\."
    )
    with pytest.raises(DataFormatError, match=message):
        read_labelled(path)


def test_row_without_any_column_is_an_error(tmp_path):
    with pytest.raises(DataFormatError, match="The columns are none"):
        read_labelled(write_jsonl(tmp_path / "rows.jsonl", [{}]))


def test_broken_json_is_an_error_with_file_and_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n\n{"text": "b", label: "x"}\n')
    message = r"rows\.jsonl:3 is not valid JSON: Expecting property name .* at column 15\."
    with pytest.raises(DataFormatError, match=message):
        read_labelled(path)


def test_json_line_that_is_not_an_object_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [["a", "x"]])
    with pytest.raises(DataFormatError, match=r"rows\.jsonl:1 is a JSON list, expected an object"):
        read_labelled(path)


@pytest.mark.parametrize(
    ("value", "described"), [(3.5, "3.5, a float"), (None, "empty"), (["a"], r"\['a'\], a list")]
)
def test_text_that_is_not_a_string_is_an_error_with_its_line(tmp_path, value, described):
    path = write_jsonl(tmp_path / "rows.jsonl", [*ROWS, {"text": value, "label": "x"}])
    with pytest.raises(DataFormatError, match=f"jsonl:3: 'text' is {described}, expected a str"):
        read_labelled(path)


def test_text_that_is_not_a_string_is_an_error_with_its_row_in_parquet(tmp_path):
    columns = {"text": ["a", None], "label": ["x", "y"]}
    path = write_parquet(tmp_path / "rows.parquet", columns)
    message = r"rows\.parquet, row 2: 'text' is empty, expected a str"
    with pytest.raises(DataFormatError, match=message):
        read_labelled(path)


@pytest.mark.parametrize(
    ("value", "described"), [(None, "empty"), ("", "empty"), (0.5, "0.5, a float")]
)
def test_label_that_is_missing_or_a_fraction_is_refused(tmp_path, value, described):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": value}])
    message = f"jsonl:1: 'label' is {described}, expected a label, a str or an int"
    with pytest.raises(DataFormatError, match=message):
        read_labelled(path)


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", ""), ("a.csv", ""), ("a.csv", "text,label\n")]
)
def test_file_without_rows_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    message = rf"{name} has no rows\. Expected the columns 'text' and 'label'\."
    with pytest.raises(DataFormatError, match=message):
        read_labelled(path)


@pytest.mark.parametrize(("row", "n_cells"), [("a,b,x", 3), ("a", 1)])
def test_csv_row_with_a_wrong_number_of_cells_is_refused(tmp_path, row, n_cells):
    path = write(tmp_path / "rows.csv", f"text,label\nfine,x\n{row}\n")
    message = rf"rows\.csv:3 has {n_cells} cells and the header has 2\. Put double quotes"
    with pytest.raises(DataFormatError, match=message):
        read_labelled(path)


def test_csv_with_two_columns_of_the_same_name_is_refused(tmp_path):
    path = write(tmp_path / "rows.csv", "text,id,label,id\nGood.,1,positive,2\n")
    with pytest.raises(DataFormatError, match="several columns named 'id'. Rename all but one"):
        read_labelled(path)


def test_csv_with_an_unclosed_quote_is_refused(tmp_path):
    path = write(tmp_path / "rows.csv", 'text,label\n"fine,x\n')
    with pytest.raises(
        DataFormatError, match=r"csv:1 is not valid CSV: .* Check the double quotes"
    ):
        read_labelled(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_other_encodings_are_refused_with_the_remedy(tmp_path, name):
    path = tmp_path / name
    text = "text,label\nGrößer,x\n" if name.endswith("csv") else '{"text": "größer"}\n'
    path.write_bytes(text.encode("latin-1"))
    line = 1 if name.endswith("jsonl") else 2
    match = rf"{name}:{line} is not UTF-8 text: byte 0xf6 at character .*, by 'encoding' \(--enc"
    with pytest.raises(DataFormatError, match=match):
        read_labelled(path)


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.csv.gz"])
@pytest.mark.parametrize("damage", ["not compressed", "cut"])
def test_damaged_gzip_is_refused(tmp_path, name, damage):
    path = tmp_path / name
    line = b'{"text": "a", "label": "x"}\n' if "jsonl" in name else b"text,label\n"
    data = line * 100
    path.write_bytes(data if damage == "not compressed" else gzip.compress(data)[:-10])
    with pytest.raises(DataFormatError, match=r"is not a complete gzip file: .* Write or copy it"):
        read_labelled(path)


def test_file_that_is_not_parquet_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.parquet"
    path.write_text("text,label\n")
    with pytest.raises(DataFormatError, match=r"rows\.parquet is not a parquet file, or is dam"):
        read_labelled(path)


def test_parquet_without_pyarrow_is_an_error_with_the_install_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    message = r'Reading .*parquet needs pyarrow\. Install it with pip install "instructclf\[data\]"'
    (tmp_path / "rows.parquet").touch()
    with pytest.raises(MissingExtraError, match=message):
        read_labelled(tmp_path / "rows.parquet")
