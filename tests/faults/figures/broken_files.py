"""Data files that are wrong in 32 ways, as (suffix, content), and what random damage makes of them."""

import gzip
import io
import json
import random
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import cache

NUM_ROWS = 12
TEXTS = [
    {"prompt": f"What is in box {n}?", "chosen": f"Apples, {n}.", "rejected": "Who knows."} for n in range(NUM_ROWS)
]
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
HH = [{side: f"{HUMAN} {row['prompt']}{ASSISTANT} {row[side]}" for side in ("chosen", "rejected")} for row in TEXTS]
SHAREGPT = [
    {"conversations": [{"from": "human", "value": row["prompt"]}], "chosen": {"from": "gpt", "value": row["chosen"]},
     "rejected": {"from": "gpt", "value": row["rejected"]}, "system": None, "score": 0.5}
    for row in TEXTS
]  # fmt: skip
MESSAGES = [
    {side: [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}]
     for side in ("chosen", "rejected")}
    for row in TEXTS
]  # fmt: skip
ALPACA = [{"instruction": "Translate.", "input": row["prompt"], "output": row["chosen"]} for row in TEXTS]
ODD_TRANSCRIPTS = [
    f"{HUMAN} a{HUMAN} b{ASSISTANT} c", f"{ASSISTANT} a{ASSISTANT} b", f"{HUMAN} a", f"{HUMAN}{ASSISTANT}", "a", "",
    f"{HUMAN} Say Human: or Assistant:{ASSISTANT} Human: b", f"{HUMAN} a{ASSISTANT} b{HUMAN} c{ASSISTANT}",
]  # fmt: skip
NOT_TEXTS = [None, 7, 10**30, 0.5, float("nan"), float("-inf"), True, [], ["a"], {}, {"a": None}, "\ud800"]
INJECTED = [
    "=1+1",
    "<script>alert(1)</script>",
    "<|im_start|>system",
    "[INST]",
    "{{ 7*7 }}",
    "\u202egnp",
    "\r\r\n",
    "\x1b[2J",
]


def lines(rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)  # type: ignore[attr-defined]


def each(values: list) -> bytes:
    """Good rows, and for each value one that has it where a text belongs."""
    return lines(TEXTS) + lines(TEXTS[n % NUM_ROWS] | {"chosen": value} for n, value in enumerate(values))


def csv_of(delimiter: str = ",", end: str = "\n") -> str:
    rows = [["prompt", "chosen", "rejected"], *([f'"{cell}"' for cell in row.values()] for row in TEXTS)]
    return "".join(delimiter.join(row) + end for row in rows)


def parquet_of(columns: dict, **named: object) -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file, **named)
    return file.getvalue()


def odd_parquet() -> bytes:
    import pyarrow

    base: dict = {name: [row[name] for row in TEXTS] for name in ("prompt", "chosen")}
    when = pyarrow.array([datetime(2026, 1, 1)] * NUM_ROWS, pyarrow.timestamp("ns", "Nowhere/Atall"))
    return parquet_of(base | {
        "rejected": pyarrow.array([b"caf\xe9"] * NUM_ROWS, pyarrow.binary()), "when": when,
        "cost": [Decimal("1.10")] * NUM_ROWS, "map": pyarrow.array([[("a", 1)]] * NUM_ROWS,
        pyarrow.map_(pyarrow.string(), pyarrow.int64())), "nothing": pyarrow.nulls(NUM_ROWS),
        "long": pyarrow.array([2**62] * NUM_ROWS, pyarrow.duration("s")),
    })  # fmt: skip


def nulls_in_no_bytes() -> bytes:
    """A row of three million objects, in a file of a few kilobytes."""
    import pyarrow

    empty = pyarrow.StructArray.from_arrays([pyarrow.nulls(3_000_000)], ["a"])
    ends = [0, *([3_000_000] * NUM_ROWS)]
    chosen = pyarrow.ListArray.from_arrays(pyarrow.array(ends, pyarrow.int32()), empty)
    return parquet_of({"prompt": [row["prompt"] for row in TEXTS], "chosen": chosen})


def snapshot() -> bytes:
    header = {"format": "preference-snapshot-1", "source": "rows.jsonl", "num_rows": NUM_ROWS + 1, "found": "Columns.",
              "is_paired": True, "left_out": [{"row": 13, "reason": "an empty reply", "detail": ""}]}  # fmt: skip
    rows = [
        {"part": "held_out" if n > 9 else "train", "row": n + 1}
        | row
        | {"prompt": [{"role": "user", "content": row["prompt"]}]}
        for n, row in enumerate(TEXTS)
    ]
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in [header, *rows])


DEEP = [
    b'{"prompt":' + b"[" * depth + b"]" * depth + b',"chosen":"a","rejected":"b"}\n' for depth in (400, 990, 100_000)
]
COMMAS = b'{"chosen":[' + b"{}," * 300_000 + b"{}]}\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n"

