"""The data lens in words, lists and pictures: a DataView in, sentences, rows and marked texts out.

Pure: no gradio, no engine, no disk. Texts of the data leave as plain text for components that show it letter by
letter; what goes into Markdown or HTML is numbers, fixed words and what went through `as_text`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from statistics import median

from core.file_rows import Reason
from core.stats import wilson
from core.ui.compare_views import word_diff
from core.ui.views import as_text, count
from core.wire import DataView, PairView, SpanKind, Spans


class Rows(StrEnum):
    """Which rows are leafed through; a reason's words stand for the rows left out for it."""

    ALL = "every pair"
    TRAIN = "to train on"
    HELD_OUT = "held out"
    CUT = "cut at max length"
    LEFT_OUT = "left out"


LEFT_OUT_HEADERS = ["Row", "Why", "Detail"]
# A browser has to lay out what it is sent, and a reply may be megabytes long.
MAX_SHOWN_CHARS = 8_000
MAX_TABLE_ROWS = 1_000
MAX_BINS = 24
# Round numbers, so that an axis can be read; the last is more than any base's context.
BIN_WIDTHS = [step * 10**power for power in range(8) for step in (1, 2, 5)]
SIDES = ("prompt", "chosen", "rejected")
NO_TEMPLATE = "The model's chat template cannot take this pair, so the model will not see it."


# --- which rows -------------------------------------------------------------------------------------------


def rows_of(view: DataView, which: str) -> tuple[int, ...]:
    """The numbers of the rows that `which` names, in the order in which they are leafed through."""
    named: dict[str, tuple[int, ...]] = {
        Rows.ALL: view.train_rows + view.held_out_rows,
        Rows.TRAIN: view.train_rows,
        Rows.HELD_OUT: view.held_out_rows,
        Rows.CUT: tuple(row for row, longest in _longest(view) if longest > view.max_length),
        Rows.LEFT_OUT: tuple(row.row for row in view.left_out),
    }
    return named.get(which, tuple(row.row for row in view.left_out if row.reason == which))


def row_choices(view: DataView) -> list[tuple[str, str]]:
    """(label, value) of all that can be leafed through, with how many rows each holds; the empty are left away."""
    reasons = list(dict.fromkeys(row.reason.value for row in view.left_out))
    labels = {which.value: which.capitalize() for which in Rows} | {reason: f"Left out: {reason}" for reason in reasons}
    return [(f"{label} ({len(found):,})", which) for which, label in labels.items() if (found := rows_of(view, which))]


def neighbour(rows: Sequence[int], row: int | None, step: int) -> int | None:
    """The row `step` places on, round from the last to the first; the first where `row` is none of them."""
    if not rows:
        return None
    return rows[(rows.index(row) + step) % len(rows)] if row in rows else rows[0]


def left_out_table(view: DataView) -> list[list[str]]:
    """Under LEFT_OUT_HEADERS; text, so that no detail is taken for anything else."""
    return [[str(row.row), row.reason.value, row.detail] for row in view.left_out[:MAX_TABLE_ROWS]]


def _longest(view: DataView) -> Iterator[tuple[int, int]]:
    # Lengths may be those of the first pairs alone.
    rows = view.train_rows + view.held_out_rows
    for row, prompt, chosen, rejected in zip(
        rows, view.prompt_lengths, view.chosen_lengths, view.rejected_lengths, strict=False
    ):
        yield row, prompt + max(chosen, rejected)


# --- in words ---------------------------------------------------------------------------------------------


def summary(view: DataView) -> str:
    """What was found and how it is divided, in Markdown."""
    unit = "pair" if view.is_paired else "example"
    left_out = f"{len(view.left_out):,} left out" if view.left_out else "none left out"
    return (
        f"{as_text(view.found)}\n\n**{count(len(view.train_rows), unit)} to train on**, "
        f"{len(view.held_out_rows):,} held out, {left_out}, of {count(view.num_rows, 'row')} read. "
        f"Tokens and chat template are those of {as_text(view.base)}."
    )


def row_title(view: DataView, row: int) -> str:
    """Which row is shown and what becomes of it, in Markdown."""
    reason = next((left for left in view.left_out if left.row == row), None)
    if reason:
        detail = f" ({as_text(reason.detail)})" if reason.detail else ""
        return f"**Row {row:,}** · left out: {as_text(reason.reason)}{detail}"
    return f"**Row {row:,}** · {Rows.HELD_OUT if row in view.held_out_rows else Rows.TRAIN}"


