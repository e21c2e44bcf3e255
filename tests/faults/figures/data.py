"""Data in and data out: files that are wrong in every way, and cells that are any text at all."""

import csv
import io
import random
import tempfile
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path

from core.export import COLUMNS, to_csv, unescape
from tests.faults.figures.broken_files import SEEDS, damaged, seed_file
from tests.faults.figures.figure import Figure, Tried
from tests.faults.figures.reader import Reader
from tests.test_export import ROW

FILES, CELLS = 20, 500
reader = cache(Reader)


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp())


def read_files(seed: int) -> Tried:
    """Each broken file once as it is, and from then on with random damage."""
    wrong = []
    for number in range(seed * FILES, (seed + 1) * FILES):
        name = list(SEEDS)[number % len(SEEDS)]
        is_whole = number < len(SEEDS)
        suffix, content = seed_file(name) if is_whole else damaged(name, random.Random(f"file {number}"))
        path = folder() / f"rows{suffix}"
        path.write_bytes(content)
        if said := reader()(path):
            wrong.append(f"file {number}, {name}: {said}")
    return Tried(FILES, tuple(wrong))


TEXT_COLUMNS = [name for name in COLUMNS if name not in ("base_tokens", "tuned_tokens", "seed")]
TRIGGERS = "=+-@"
PIECES = [
    *map(chr, range(0x20)), *TRIGGERS, *"＝＋－＠﹦﹢﹣﹫'\"\\,;u0d \u00a0\u2028\u200b\u061c\ud800\udfff\ufeffé🙂",
    "\r\n", "'=", "'\\", "\\u003d", "NA", "007", "1e5", "nan", "=HYPERLINK(", '""', '",', '\n"',
]  # fmt: skip


def write_cells(seed: int) -> Tried:
    draw = random.Random(f"cells {seed}")
    cells = [_cell(draw) for _ in range(CELLS)]
    rows = [
        replace(ROW, **dict(zip(TEXT_COLUMNS, cells[start : start + len(TEXT_COLUMNS)], strict=False)))
        for start in range(0, CELLS, len(TEXT_COLUMNS))
    ]
    back = list(csv.DictReader(io.StringIO(to_csv(rows).encode().decode("utf-8-sig"), newline="")))
    found = [row[name] for row in back for name in TEXT_COLUMNS][:CELLS]
    wrong = [] if len(back) == len(rows) else [f"{len(rows)} rows became {len(back)}"]
    for cell, written in zip(cells, found, strict=False):
        if unescape(written) != cell:
            wrong.append(f"lost: {cell!a} came back as {unescape(written)!a}")
        if starts_a_formula(written):
            wrong.append(f"a formula: {written!a}")
    return Tried(CELLS, tuple(wrong))


def _cell(draw: random.Random) -> str:
    pieces = (draw.choice(PIECES) if draw.random() < 0.6 else chr(draw.randrange(0x110000)) for _ in range(9))
    return "".join(list(pieces)[: draw.randint(0, 9)])


def starts_a_formula(cell: str) -> bool:
    """Whether any spreadsheet could run it: by what is seen of it first, in whatever width that is written."""
    seen = next((c for c in cell if unicodedata.category(c)[0] not in "CZ"), "")
    return cell[:1] in ("\t", "\r", "\n", "\0") or any(c in TRIGGERS for c in unicodedata.normalize("NFKC", seen)[:1])


FIGURES = (
    Figure(
        "datasets",
        f"malformed datasets ({len(SEEDS)} seeds and their mutations): tracebacks, or dead or slow (> 2 s) reads",
        "0 of 2,000",
        2_000,
        100,
        read_files,
    ),
    Figure(
        "csv",
        "cells of random Unicode written as CSV and read back: lost, or starting with a formula trigger",
        "0, 0 of 10,000",
        10_000,
        500,
        write_cells,
    ),
)
