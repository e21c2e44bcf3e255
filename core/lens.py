"""A look into preference data before a run: what is found, left out and cut, and a pair as the model will see it.

The same reading, cutting and tokenising as a run's own, so that what is shown is what would be trained on.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

from core import run_request, token_rows
from core.chat_template import ChatTemplate, PrefixError, TemplateRefusal
from core.columns import UnmappedColumns
from core.errors import DataError
from core.file_rows import LeftOut, Reason, Row
from core.loader import ResidentModel
from core.messages import Conversation
from core.preferences import PreferenceData
from core.redact import api_key
from core.settings import DATA
from core.sources import read_rows
from core.transcripts import PreferencePair
from core.wire import DataView, PairView, RunRequest, SpanKind, Spans

MAX_KEPT = 4
# A thousand pairs take a second or two, and whoever else asks the engine waits that long.
MAX_MEASURED = 5_000
# Of a row that makes no pair; a line of a file may be megabytes long.
MAX_RAW_CHARS = 20_000

Key = tuple[Any, ...]


@dataclass(frozen=True)
class _Look:
    """What was found for one request. `raw` is filled once a row is asked for that makes no pair."""

    source: str
    request: RunRequest
    data: PreferenceData
    view: DataView
    raw: dict[int, str] = field(default_factory=dict)


# Tokens belong to a tokenizer, so what is kept goes with it.
_kept: WeakKeyDictionary[ResidentModel, dict[Key, _Look]] = WeakKeyDictionary()


def look(resident: ResidentModel, request: RunRequest, row: int | None = None) -> DataView:
    """What `request` would find in its data, with what stands in `row`, or else the first pair.

    DataError as a run of it would raise it, and where there is no such row.
    """
    request = run_request.with_config(request)
    _, settings = run_request.read_settings(resident, request)
    try:
        found = _look(resident, request, settings.max_length)
    except UnmappedColumns as error:
        return DataView(str(error), columns=tuple(error.columns), is_unmapped=True)
    pairs = {pair.row: pair for pair in _pairs(found.data)}
    row = next(iter(pairs)) if row is None else row
    if row not in pairs:
        return replace(found.view, raw=_raw(found, row))
    return replace(found.view, pair=_pair_view(resident.template, pairs[row], settings.max_length))


def _look(resident: ResidentModel, request: RunRequest, max_length: int) -> _Look:
    source = run_request.resolve_source(request)
    key = (*run_request.data_key(source, request), max_length)
    kept = _kept.setdefault(resident, {})
    if key not in kept:
        if len(kept) >= MAX_KEPT:
            kept.clear()
        data = run_request.read_data(source, request, api_key("HUGGINGFACE_TOKEN"))
        kept[key] = _Look(source, request, data, _view(resident, data, max_length))
    return kept[key]


def _view(resident: ResidentModel, data: PreferenceData, max_length: int) -> DataView:
    lengths: list[tuple[int, int, int]] = []
    num_cut = 0
    left_out = {row.row: row for row in data.left_out}
    for number, pair in enumerate(_pairs(data)):
        if number == MAX_MEASURED:
            break
        try:
            whole = token_rows.whole(resident.template, pair)
            num_cut += token_rows.cut(whole, max_length).num_cut
            lengths.append((len(whole.prompt_ids), len(whole.chosen_ids), len(whole.rejected_ids)))
        except PrefixError as error:
            left_out[pair.row] = LeftOut(pair.row, Reason(str(error)))
        except TemplateRefusal as error:
            left_out[pair.row] = LeftOut(pair.row, Reason.REFUSED, str(error))
    prompts, chosen, rejected = zip(*lengths, strict=True) if lengths else ((), (), ())
    return DataView(
        data.found, (), False, data.is_paired, data.num_rows, _usable(data.train, left_out),
        _usable(data.held_out, left_out), tuple(left_out[row] for row in sorted(left_out)), prompts, chosen, rejected,
        num_cut, max_length, resident.name, data.sha256,
    )  # fmt: skip


def _pairs(data: PreferenceData) -> Iterable[PreferencePair]:
    return chain(data.train, data.held_out)


def _usable(pairs: Sequence[PreferencePair], left_out: dict[int, LeftOut]) -> tuple[int, ...]:
    return tuple(pair.row for pair in pairs if pair.row not in left_out)


# --- one row ----------------------------------------------------------------------------------------------


def _pair_view(template: ChatTemplate, pair: PreferencePair, max_length: int) -> PairView:
    chosen, rejected = (_spans(template, pair.prompt, reply, max_length) for reply in (pair.chosen, pair.rejected))
    return PairView(pair.row, pair.prompt, pair.chosen, pair.rejected, chosen, rejected)


def _spans(template: ChatTemplate, prompt: Conversation, reply: str, max_length: int) -> Spans:
    """The rendered text in its parts; what a character's tokens are parted by is cut with the later of them."""
    if not reply:
        return ()
    try:
        num_prompt = len(template.pair_ids(prompt, reply)[0])
    except (PrefixError, TemplateRefusal):
        return ()
    text = template.pair_text(prompt, reply)
    starts = [*template.token_starts(text), len(text)]
    reply_at, cut_at = (starts[min(place, max_length, len(starts) - 1)] for place in (num_prompt, max_length))
    parts = (text[:reply_at], SpanKind.PROMPT), (text[reply_at:cut_at], SpanKind.TRAINED), (text[cut_at:], SpanKind.CUT)
    return tuple((part, kind) for part, kind in parts if part)


def _raw(found: _Look, row: int) -> str:
    """What stands in a row that makes no pair, as text; DataError where no such row was read."""
    if row not in {left_out.row for left_out in found.data.left_out}:
        rows = [*found.view.train_rows, *found.view.held_out_rows, *(left.row for left in found.view.left_out)]
        raise DataError(f"There is no row {row}: rows {min(rows):,} to {max(rows):,} were read.")
    # A snapshot keeps why a row was left out, and not the row.
    if found.data.source == found.source and not found.raw:
        found.raw.update(_read_raw(found))
    return found.raw.get(row, "")


def _read_raw(found: _Look) -> dict[int, str]:
    """The rows left out that are values at all, read once more: a run has no use for them."""
    asked = {"limit": found.request.limit, "held_out": found.request.held_out}
    most = sum(DATA[name].default if number is None else number for name, number in asked.items())
    left_out = {row.row for row in found.data.left_out}
    rows = read_rows(found.source, most, api_key("HUGGINGFACE_TOKEN"))
    return {row.row: _as_text(row.value) for row in rows if isinstance(row, Row) and row.row in left_out}


def _as_text(value: Any) -> str:
    """Its columns one below the other, texts as they are."""
    parts = value.items() if isinstance(value, dict) else [("", value)]
    said = (f"{name}:\n{part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, default=str)}"
            for name, part in parts)  # fmt: skip
    # Half a character is nothing that a page can be sent.
    return "\n\n".join(said)[:MAX_RAW_CHARS].encode(errors="replace").decode()