def figures(view: DataView) -> str:
    """What the data's figures are, with their doubt; a list in Markdown."""
    reasons = Counter(row.reason for row in view.left_out)
    repeated = (
        f"Rows that repeat an earlier one: {reasons[Reason.DUPLICATE]:,}; pairs whose two replies are the same: "
        f"{reasons[Reason.SAME_REPLY]:,}. Both are left out"
    )
    return "\n".join(f"- {line}." for line in [*_length_lines(view), repeated])


def _length_lines(view: DataView) -> list[str]:
    if not (measured := len(view.prompt_lengths)):
        return []
    replies = measured * (2 if view.is_paired else 1)
    lines = [
        f"Tokens at the median: {', '.join(f'{name} {median(side):,.0f}' for name, side in _sides(view))}",
        f"Cut at max length ({view.max_length:,} tokens, prompt and reply together): {view.num_cut:,} of "
        f"{count(replies, 'reply', 'replies')} ({view.num_cut / replies:.1%})",
    ]
    if view.is_paired:
        longer = sum(map(int.__gt__, view.chosen_lengths, view.rejected_lengths))
        share, low, high = longer / measured, *wilson(longer, measured)
        lines.append(f"The chosen reply is the longer one in {longer:,} of {count(measured, 'pair')} "
                     f"({share:.2f}; {low:.2f} to {high:.2f})")  # fmt: skip
    if measured < len(view.train_rows + view.held_out_rows):
        lines.append(f"Lengths and cuts are those of the first {measured:,} pairs")
    return lines


def _sides(view: DataView) -> list[tuple[str, tuple[int, ...]]]:
    sides = zip(SIDES, (view.prompt_lengths, view.chosen_lengths, view.rejected_lengths), strict=True)
    return [(name, side) for name, side in sides if side and (view.is_paired or name != "rejected")]


# --- one pair ---------------------------------------------------------------------------------------------


def diff(pair: PairView) -> list[tuple[str, str | None]]:
    """Both replies as one text, rejected against chosen; a reply without another stands as it is."""
    if not pair.rejected:
        return [(shortened(pair.chosen), None)]
    return word_diff(shortened(pair.rejected), shortened(pair.chosen))


def seen(spans: Spans) -> list[tuple[str, str | None]]:
    """What the model will see with a reply: marked is what it is trained on and what is cut, not what it only reads."""
    marks = {SpanKind.TRAINED: SpanKind.TRAINED.value, SpanKind.CUT: SpanKind.CUT.value}
    return [(shortened(text), marks.get(kind)) for text, kind in spans] or [(NO_TEMPLATE, None)]


def shortened(text: str) -> str:
    if len(text) <= MAX_SHOWN_CHARS:
        return text
    return f"{text[:MAX_SHOWN_CHARS]} … {len(text) - MAX_SHOWN_CHARS:,} more characters"


# --- pictures ---------------------------------------------------------------------------------------------


def histograms(view: DataView) -> tuple[int, dict[str, list[tuple[int, int]]]]:
    """The width of a bin in tokens, and for prompt, chosen and rejected how many lie in each bin from its middle."""
    sides = dict(_sides(view))
    longest = max((max(side) for side in sides.values()), default=1)
    width = next(width for width in BIN_WIDTHS if width * MAX_BINS >= longest)
    return width, {name: _bins(side, width) for name, side in sides.items()}


def _bins(lengths: Sequence[int], width: int) -> list[tuple[int, int]]:
    found = Counter(length // width for length in lengths)
    return [(place * width + width // 2, found[place]) for place in range(max(found) + 1)]


def reason_bars(view: DataView) -> str:
    """How many rows were left out for each reason, as bars with their numbers; empty where none were."""
    reasons = Counter(row.reason.value for row in view.left_out).most_common()
    most = max((number for _, number in reasons), default=1)
    bars = "".join(
        f'<div class="row"><span>{as_text(reason)}</span><span class="track">'
        f'<i class="range" style="left:0;width:{100 * number / most:.1f}%"></i></span>'
        f"<span>{count(number, 'row')}</span></div>"
        for reason, number in reasons
    )
    return f'<div class="intervals">{bars}</div>' if bars else ""
