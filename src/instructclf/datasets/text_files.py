"""Text files of JSON or csv → rows. Errors name the file, the line and the remedy."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from instructclf.datasets.tables import Reading, Row
from instructclf.exceptions import DataFormatError

_LONGEST_CELL = 2**31 - 1
"""Characters. The default of the csv module is 131,072, but a text may be a book."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # it begins with the mark of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t,;|"}
"""By ending, the usual one first."""
_BETWEEN_ITEMS = re.compile(r"[\s,]*")


def read_text(name: str, ending: str, stream: BinaryIO, reading: Reading) -> Iterator[Row]:
    """Yield the rows of a text file, compressed or not.

    Raises
    ------
    DataFormatError
        If the content does not have the format or the encoding.
    """
    content = gzip.GzipFile(fileobj=stream) if ending.endswith(".gz") else stream
    ending = ending.removesuffix(".gz")
    encoding = ""
    buffered = io.BufferedReader(cast("Any", content))
    try:
        encoding = _find_encoding(buffered.peek(4), reading)
        # newline="" keeps line ends inside quoted cells.
        text = io.TextIOWrapper(buffered, encoding, errors="surrogateescape", newline="")
        try:
            lines = _check_lines(name, encoding, text)
            if ending in _DELIMITERS:
                yield from _parse_csv(name, ending, lines, reading)
            else:
                yield from (_parse_json if ending == ".json" else _parse_jsonl)(name, lines)
        finally:
            text.detach()
    except UnicodeError as error:
        raise _wrong_encoding(name, encoding, str(error)) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        msg = f"{name} is not a complete gzip file: {error}. Write or copy it again."
        raise DataFormatError(msg) from error
    finally:
        buffered.detach()  # the caller closes the stream


def _find_encoding(start: bytes, reading: Reading) -> str:
    """Return the encoding that the first bytes say, or the user, or UTF-8."""
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            return encoding
    try:
        "".encode(reading.encoding or "utf-8")
    except LookupError:
        msg = (
            f"There is no encoding {reading.encoding!r}. Usual ones are 'utf-8', 'utf-16' and "
            "'cp1252', which Windows has in western countries."
        )
        raise DataFormatError(msg) from None
    return reading.encoding or "utf-8"


def _check_lines(name: str, encoding: str, text: io.TextIOWrapper) -> Iterator[str]:
    """Yield lines; raise at bytes that the encoding does not have."""
    for number, line in enumerate(text, start=1):
        if number == 1:
            line = line.removeprefix("\ufeff")  # noqa: PLW2901
            if "\0" in line:
                raise _wrong_encoding(f"{name}:{number}", encoding, "it has bytes of 0")
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError as error:
                byte = ord(line[error.start]) - 0xDC00
                problem = f"byte 0x{byte:02x} at character {error.start + 1}"
                raise _wrong_encoding(f"{name}:{number}", encoding, problem) from None
        yield line


def _wrong_encoding(location: str, encoding: str, problem: str) -> DataFormatError:
    return DataFormatError(
        f"{location} is not {encoding.upper()} text: {problem}. Save the file as UTF-8, or name "
        "its encoding, such as 'cp1252' or 'utf-16-le', by 'encoding' (--encoding)."
    )


# JSON


def _parse_jsonl(name: str, lines: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            location = f"{name}:{number}"
            yield _object(location, _load(name, line.rstrip(), number), line.strip())


def _parse_json(name: str, lines: Iterator[str]) -> Iterator[Row]:
    """Yield the objects of a list or, if the file does not begin with "[", of its lines."""
    text = "".join(lines)
    if not text.lstrip().startswith("["):
        yield from _parse_jsonl(name, io.StringIO(text))
        return
    items, end, line = _load(name, text), text.index("[") + 1, 1
    decoder = json.JSONDecoder()
    counted = 0
    for item in items:
        start = cast("re.Match[str]", _BETWEEN_ITEMS.match(text, end)).end()
        _, end = decoder.raw_decode(text, start)
        line, counted = line + text.count("\n", counted, start), start
        yield _object(f"{name}:{line}", item, re.sub(r"\s*[\r\n]\s*", " ", text[start:end]))


def _load(name: str, text: str, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        msg = (
            f"{name}:{line + error.lineno - 1} is not valid JSON: {error.msg} at column "
            f"{error.colno}. A .jsonl file has one object a line, a .json file may be a list."
        )
        raise DataFormatError(msg) from error


def _object(location: str, values: Any, text: str) -> Row:
    if not isinstance(values, dict):
        msg = f"{location} is a JSON {type(values).__name__}, expected an object with columns."
        raise DataFormatError(msg)
    return Row(location, values, text)


# csv


def _parse_csv(name: str, ending: str, lines: Iterator[str], reading: Reading) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))  # for the whole process
    header = next(lines, "")
    delimiter = _find_delimiter(ending, header, reading)
    reader = csv.DictReader(itertools.chain([header], lines), strict=True, delimiter=delimiter)
    try:
        check_header(name, reader.fieldnames or ())
        for values in reader:
            location = f"{name}:{reader.line_num}"
            _check_cells(location, values, delimiter)
            yield Row(location, values, has_types=False)
    except csv.Error as error:
        msg = (
            f"{name}:{reader.line_num} is not valid CSV: {error}. Check the double quotes of this "
            "row."
        )
        raise DataFormatError(msg) from error


def _find_delimiter(ending: str, header: str, reading: Reading) -> str:
    """Return the delimiter that the user names, or the only one that gives the columns."""
    usual = _DELIMITERS[ending]
    if reading.delimiter is not None:
        delimiter = {"tab": "\t", r"\t": "\t"}.get(reading.delimiter, reading.delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            msg = (
                f"The delimiter must be one character, such as ';', or 'tab'. Got {delimiter!r} "
                "instead."
            )
            raise DataFormatError(msg)
        return delimiter
    fitting = [mark for mark in usual if set(reading.columns) <= set(_split(header, mark))]
    if not fitting:  # an error will list the columns
        fitting = [mark for mark in usual if len(_split(header, mark)) > 1]
    return fitting[0] if len(fitting) == 1 else usual[0]


def _split(header: str, delimiter: str) -> list[str]:
    return next(csv.reader([header], delimiter=delimiter), [])


def check_header(name: str, columns: Sequence[str]) -> None:
    """Raise if two columns have the same name, since only the last would be read."""
    repeated = [column for column, count in Counter(columns).items() if count > 1]
    if repeated:
        msg = f"{name} has several columns named {repeated[0]!r}. Rename all but one of them."
        raise DataFormatError(msg)


def _check_cells(location: str, values: dict[Any, Any], delimiter: str) -> None:
    """Raise if the row has more or fewer cells than the header."""
    n_columns = sum(column is not None for column in values)
    if None in values:
        n_cells = n_columns + len(values[None])
    else:
        n_cells = sum(value is not None for value in values.values())
    if n_cells != n_columns:
        msg = (
            f"{location} has {n_cells} cells and the header has {n_columns}. Put double quotes "
            f'("…") around a cell that contains the delimiter, {delimiter!r}.'
        )
        raise DataFormatError(msg)
