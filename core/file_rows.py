"""Rows out of a file, one by one, each with its number.

Knows nothing of preferences: a row is whatever JSON value stands there. What cannot be a row
at all is left out with its reason; what cannot be a data file at all is a DataError. Files of
columns are core/table_rows.py's to read.
"""

import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from core.data_limits import (
    MAX_ARRAY_BYTES,
    MAX_ARRAY_PARTS,
    MAX_DATA_BYTES,
    MAX_LINE_BYTES,
    MAX_LINES,
    MAX_PARTS,
    MAX_PARTS_A_ROW,
)
from core.errors import DataError

BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
LFS_POINTER = b"version https://git-lfs"
TOO_MANY_PARTS = "far more lists, objects and numbers than conversations do. Leave out what is not text."
SAVE_AGAIN = "Save it as UTF-8 text, with one JSON object a line or as CSV."


class Reason(StrEnum):
    """Why a row was left out, in the words that a user reads."""

    NOT_UTF8 = "bytes that are not UTF-8"
    NOT_JSON = "not valid JSON"
    TOO_DEEP = "JSON nested too deep"
    NOT_CSV = "not valid CSV"
    RAGGED = "more or fewer cells than columns"
    NOT_PREFERENCE = "not a preference row"
    NOT_TEXT = "something else where text belongs"
    HALF_CHARACTER = "half a character (lone surrogate)"
    NOT_TRANSCRIPT = "not a transcript"
    NO_HUMAN_FIRST = "no human turn first"
    NO_REPLY = "does not end with the assistant"
    PROMPT_ENDS_WITH_ASSISTANT = "two assistant turns at the end"
    EMPTY_TURN = "an empty turn in the prompt"
    EMPTY_REPLY = "an empty reply"
    PROMPTS_DIFFER = "chosen and rejected answer different prompts"
    SAME_REPLY = "chosen equals rejected"
    DUPLICATE = "repeats an earlier row"
    OVERLAP = "held-out row shares its first human turn with training"
    PROMPT_TOO_LONG = "the prompt alone is longer than max length"
    CUT_ALIKE = "chosen and rejected differ only behind max length"
    TWO_PROMPTS = "the chat template renders the prompt differently once it has a reply"
    REFUSED = "the chat template refuses the conversation"


@dataclass(frozen=True)
class Row:
    """One JSON value and where it stands: its line, or its place in an array, a table or on the Hub, from 1."""

    row: int
    value: Any


@dataclass(frozen=True)
class LeftOut:
    row: int
    reason: Reason
    detail: str = ""


def read_file(path: Path) -> Iterator[Row | LeftOut]:
    """The rows of a .jsonl, gzipped or not, or of one whole JSON array; blank lines are no rows.

    Read as they are asked for, so the front of a large file costs no more than that of a small one.
    """
    with open_data(path) as file:
        if file.peek(4096).lstrip().startswith(b"["):
            yield from _array(file, path)
            return
        parts = Parts(path)
        for number, line in enumerate(read_lines(file, path), 1):
            if line.strip():
                parts.add(_num_parts(line))
                yield _decode(number, line)


class Parts:
    """What rows are made of, counted one row after the other; DataError where it is more than conversations are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num, self.most = 0, MAX_PARTS

    def add(self, num: int) -> None:
        self.num += num
        self.most += MAX_PARTS_A_ROW
        if self.num > self.most:
            raise DataError(f"The rows of {self.path} hold {TOO_MANY_PARTS}")


def _num_parts(data: bytes) -> int:
    return data.count(b"{") + data.count(b"[") + data.count(b",")


@contextlib.contextmanager
def open_data(path: Path) -> Iterator[io.BufferedReader]:
    """The file's bytes, unpacked, behind a byte order mark; whatever stops them from being read is a DataError."""
    try:
        with _open(path) as file:
            head = file.peek(4096)
            _check_head(head, path)
            if head.startswith(BOM):
                file.read(len(BOM))
            yield file
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}). Fetch or compress it again.") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}). Check the path and its permissions."
        ) from error


@contextlib.contextmanager
def _open(path: Path) -> Iterator[io.BufferedReader]:
    if not path.is_file():
        raise DataError(f"{path} is not a file. Give a .jsonl file.")
    with path.open("rb") as raw:
        head = raw.peek(len(LFS_POINTER))
        # Before the suffix is believed: what Git LFS holds is mostly packed.
        _check_head(head, path)
        is_gzip = head.startswith(GZIP_MAGIC)
        if path.suffix.lower() == ".gz" and not is_gzip:
            raise DataError(f"{path} is named .gz and is no gzip file. Rename it to .jsonl, or compress it again.")
        if is_gzip:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield io.BufferedReader(unpacked)
        else:
            yield raw


def _check_head(head: bytes, path: Path) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16 text. {SAVE_AGAIN}")
    if head.startswith(LFS_POINTER):
        raise DataError(f"{path} is a Git LFS pointer, not the data. Fetch the data with: git lfs pull")


def read_lines(file: io.BufferedReader, path: Path) -> Iterator[bytes]:
    """The lines, blank ones too; DataError where one is no text, or where it is too much."""
    offset = file.tell()
    for number in range(1, MAX_LINES + 1):
        line = file.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        _check_bytes(line, path, offset)
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"Line {number} of {path} is longer than {MAX_LINE_BYTES:,} bytes. {SAVE_AGAIN}")
        offset += len(line)
        if offset > MAX_DATA_BYTES:
            raise DataError(f"{path} holds over {MAX_DATA_BYTES:,} bytes before the last row asked for. Ask for fewer.")
        yield line
    raise DataError(f"{path} has over {MAX_LINES:,} lines before the last row asked for. Ask for fewer.")


def _check_bytes(data: bytes, path: Path, offset: int) -> None:
    nul = data.find(0)
    if nul >= 0:
        raise DataError(f"{path} is not text: there is a NUL byte at offset {offset + nul}. {SAVE_AGAIN}")


def _decode(number: int, line: bytes) -> Row | LeftOut:
    try:
        return Row(number, json.loads(line.decode(), object_pairs_hook=_without_repeats))
    except UnicodeDecodeError as error:
        return LeftOut(number, Reason.NOT_UTF8, f"at byte {error.start} of the row")
    except RecursionError:
        return LeftOut(number, Reason.TOO_DEEP)
    except ValueError as error:
        return LeftOut(number, Reason.NOT_JSON, str(error)[:120])


def _without_repeats(items: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python would silently take the last of two values, and nobody knows which was meant.
    found = dict(items)
    if len(found) < len(items):
        raise ValueError("a key occurs twice")
    return found


def _array(file: io.BufferedReader, path: Path) -> Iterator[Row | LeftOut]:
    offset = file.tell()
    data = file.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise DataError(f"{path} is one JSON array of over {MAX_ARRAY_BYTES:,} bytes. {SAVE_AGAIN}")
    if _num_parts(data) > MAX_ARRAY_PARTS:
        raise DataError(f"The rows of {path} hold {TOO_MANY_PARTS}")
    _check_bytes(data, path, offset)
    whole = _decode(1, data)
    if isinstance(whole, LeftOut):
        raise DataError(f"{path} starts as a JSON array and is not one: {whole.reason} ({whole.detail}). {SAVE_AGAIN}")
    yield from (Row(number, value) for number, value in enumerate(whole.value, 1))