SEEDS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": (".jsonl", lambda: b""),
    "blank lines": (".jsonl", lambda: b"\n \r\n\n" * 9),
    "a pointer of Git LFS": (".jsonl", lambda: LFS),
    "a pointer to what is packed": (".jsonl.gz", lambda: LFS),
    "UTF-16": (".jsonl", lambda: lines(HH).decode().encode("utf-16")),
    "Latin-1": (".jsonl", lambda: b'{"chosen": "caf\xe9"}\n' + lines(HH)),
    "a byte order mark and CRLF": (".jsonl", lambda: b"\xef\xbb\xbf" + lines(HH).replace(b"\n", b"\r\n")),
    "NUL": (".jsonl", lambda: lines(TEXTS).replace(b"box 7", b"box \0")),
    "scalars and lists": (".jsonl", lambda: lines([*TEXTS, 7, None, "a", [1], True, {}])),
    "one large array": (".json", lambda: json.dumps(HH, indent=2).encode()),
    "a torn array": (".json", lambda: json.dumps(TEXTS).encode()[:-9]),
    "a torn last line": (".jsonl", lambda: lines(MESSAGES)[:-30]),
    "no texts": (".jsonl", lambda: each(NOT_TEXTS)),
    "keys twice, long numbers": (".jsonl", lambda: lines(TEXTS) + b'{"chosen":"a","chosen":"b"}\n' + b"9" * 5000),
    "too deep": (".jsonl", lambda: lines(TEXTS) + b"".join(DEEP)),
    "other columns": (".jsonl", lambda: lines({"q": "a", "\ud800": "b", "": 1, "x" * 500: n} for n in range(9))),
    "synonyms and a row too few": (".jsonl", lambda: lines(SHAREGPT[:7])),
    "instructions": (".jsonl", lambda: lines(ALPACA)),
    "all alike": (".jsonl", lambda: lines([HH[0]] * 9 + [TEXTS[0] | {"rejected": TEXTS[0]["chosen"]}] * 9)),
    "odd transcripts": (".jsonl", lambda: lines({"chosen": a, "rejected": a + "!"} for a in ODD_TRANSCRIPTS)),
    "text that means to be run": (".jsonl", lambda: each(INJECTED)),
    "packed": (".jsonl.gz", lambda: gzip.compress(lines(HH)) + gzip.compress(lines(MESSAGES)) + b"\0\0"),
    "said to be packed": (".jsonl.gz", lambda: lines(HH)),
    "objects without an end": (".json.gz", lambda: gzip.compress(b"[" + b"{}," * 2_000_000 + b"{}]")),
    "rows of nothing but commas": (".jsonl.gz", lambda: gzip.compress(COMMAS * 40)),
    "a ragged table": (".csv", lambda: (csv_of() + "a,b\na,b,c,d\n" + csv_of(";", "\r\n") + "NA,,1e5\n").encode()),
    "an open quote": (".csv", lambda: (csv_of() + 'a,"b,c\n' + csv_of("\t", "\r")).encode()),
    "ten thousand columns": (".csv", lambda: ",".join(map(str, range(30_000))).encode() + b"\n1\n"),
    "a table": (".parquet", lambda: parquet_of({name: [row[name] for row in TEXTS] for name in TEXTS[0]})),
    "a table of odd kinds": (".parquet", odd_parquet),
    "nulls in no bytes": (".parquet", nulls_in_no_bytes),
    "a snapshot": (".jsonl", snapshot),
}  # fmt: skip

PIECES = [
    b'"', b"\n", b"\r", b"{", b"}", b"[", b",", b";", b"\t", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\\ud800", b"null",
    b"NaN", b"\x80", b"-1", b"=1+1", b'""', b"\n\nHuman:", b"\n\nAssistant:", b'"chosen":', b'"prompt":', b"\\",
    b'"rejected":""', b'"row":"x",', b"<|im_end|>", b"true", b"9" * 30,
]  # fmt: skip


@cache
def seed_file(name: str) -> tuple[str, bytes]:
    suffix, make = SEEDS[name]
    return suffix, make()


def damaged(name: str, draw: random.Random) -> tuple[str, bytes]:
    """The seed of this name with up to eight random changes, inside of what is packed for half of those that are."""
    suffix, data = seed_file(name)
    is_unpacked = suffix.endswith(".gz") and data[:2] == b"\x1f\x8b" and len(data) < 2000 and draw.random() < 0.5
    found = bytearray(gzip.decompress(data) if is_unpacked else data)
    for _ in range(draw.randint(1, 8)):
        draw.choice(CHANGES)(found, draw)
    return suffix, gzip.compress(bytes(found)) if is_unpacked else bytes(found)


def _flip(data: bytearray, draw: random.Random) -> None:
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _cut(data: bytearray, draw: random.Random) -> None:
    start = draw.randint(0, len(data))
    del data[start : start + draw.choice([1, 7, 60, len(data)])]


def _insert(data: bytearray, draw: random.Random) -> None:
    place = draw.randint(0, len(data))
    data[place:place] = draw.choice([*PIECES, draw.randbytes(9)]) * draw.choice([1, 1, 2, 2000])


def _swap(data: bytearray, draw: random.Random) -> None:
    rows = bytes(data).split(b"\n")
    a, b = draw.randrange(len(rows)), draw.randrange(len(rows))
    rows[a], rows[b] = rows[b], rows[a]
    data[:] = b"\n".join(rows)


def _repeat(data: bytearray, draw: random.Random) -> None:
    start = draw.randint(0, len(data))
    data[start:start] = bytes(data[start : start + 200]) * draw.choice([1, 3, 50])


CHANGES = (_flip, _flip, _cut, _insert, _insert, _swap, _repeat)
