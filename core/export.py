"""A comparison's rows as CSV that a spreadsheet neither runs nor breaks.

Knows nothing of how a row came about. Every cell can be turned back into what it was: `unescape`.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from core.errors import RequestError
from core.paths import writing

BOM = "\ufeff"
# Spreadsheets take these for a formula, some of them behind what is not seen, or in another width.
TRIGGERS = tuple("=+-@")
MARKED_TOO = tuple("\t\r\n\x00'")
# What CSV readers cut at or choke on even inside quotes.
FRAGILE = re.compile("[\r\x00\ud800-\udfff]")
ESCAPED = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")


@dataclass(frozen=True)
class Row:
    """One prompt of a comparison; its fields are the CSV's columns, in their order."""

    prompt_id: str
    category: str
    prompt: str
    base_response: str
    tuned_response: str
    tuned_side: str
    human_verdict: str
    human_outcome: str
    judge_order_1: str
    judge_order_2: str
    judge_outcome: str
    judge_reason: str
    base_model: str
    adapter: str
    judge_model: str
    base_tokens: int | None
    tuned_tokens: int | None
    seed: int
    created_at: str


COLUMNS = tuple(field.name for field in fields(Row))


def to_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV text, a BOM in front, every field quoted."""
    text = io.StringIO(newline="")
    text.write(BOM)
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if value is None else escape(str(value)) for value in astuple(row)])
    return text.getvalue()


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """Written aside and renamed: a file that was there stays whole until the new one is."""
    data = to_csv(rows).encode("utf-8")
    with writing(path) as aside:
        aside.write_bytes(data)


def check_csv_path(path: str) -> Path:
    """Where a table can be written; RequestError where its folder is not there, before anything is computed for it."""
    found = Path(path)
    # What is there is replaced, and a device or a pipe is none to be replaced.
    if not found.parent.is_dir() or found.exists() and not found.is_file():
        raise RequestError(f"{found} cannot be written: its folder is not there, or it is no file. Give another --csv.")
    return found


def escape(cell: str) -> str:
    """`cell` in a form that no spreadsheet runs and every reader gives back.

    A leading apostrophe marks it; where characters had to be spelled out, a backslash follows the apostrophe.
    """
    if FRAGILE.search(cell):
        spelled = FRAGILE.sub(lambda match: f"\\u{ord(match[0]):04x}", cell.replace("\\", "\\\\"))
        return "'\\" + spelled
    return "'" + cell if _is_marked(cell) else cell


def _is_marked(cell: str) -> bool:
    seen = next((character for character in cell if character.isprintable() and not character.isspace()), "")
    return cell.startswith(MARKED_TOO) or unicodedata.normalize("NFKC", seen).startswith(TRIGGERS)


def unescape(cell: str) -> str:
    """The exact inverse of `escape`."""
    if cell.startswith("'\\"):
        return ESCAPED.sub(lambda match: chr(int(match[1], 16)) if match[1] else "\\", cell[2:])
    return cell.removeprefix("'")
