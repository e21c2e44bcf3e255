"""What a data source's name means, and its rows.

A name is "starter", a local file, "owner/name" or "owner/name:folder" of the Hub, each with "@rows" behind it
where only its first rows are meant, or several of these joined with "+", which are then shuffled.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from core.errors import DataError
from core.file_rows import SUFFIXES, LeftOut, Row, read_file
from core.hub_rows import read_hub
from core.paths import ASSETS
from core.settings import DATA, SHUFFLE_SEED

STARTER = "starter"
STARTER_FILE = ASSETS / "starter_preferences.jsonl"
NO_SUCH = (
    f"There is no such file: {{!r}}. Data is '{STARTER}', the path of a .jsonl file, or the owner/name of a data set "
    "on the Hub."
)
HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w./-]+))?")
NUM_ROWS = re.compile(r"(.+)@(\d+)")
# What looks like a file is never looked up on the Hub.
FILE_SUFFIXES = (*SUFFIXES, ".gz", ".zip", ".csv", ".tsv", ".parquet", ".txt", ".yaml")


def read_rows(source: str, most: int, token: str = "") -> list[Row | LeftOut]:
    """The first `most` rows of each source that `source` joins, or as many as it asks for; DataError as a sentence.

    Rows of a further source count on from the last of the one before, so a number always names one row.
    """
    parts = _parts(source)
    rows: list[Row | LeftOut] = []
    for name, num_rows in parts:
        start = rows[-1].row if rows else 0
        found = islice(_read(name, num_rows or most, token), num_rows or most)
        rows.extend(replace(row, row=start + row.row) for row in found)
    if len(parts) > 1:
        random.Random(SHUFFLE_SEED).shuffle(rows)
    return rows


def local_file(source: str) -> Path | None:
    """The one local file that `source` names, if it does."""
    path = Path(source).expanduser() if _exists(source) else None
    return path if path and path.is_file() else None


def local_files(source: str) -> list[Path]:
    """Every local file among what `source` joins."""
    found = (local_file(name) for name, _ in _parts(source))
    return [path for path in found if path]


def is_on_hub(source: str) -> bool:
    """Whether reading any part of it asks the Hub."""
    return any(_hub_id(name) for name, _ in _parts(source))


def _parts(source: str) -> list[tuple[str, int | None]]:
    # A file's name may hold '+' and '@' too.
    whole = _part(source)
    return [whole] if _exists(whole[0]) else [_part(name.strip()) for name in source.split("+")]


def _part(name: str) -> tuple[str, int | None]:
    found = None if _exists(name) else NUM_ROWS.fullmatch(name)
    return (found[1], DATA["limit"].check(found[2])) if found else (name, None)


def _read(name: str, most: int, token: str) -> Iterator[Row | LeftOut]:
    if name == STARTER:
        return read_file(STARTER_FILE)
    if _exists(name):
        return read_file(Path(name).expanduser())
    if hub_id := _hub_id(name):
        return read_hub(hub_id[1], hub_id[2] or "", most, token)
    raise DataError(NO_SUCH.format(name[:200]))


def _hub_id(name: str) -> re.Match[str] | None:
    if name == STARTER or name.startswith(".") or name.lower().endswith(FILE_SUFFIXES) or _exists(name):
        return None
    return HUB_ID.fullmatch(name)


def _exists(name: str) -> bool:
    # Too long, a NUL in it, a user without a home: no file's name.
    try:
        return bool(name) and Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
