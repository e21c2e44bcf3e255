"""Rows out of a file of columns, CSV or Parquet, one by one, each with its number and as an object of its columns.

A row of CSV goes by the line that it starts at, and all its cells are texts, but for those that hold messages as JSON.
Knows nothing of preferences: which column holds what is core/columns.py's to say.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from core.data_limits import MAX_COLUMNS, MAX_DATA_BYTES, MAX_LINE_BYTES
from core.errors import DataError
from core.file_rows import SAVE_AGAIN, LeftOut, Parts, Reason, Row, open_data, read_lines

TOO_LONG = f"longer than {MAX_LINE_BYTES:,} bytes"
OPEN_QUOTE = 'Close the quote that is open there, and write quotes inside a cell twice ("").'
# The first one where none of them stands in the header.
DELIMITERS = (",", ";", "\t")
PEEKED_BYTES = 4096
# Read by the piece: whole column chunks, as is usual, may be hundreds of megabytes.
PARQUET_BUFFER_BYTES = 2**16


def read_csv(path: Path) -> Iterator[Row | LeftOut]:
    """The rows below the header; those with other numbers of cells are left out, a quote left open is a DataError."""
    csv.field_size_limit(MAX_LINE_BYTES)
    with open_data(path) as file:
        records = _records(_Lines(file, path), _delimiter(file))
        header = next(records, None)
        if header is None:
            return
        if isinstance(header, LeftOut):
            raise DataError(f"The header of {path} cannot be read: {header.reason}. {SAVE_AGAIN}")
        names = _checked([name.strip() for name in header.value], path)
        yield from (record if isinstance(record, LeftOut) else _named(names, record) for record in records)


class _Lines:
    """The lines of a CSV file as the csv module asks for them, and what is known of those of the row at hand."""

    def __init__(self, file: io.BufferedReader, path: Path) -> None:
        self.lines, self.path = read_lines(file, path), path
        self.begin(1)

    def begin(self, start: int) -> None:
        self.start, self.num_bytes, self.is_utf8 = start, 0, True

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.num_bytes += len(line)
            if self.num_bytes > MAX_LINE_BYTES:
                raise DataError(f"The row at line {self.start} of {self.path} is {TOO_LONG}. {OPEN_QUOTE}")
            try:
                text = line.decode()
            except UnicodeDecodeError:
                self.is_utf8, text = False, line.decode(errors="replace")
            yield text


def _delimiter(file: io.BufferedReader) -> str:
    """What parts the names of the header: many a spreadsheet writes a semicolon or a tab where others write a comma."""
    header = file.peek(PEEKED_BYTES).partition(b"\n")[0].decode(errors="replace")
    return max(DELIMITERS, key=header.count)


def _records(lines: _Lines, delimiter: str) -> Iterator[Row | LeftOut]:
    """The cells of each row that is not blank."""
    # Strict, or a quote left open would silently take the rest of the file for one cell.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin(reader.line_num + 1)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num > lines.start or "end of data" in str(error):
                raise DataError(f"A quote at line {lines.start} of {lines.path} is left open. {OPEN_QUOTE}") from error
            yield LeftOut(lines.start, Reason.NOT_CSV, str(error)[:120])
            continue
        if not lines.is_utf8:
            yield LeftOut(lines.start, Reason.NOT_UTF8)
        elif cells:
            yield Row(lines.start, cells)


def _named(names: Sequence[str], record: Row) -> Row | LeftOut:
    if len(record.value) != len(names):
        return LeftOut(record.row, Reason.RAGGED, f"{len(record.value)} cells, {len(names)} columns")
    return Row(record.row, {name: _value(cell) for name, cell in zip(names, record.value, strict=True)})


def _checked(names: Sequence[str], path: Path) -> list[str]:
    """The columns' names, which may be empty; DataError where they are too many for a table of conversations, or where
    one occurs twice, since nobody knows which is meant."""
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{path} has over {MAX_COLUMNS:,} columns. Leave out those that hold no text.")
    if twice := next((name for name in names if name and names.count(name) > 1), ""):
        raise DataError(f"{path} has two columns named '{twice[:40]}'. Rename or remove one of them.")
    return list(names)


def _value(cell: str) -> Any:
    """The cell's text, or the messages that it holds as a JSON list."""
    if not cell.lstrip().startswith("["):
        return cell
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return found if found and all(_is_message(item) for item in found) else cell


def _is_message(item: object) -> bool:
    return isinstance(item, dict) and ({"role", "content"} <= item.keys() or {"from", "value"} <= item.keys())


def read_parquet(path: Path) -> Iterator[Row | LeftOut]:
    """The rows in order, one at a time; DataError where the file is damaged or a row too long."""
    import pyarrow
    from pyarrow import parquet

    with open_data(path) as file:
        try:
            with parquet.ParquetFile(file, buffer_size=PARQUET_BUFFER_BYTES) as table:
                _checked(table.schema_arrow.names, path)
                _check_groups(table.metadata, path)
                # A batch of several rows would unfold a value that they share as often as it stands there.
                batches = table.iter_batches(batch_size=1, use_threads=False)
                yield from (_row(number, batch) for number, batch in _within_limits(batches, path))
        # KeyError: a time zone that nobody knows.
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError, KeyError) as error:
            text = " ".join(str(error).split())[:120]
            raise DataError(
                f"{path} is no Parquet file, or a damaged one ({text}). Fetch or write it again."
            ) from error


def _check_groups(metadata: Any, path: Path) -> None:
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        if group.total_byte_size > max(1, group.num_rows) * MAX_LINE_BYTES:
            raise DataError(f"Rows of {path} are {TOO_LONG}. Shorten or remove them.")


def _within_limits(batches: Iterator[Any], path: Path) -> Iterator[tuple[int, Any]]:
    num_bytes, parts = 0, Parts(path)
    for number, batch in enumerate(batches, 1):
        num_bytes += batch.nbytes
        if batch.nbytes > MAX_LINE_BYTES:
            raise DataError(f"Row {number} of {path} is {TOO_LONG}. Shorten or remove it.")
        if num_bytes > MAX_DATA_BYTES:
            raise DataError(f"{path} holds over {MAX_DATA_BYTES:,} bytes before the last row asked for. Ask for fewer.")
        parts.add(sum(map(_num_values, batch.columns)))
        yield number, batch


def _num_values(array: Any) -> int:
    """How many Python objects it comes to; one that is made of nulls has any number of them in no bytes at all."""
    from pyarrow import types

    kind = array.type
    if types.is_map(kind):
        return len(array) + _num_values(array.keys) + _num_values(array.items)
    if types.is_struct(kind):
        return len(array) + sum(map(_num_values, array.flatten()))
    return len(array) + (_num_values(array.flatten()) if types.is_nested(kind) else 0)


def _row(number: int, batch: Any) -> Row | LeftOut:
    try:
        return Row(number, batch.to_pylist()[0])
    except UnicodeDecodeError:
        return LeftOut(number, Reason.NOT_UTF8)
