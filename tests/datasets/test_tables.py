"""Columns keep their types and digits from the file that is read to the file that is written."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from instructclf.datasets.rows import read_rows, read_table
from instructclf.datasets.tables import Reading
from instructclf.datasets.writing import write_file
from instructclf.exceptions import DataFormatError

COLUMNS = {
    "large": pa.array([1, 2**63 + 5], pa.uint64()),
    "small": pa.array([-3, None], pa.int8()),
    "single": pa.array([0.1, None], pa.float32()),
    "half": pa.array([0.5, 1.5], pa.float16()),
    "decimal": pa.array([decimal.Decimal("1.10"), None], pa.decimal128(20, 2)),
    "seen": pa.array([1700000000123456789, 1], pa.timestamp("ns", "UTC")),
    "clock": pa.array([1, 86_399_999_999_999], pa.time64("ns")),
    "taken": pa.array([1, None], pa.duration("ns")),
    "day": pa.array([datetime.date(2020, 1, 31), None]),
    "category": pa.array(["u", "v"]).dictionary_encode(),
    "list": pa.array([[1, 2], None], pa.list_(pa.uint8())),
    "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int16())),
    "struct": pa.array([{"a": 1}, None], pa.struct([("a", pa.int8())])),
    "long": pa.array(["a", "b"], pa.large_string()),
    "nothing": pa.nulls(2),
    "bytes": pa.array([b"\0", b"a"]),
}
TEXTS = ["fun", "rain"]
ADDED = {"prediction": ["good", "bad"], "probability": [0.75, 0.25]}


def read(path, columns=("text",)):
    with path.open("rb") as stream:
        return read_table(str(path), path.suffix, stream, Reading(columns))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_parquet_keeps_its_type_and_values(name, tmp_path):
    table = pa.table({"text": TEXTS, name: COLUMNS[name]})
    pq.write_table(table, tmp_path / "in.parquet")
    found = read(tmp_path / "in.parquet")
    assert [row.values["text"] for row in found.rows] == TEXTS
    write_file(tmp_path / "out.parquet", found.with_columns(ADDED))
    written = pq.read_table(tmp_path / "out.parquet")
    assert written.column_names == ["text", name, *ADDED]
    assert written.select(["text", name]).equals(table)
    assert written.select(list(ADDED)).to_pydict() == ADDED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("large", [1, 2**63 + 5]),
        ("small", [-3, None]),
        ("decimal", ["1.10", None]),
        ("seen", ["2023-11-14 22:13:20.123456789+00:00", "1970-01-01 00:00:00.000000001+00:00"]),
        ("clock", ["00:00:00.000000001", "23:59:59.999999999"]),
        ("category", ["u", "v"]),
        ("map", [[["a", 1]], []]),
        ("struct", [{"a": 1}, None]),
    ],
)
def test_a_column_of_parquet_has_all_its_digits_in_text(name, expected, tmp_path):
    pq.write_table(pa.table({"text": TEXTS, name: COLUMNS[name]}), tmp_path / "in.parquet")
    found = read(tmp_path / "in.parquet").with_columns(ADDED)
    write_file(tmp_path / "out.jsonl", found)
    assert [row.values[name] for row in read_rows(tmp_path / "out.jsonl")] == expected
    write_file(tmp_path / "out.csv", found)
    cells = [row.values[name] for row in read_rows(tmp_path / "out.csv")]
    as_json = [json.dumps(one) if isinstance(one, list | dict) else one for one in expected]
    assert cells == ["" if one is None else str(one) for one in as_json]


def test_class_names_stay_in_parquet_and_are_written_as_text(tmp_path):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    rows = datasets.Dataset.from_dict({"text": TEXTS, "label": [1, 0]}, features=features)
    rows.to_parquet(tmp_path / "in.parquet")
    found = read(tmp_path / "in.parquet").with_columns(ADDED)
    write_file(tmp_path / "out.parquet", found)
    again = datasets.Dataset.from_parquet(str(tmp_path / "out.parquet"), cache_dir=tmp_path)
    assert again.features["label"] == features["label"]
    assert again["prediction"][:] == ADDED["prediction"]
    write_file(tmp_path / "out.csv", found)
    assert [row.values["label"] for row in read_rows(tmp_path / "out.csv")] == ["good", "bad"]


NUMBERS = '"id": 18446744073709551615, "price": 12345678901234567.890, "rate": 1.10, "far": 1E400'


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_numbers_of_json_keep_their_digits(ending, tmp_path):
    path = tmp_path / f"in{ending}"
    rows = ['{"text": "fun", %s}' % NUMBERS, '{"text": "rain", "x": [1.50]}']  # noqa: UP031
    path.write_text("\n".join(rows) if ending == ".jsonl" else f"[{', '.join(rows)}]")
    found = read(path).with_columns(ADDED)
    write_file(tmp_path / "out.jsonl", found)
    first, second = (tmp_path / "out.jsonl").read_text().splitlines()
    assert first == f'{rows[0][:-1]}, "prediction": "good", "probability": 0.75}}'
    assert second == f'{rows[1][:-1]}, "prediction": "bad", "probability": 0.25}}'
    write_file(tmp_path / "out.csv", found)
    cells = next(csv.reader(io.StringIO((tmp_path / "out.csv").read_text().splitlines()[1])))
    numbers = ["18446744073709551615", "12345678901234567.890", "1.10", "1E400"]
    assert cells == ["fun", *numbers, "good", "0.75", ""]
    write_file(tmp_path / "out.parquet", found)
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == [2**64 - 1, None]


def test_cells_of_csv_are_written_as_they_are(tmp_path):
    cells = "007,1e5,1.50,+3,TRUE,nan"
    (tmp_path / "in.csv").write_text(f"a,b,c,d,e,text\n{cells}\n")
    write_file(tmp_path / "out.csv", read(tmp_path / "in.csv").with_columns({"new": [1]}))
    assert (tmp_path / "out.csv").read_text() == f"a,b,c,d,e,text,new\n{cells},1\n"


def test_other_columns_of_parquet_need_no_type_in_python(tmp_path):
    seconds = pa.array([2**60], pa.timestamp("ms"))  # a year that Python does not have
    pq.write_table(pa.table({"text": ["fun"], "far": seconds}), tmp_path / "in.parquet")
    found = read(tmp_path / "in.parquet")
    write_file(tmp_path / "out.parquet", found)
    with pytest.raises(DataFormatError, match=r"csv cannot be written as csv: .* Write parquet"):
        write_file(tmp_path / "out.csv", found)


def test_a_missing_column_of_parquet_lists_the_others(tmp_path):
    pq.write_table(pa.table({"Text": ["fun"], "id": [1]}), tmp_path / "in.parquet")
    (row,) = read(tmp_path / "in.parquet").rows
    assert list(row.values) == ["Text", "id"]


def test_two_columns_of_parquet_with_the_same_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, ["text", "x", "x"])
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(DataFormatError, match="several columns named 'x'. Rename all but one"):
        read(tmp_path / "in.parquet")


def test_damaged_parquet_is_an_error(tmp_path):
    pq.write_table(pa.table({"text": ["fun"] * 1000}), tmp_path / "in.parquet")
    content = bytearray((tmp_path / "in.parquet").read_bytes())
    content[4:40] = b"\xff" * 36
    (tmp_path / "in.parquet").write_bytes(content)
    with pytest.raises(DataFormatError, match=r"in\.parquet is not .*, or is damaged: .* Write or"):
        read(tmp_path / "in.parquet")
