"""Rows as they came from a file, which keep what the file says beside the values in Python."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from instructclf.datasets.class_names import find_class_names, name_classes


class Row(NamedTuple):
    """One row and its location in the file.

    ``text`` is a JSON object as the file writes it, which may have more digits than the values.
    Without ``has_types``, as in csv, all values are texts.
    """

    location: str
    values: dict[str, Any]
    text: str = ""
    has_types: bool = True


class Reading(NamedTuple):
    """What a user says about a file.

    ``columns`` are those that are needed. ``delimiter`` and ``encoding`` are those of a text file,
    where it does not tell itself.
    """

    columns: Sequence[str] = ()
    delimiter: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Table:
    """The rows of a file or, if that is parquet, all its columns as Arrow holds them."""

    rows: Sequence[Row]
    arrow: Any = None

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in order."""
        if self.arrow is not None:
            return self.arrow.column_names
        return list(dict.fromkeys(column for row in self.rows for column in row.values))

    @property
    def values(self) -> list[dict[str, Any]]:
        """The values of each row, by column."""
        if self.arrow is None:
            return [row.values for row in self.rows]
        return _arrow_values(self.arrow)

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The values of each row, with numbers as the file writes them."""
        if self.arrow is not None:
            return self.values
        return [{**row.values, **_numbers_as_text(row)} for row in self.rows]

    @property
    def lines(self) -> list[str]:
        """Each row as a JSON object."""
        if self.arrow is None:
            return [row.text or write_json(row.values) for row in self.rows]
        return [write_json(values) for values in self.values]

    def with_columns(self, added: Mapping[str, Sequence[Any]]) -> Table:
        """Return this table with more columns."""
        if self.arrow is not None:
            arrow = self.arrow
            for name, column in added.items():
                arrow = arrow.append_column(name, [column])
            return Table((), arrow)
        return Table(
            [
                _with_values(row, {name: column[i] for name, column in added.items()})
                for i, row in enumerate(self.rows)
            ]
        )


def _with_values(row: Row, added: Mapping[str, Any]) -> Row:
    text = row.text and f"{row.text.removesuffix('}').rstrip()}, {write_json(added)[1:]}"
    return row._replace(values={**row.values, **added}, text=text)


def _numbers_as_text(row: Row) -> dict[str, str]:
    """Return the numbers that Python may hold with fewer digits than the file has."""
    items = json.loads(row.text, parse_float=str).items() if row.text else ()
    return {name: value for name, value in items if isinstance(row.values[name], float)}


def _arrow_values(table: Any) -> list[dict[str, Any]]:
    """Return the values of each row in Python, with names for class numbers."""
    for index, field in enumerate(table.schema):
        if str(field.type) == "time64[ns]":  # Python's times have microseconds
            table = table.set_column(index, field.name, table.column(index).cast("string"))
    names = find_class_names(table.schema.metadata)
    rows = enumerate(table.to_pylist(), start=1)
    return [name_classes(f"row {number}", values, names) for number, values in rows]


def write_json(values: Mapping[str, Any]) -> str:
    """Return a JSON object, with escapes only if it contains lone surrogates."""
    finite = _without_nan(values)
    line = json.dumps(finite, ensure_ascii=False, default=str)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(finite, default=str)
    return line


def _without_nan(value: Any) -> Any:
    """Replace floats that JSON cannot represent by ``None``."""
    if isinstance(value, Mapping):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
