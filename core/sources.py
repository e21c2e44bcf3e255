"""What a data source's name means, and its rows.

A name is "starter", a local file, "owner/name" or "owner/name:folder" of the Hub, with "?config=NAME&split=NAME"
behind it where other than the published ones are meant. Each may have "@rows" behind it where only its first rows are
meant, and several may be joined with "+", which are then shuffled.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from core.errors import DataError
from core.file_rows import LeftOut, Row, read_file
from core.hub_rows import HubData, read_hub
from core.paths import ASSETS
from core.settings import DATA, SHUFFLE_SEED
from core.table_rows import read_csv, read_parquet

STARTER = "starter"
STARTER_FILE = ASSETS / "starter_preferences.jsonl"
NO_SUCH = (
    f"There is no such file: {{!r}}. Data is '{STARTER}', the path of a .jsonl, .csv or .parquet file, or the "
    "owner/name of a data set on the Hub, with ?config=NAME&split=NAME behind it where it has several."
)
_QUERY = r"(?:config|split)=[\w.-]+"
HUB_ID = re.compile(rf"([\w.-]+/[\w.-]+)(?::([\w./-]+))?(?:\?({_QUERY}(?:&{_QUERY})?))?")
# A query may stand before the number of rows or behind it.
NUM_ROWS = re.compile(r"(.+)@(\d+)(\?[^@]*)?")
READERS: dict[str, Callable[[Path], Iterator[Row | LeftOut]]] = {
    **dict.fromkeys((".jsonl", ".json", ".jsonl.gz", ".json.gz"), read_file),
    ".csv": read_csv,
    ".parquet": read_parquet,
}
# What looks like a file is never looked up on the Hub.
FILE_SUFFIXES = (*READERS, ".gz", ".zip", ".tsv", ".txt", ".yaml")


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
    return any(_hub_data(name) for name, _ in _parts(source))


def _parts(source: str) -> list[tuple[str, int | None]]:
    # A file's name may hold '+' and '@' too.
    whole = _part(source)
    return [whole] if _exists(whole[0]) else [_part(name.strip()) for name in source.split("+")]


def _part(name: str) -> tuple[str, int | None]:
    found = None if _exists(name) else NUM_ROWS.fullmatch(name)
    return (found[1] + (found[3] or ""), DATA["limit"].check(found[2])) if found else (name, None)


def _read(name: str, most: int, token: str) -> Iterator[Row | LeftOut]:
    if name == STARTER:
        return read_file(STARTER_FILE)
    if _exists(name):
        return _read_local(Path(name).expanduser())
    if data := _hub_data(name):
        return read_hub(data, most, token)
    raise DataError(NO_SUCH.format(name[:200]))


def _read_local(path: Path) -> Iterator[Row | LeftOut]:
    for suffix, reader in READERS.items():
        if path.name.lower().endswith(suffix):
            return reader(path)
    raise DataError(f"{path} is not one of {', '.join(READERS)}. Convert it to one JSON object a line (.jsonl).")


def _hub_data(name: str) -> HubData | None:
    if name == STARTER or name.startswith(".") or name.lower().endswith(FILE_SUFFIXES) or _exists(name):
        return None
    if not (found := HUB_ID.fullmatch(name)):
        return None
    query = dict(part.split("=") for part in (found[3] or "").split("&") if part)
    return HubData(found[1], found[2] or "", **query)


def _exists(name: str) -> bool:
    # Too long, a NUL in it, a user without a home: no file's name.
    try:
        return bool(name) and Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
