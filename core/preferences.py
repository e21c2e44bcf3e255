"""Preference data for a run: rows made into pairs, cut into training and held-out ones, kept as a snapshot.

Every row that is left out is kept with its reason. Knows nothing of tokens and models: what a tokenizer makes of
a pair is the trainer's to say.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from core.columns import Form, Rows, find_form
from core.errors import DataError
from core.file_rows import LeftOut, Reason, Row
from core.messages import Role, as_dicts
from core.paths import writing
from core.settings import DATA, HELD_OUT_SHARE, MIN_USABLE_ROWS
from core.sources import local_file, read_rows
from core.transcripts import PreferencePair, RowError, to_pair, to_reply

Value = TypeVar("Value")

FORM = 'A row is {"chosen": ..., "rejected": ...} with transcripts, or with texts and a "prompt" beside them.'
SNAPSHOT = "preference-snapshot-1"
SNAPSHOT_START = f'{{"format":"{SNAPSHOT}"'.encode()


@dataclass(frozen=True)
class PreferenceData:
    """What a run trains on and is measured on. `sha256` is that of the snapshot's bytes.

    `found` says in a sentence what form the rows had. Without `is_paired` there are no rejected replies.
    """

    source: str
    train: tuple[PreferencePair, ...]
    held_out: tuple[PreferencePair, ...]
    left_out: tuple[LeftOut, ...]
    num_rows: int
    sha256: str = ""
    found: str = ""
    is_paired: bool = True

    def left_out_counts(self) -> dict[str, int]:
        """How many rows were left out for each reason, the commonest first."""
        return dict(Counter(row.reason.value for row in self.left_out).most_common())


def read(
    source: str,
    limit: int = 1000,
    held_out: int | None = None,
    token: str = "",
    columns: Mapping[str, str] | None = None,
    split_seed: int = 0,
) -> PreferenceData:
    """`source`, as core/sources.py names them, cut for a run; DataError where it cannot be used.

    Training gets the first `limit` rows. Held out are the `held_out` rows after them or, where the data ends before,
    its last ones; unless told, a quarter of the rows and at most 200. A `split_seed` other than 0 draws the held-out
    rows from all of these instead. `columns` says which column holds "prompt", "chosen" and "rejected" where that
    does not show, which is UnmappedColumns. A run's snapshot stays as it is.
    """
    limit = DATA["limit"].check(limit)
    held_out = None if held_out is None else DATA["held_out"].check(held_out)
    split_seed = DATA["split_seed"].check(split_seed)
    path = local_file(source)
    if path and _is_snapshot(path):
        return read_snapshot(path)
    rows = read_rows(source, limit + (DATA["held_out"].default if held_out is None else held_out), token)
    if not rows:
        raise DataError(f"'{source}' holds no rows. {FORM}")
    data = _prepare(source, find_form(source, rows, columns), *_cut(rows, limit, held_out, split_seed))
    if len(data.train) < MIN_USABLE_ROWS:
        raise DataError(_too_few(data))
    return replace(data, sha256=hashlib.sha256(_as_bytes(data)).hexdigest())


def require_pairs(data: PreferenceData) -> None:
    """DataError where there are no rejected replies for DPO to learn from."""
    if not data.is_paired:
        raise DataError(
            f"'{data.source}' holds no rejected replies, and DPO learns from both: take SFT, or data with a rejected "
            "reply."
        )


def first_human_turn(pair: PreferencePair) -> str:
    """What the conversation starts from, folded."""
    return folded(next(turn.content for turn in pair.prompt if turn.role is Role.USER))


def folded(text: str) -> str:
    """A form that case and spacing do not change."""
    return " ".join(text.split()).casefold()


def _cut(rows: Rows, limit: int, held_out: int | None, split_seed: int) -> tuple[Rows, Rows]:
    if held_out is None:
        held_out = min(DATA["held_out"].default, int(min(len(rows), limit) * HELD_OUT_SHARE))
    rows = rows[: limit + held_out]
    end = max(0, len(rows) - held_out)
    if not split_seed:
        return rows[:end], rows[end:]
    drawn = set(random.Random(split_seed).sample(range(len(rows)), len(rows) - end))
    return [row for n, row in enumerate(rows) if n not in drawn], [row for n, row in enumerate(rows) if n in drawn]


def _prepare(source: str, form: Form, train_rows: Rows, held_out_rows: Rows) -> PreferenceData:
    left_out: list[LeftOut] = []
    seen: set[tuple[Any, ...]] = set()
    train = list(_pairs(form, train_rows, seen, left_out))
    held_out = list(_pairs(form, held_out_rows, seen, left_out))
    trained_on = {first_human_turn(pair) for pair in train}
    left_out += [LeftOut(pair.row, Reason.OVERLAP) for pair in held_out if first_human_turn(pair) in trained_on]
    return PreferenceData(
        source,
        tuple(train),
        tuple(pair for pair in held_out if first_human_turn(pair) not in trained_on),
        tuple(sorted(left_out, key=lambda row: row.row)),
        len(train_rows) + len(held_out_rows),
        found=form.found,
        is_paired=form.is_paired,
    )


def _pairs(form: Form, rows: Rows, seen: set[tuple[Any, ...]], left_out: list[LeftOut]) -> Iterator[PreferencePair]:
    for row in rows:
        if isinstance(row, LeftOut):
            left_out.append(row)
            continue
        try:
            pair = form.pair(row)
        except RowError as error:
            left_out.append(LeftOut(row.row, error.reason, error.detail))
            continue
        key = (pair.prompt, pair.chosen, pair.rejected)
        if key in seen:
            left_out.append(LeftOut(row.row, Reason.DUPLICATE))
            continue
        seen.add(key)
        yield pair


def _too_few(data: PreferenceData) -> str:
    num_held_out = f", {len(data.held_out)} of them held out" if data.held_out else ""
    sentence = (
        f"'{data.source}' gives {len(data.train)} usable rows to train on, and at least {MIN_USABLE_ROWS} are needed: "
        f"{data.num_rows} read{num_held_out}."
    )
    if data.left_out:
        first = data.left_out[0]
        counts = ", ".join(f"{count} {reason}" for reason, count in data.left_out_counts().items())
        detail = f" ({first.detail})" if first.detail else ""
        sentence += f" Left out: {counts}; the first is row {first.row}, {first.reason}{detail}."
    return f"{sentence} {FORM}"


def write_snapshot(data: PreferenceData, path: Path) -> str:
    """Keep exactly these pairs at `path`, in one piece; the file's SHA-256."""
    content = _as_bytes(data)
    with writing(path) as aside:
        aside.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_snapshot(path: Path) -> PreferenceData:
    """The very data that `write_snapshot` was given; DataError where the file is gone or damaged."""
    try:
        content = path.read_bytes()
        header, *rows = (json.loads(line) for line in content.splitlines())
        if header["format"] != SNAPSHOT:
            raise ValueError(f"its format is {header['format']!r}")
        sides: dict[str, list[PreferencePair]] = {"train": [], "held_out": []}
        # A run of an older version knew one form alone, and has no word for it.
        is_paired, found = header.get("is_paired", True), header.get("found", "")
        for row in rows:
            # By the rules for any other data: a file may only claim to be a snapshot.
            pair = (to_pair if is_paired else to_reply)(Row(_checked(int, row["row"]), row))
            sides[row["part"]].append(pair)
        left_out = tuple(
            LeftOut(_checked(int, row["row"]), Reason(row["reason"]), _checked(str, row["detail"]))
            for row in header["left_out"]
        )
        return PreferenceData(
            _checked(str, header["source"]),
            tuple(sides["train"]),
            tuple(sides["held_out"]),
            left_out,
            _checked(int, header["num_rows"]),
            hashlib.sha256(content).hexdigest(),
            _checked(str, found),
            bool(is_paired),
        )
    except OSError as error:
        raise DataError(f"The run's data {path} cannot be read ({error.strerror}). Start a new run.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RowError) as error:
        raise DataError(f"The run's data {path} is damaged ({str(error)[:120]}). Start a new run.") from error


def _checked(kind: type[Value], value: Any) -> Value:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


def _is_snapshot(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(SNAPSHOT_START)) == SNAPSHOT_START
    except OSError:
        return False


def _as_bytes(data: PreferenceData) -> bytes:
    """A header line, then a line a pair, in order; ASCII, so that no reader and no system sees other lines."""
    header = {
        "format": SNAPSHOT,
        "source": data.source,
        "num_rows": data.num_rows,
        "found": data.found,
        "is_paired": data.is_paired,
        "left_out": [asdict(row) for row in data.left_out],
    }
    lines = [header, *_lines("train", data.train), *_lines("held_out", data.held_out)]
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def _lines(part: str, pairs: Iterable[PreferencePair]) -> list[dict[str, Any]]:
    return [
        {
            "part": part,
            "row": pair.row,
            "prompt": as_dicts(pair.prompt),
            "chosen": pair.chosen,
            "rejected": pair.rejected,
        }
        for pair in pairs
    ]
