"""Raw results of a benchmark: one compressed table, and files of what was measured since.

    python benchmarks/raw_results.py                  packs what every program has measured
    python benchmarks/raw_results.py TABLE FOLDER...  adds the files of other folders to a table

A raw result is a JSON object with a ``cell``. While a program measures, it appends each one to
``<table without its suffix>/<cell>.jsonl``, which git ignores; packing moves these files into the
table. The same results always give the same bytes: they are sorted by cell, in the order in which
they were measured, and the table has no time stamp.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RUNS = Path(__file__).with_name("runs")
SUFFIX = ".jsonl.gz"
RawResult = dict[str, Any]


class RawResults:
    """The raw results of one benchmark.

    Parameters
    ----------
    table : Path
        The compressed table, ``<name>.jsonl.gz``. It need not exist yet.
    """

    def __init__(self, table: Path) -> None:
        self.table = table
        self.folder = table.with_name(table.name.removesuffix(SUFFIX))
        self._packed = _by_cell(read_table(table))

    def read(self, cell: str) -> list[RawResult]:
        """Return the results of a cell, oldest first."""
        return [*self._packed.get(cell, ()), *_read_file(self._path(cell))]

    def append(self, cell: str, result: RawResult) -> None:
        """Add a result to the working file of a cell, even after a line that was cut off."""
        path = self._path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        is_complete = not path.exists() or path.read_bytes()[-1:] in {b"\n", b""}
        with path.open("a", encoding="utf-8") as file:
            file.write(("" if is_complete else "\n") + json.dumps(result) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a result may have taken an hour

    def cells(self) -> list[str]:
        """Return the names of all cells that have results."""
        working = (path.stem.replace("~", "/") for path in self.folder.glob("*.jsonl"))
        return sorted({*self._packed, *working})

    def pack(self, folders: Iterable[Path] = ()) -> int:
        """Move the working files into the table, and copy the files of other folders.

        Parameters
        ----------
        folders : iterable of Path, default=()
            Working folders of the same benchmark, such as one from another machine.

        Returns
        -------
        int
            How many results the table has now. One that it has already is not added again.
        """
        working = sorted(self.folder.glob("*.jsonl"))
        copied = [path for folder in folders for path in sorted(folder.glob("*.jsonl"))]
        every = [result for results in self._packed.values() for result in results]
        every += [result for path in (*working, *copied) for result in _read_file(path)]
        different = list({json.dumps(result): result for result in every}.values())
        write_table(self.table, different)
        self._packed = _by_cell(different)
        for path in working:
            path.unlink()
        if working and not any(self.folder.iterdir()):
            self.folder.rmdir()
        return len(different)

    def _path(self, cell: str) -> Path:
        return self.folder / f"{cell.replace('/', '~')}.jsonl"


def _by_cell(results: Iterable[RawResult]) -> dict[str, list[RawResult]]:
    found: dict[str, list[RawResult]] = {}
    for result in results:
        found.setdefault(result["cell"], []).append(result)
    return found


def _read_file(path: Path) -> list[RawResult]:
    """Return the results in a working file, without lines that were cut off."""
    results = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            results.append(json.loads(line))
        except ValueError:
            continue
    return results


def read_table(path: Path) -> list[RawResult]:
    """Return the results of a table, or none where there is no table yet."""
    if not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_table(path: Path, results: Sequence[RawResult]) -> None:
    """Write a table in one move, so that an interruption loses nothing."""
    in_order = sorted(results, key=lambda result: result["cell"])
    text = "".join(json.dumps(result) + "\n" for result in in_order)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    new.replace(path)


def main() -> None:
    """Pack the table that is named, or all tables that have a working folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, nargs="?", help=f"<name>{SUFFIX}; default: all")
    parser.add_argument("folders", type=Path, nargs="*", metavar="FOLDER")
    arguments = parser.parse_args()
    working = [path.with_name(path.name + SUFFIX) for path in RUNS.iterdir() if path.is_dir()]
    for table in [arguments.table] if arguments.table else sorted(working):
        print(f"{table}: {RawResults(table).pack(arguments.folders)} results")


if __name__ == "__main__":
    main()
