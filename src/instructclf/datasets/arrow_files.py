"""Parquet ↔ Arrow tables, whose columns keep their types."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from instructclf.datasets.class_names import find_class_names, name_classes
from instructclf.datasets.extras import import_data_extra
from instructclf.datasets.tables import Row, Table
from instructclf.datasets.text_files import check_header
from instructclf.exceptions import DataFormatError


def read_arrow(name: str, stream: BinaryIO, columns: Sequence[str] = ()) -> Any:
    """Return a parquet file as an Arrow table of all columns or, if it has them, of some.

    Raises
    ------
    DataFormatError
        If it is no parquet file, or is damaged.
    MissingExtraError
        If pyarrow is not installed.
    """
    parquet = import_data_extra("pyarrow.parquet", needed_for=f"Reading {name}")
    try:
        file = parquet.ParquetFile(stream if stream.seekable() else io.BytesIO(stream.read()))
        check_header(name, file.schema_arrow.names)
        has_all = set(columns) <= set(file.schema_arrow.names)
        return file.read(columns=list(columns) if columns and has_all else None)
    except (OSError, ValueError) as error:  # pyarrow's errors about the content are one of these
        problem = " ".join(str(error).split()).rstrip(" .")
        msg = f"{name} is not a parquet file, or is damaged: {problem}. Write or copy it again."
        raise DataFormatError(msg) from error


def arrow_rows(name: str, table: Any, columns: Sequence[str] = ()) -> Iterator[Row]:
    """Yield rows with the values of some columns, by default of all.

    Other columns have no values: Python has no type for some of them.
    """
    class_names = find_class_names(table.schema.metadata)
    unread = dict.fromkeys(table.column_names) if columns else {}
    wanted = table.select([one for one in table.column_names if not columns or one in columns])
    number = 0
    for batch in wanted.to_batches():
        for values in batch.to_pylist():
            number += 1
            location = f"{name}, row {number}"
            yield Row(location, name_classes(location, {**unread, **values}, class_names))


def write_arrow(name: str, stream: BinaryIO, table: Table) -> None:
    """Write a table as parquet. Columns that came from parquet keep their types."""
    parquet = import_data_extra("pyarrow.parquet", needed_for=f"Writing {name}")
    pyarrow = import_data_extra("pyarrow", needed_for=f"Writing {name}")
    arrow = table.arrow
    if arrow is None:
        arrow = pyarrow.table(
            {
                column: _column(pyarrow, [row.values.get(column) for row in table.rows])
                for column in table.columns
            }
        )
    parquet.write_table(arrow, stream)


def _column(pyarrow: Any, values: list[Any]) -> Any:
    try:
        return pyarrow.array(values)
    except OverflowError:  # it tries 64 bits with a sign only
        return pyarrow.array(values, pyarrow.uint64())
