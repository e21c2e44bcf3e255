"""A comparison's result as pictures and blocks of HTML: the outcome bar, the interval plot, the length scatter.

Pure, and made of numbers, fixed words and shapes: whatever a person, a file or a model wrote goes through `as_text`.
What a colour says, a word, a place or a shape says too.
"""

import math
from collections import Counter
from collections.abc import Sequence

from core.agreement import Agreement
from core.export import Row
from core.report import AGREED, FEW_IN_CATEGORY, NOTHING, WHO, Section
from core.results import LIKE_LENGTH, Arm, Results
from core.standing import Decider
from core.stats import Interval, Outcome, Tally
from core.ui.views import as_text, count

# In the order in which they stand in a bar, with the word on each part.
PARTS = {
    Outcome.WIN: "won", Outcome.TIE: "tied", Outcome.FLIP: "flipped", Outcome.LOSS: "lost",
    Outcome.NO_VERDICT: "no verdict",
}  # fmt: skip
# A mark's shape around 0, 0.
SHAPES = {
    Outcome.WIN: '<path d="M0-6 6 5-6 5Z"/>',
    Outcome.LOSS: '<path d="M0 6 6-5-6-5Z"/>',
    Outcome.TIE: '<circle r="4.5"/>',
    Outcome.FLIP: '<path d="M0-6 6 0 0 6-6 0Z"/>',
    Outcome.NO_VERDICT: '<path d="M-4-4 4 4M-4 4 4-4"/>',
}
# The scatter's drawing, in its own units: a square, and room for its axes' words.
SIDE, LEFT, TOP, BELOW = 300, 46, 10, 42
# An axis ends at a multiple of it, so that half of it can be read too.
AXIS_STEP = 32
PlotRow = tuple[str, Interval, int, str]


# --- outcomes -------------------------------------------------------------------------------------------


def outcome_bars(results: Results) -> str:
    return "".join(outcome_bar(arm.tally, _who(arm, results)) for arm in results.arms)


def outcome_bar(tally: Tally, who: str) -> str:
    """Counts of prompts as one bar; every part says its number and its name."""
    counts = dict(zip(PARTS, (tally.wins, tally.ties, tally.flips, tally.losses, tally.no_verdict), strict=True))
    parts = "".join(
        f'<span class="{outcome}" style="flex-grow:{number}">{number} {PARTS[outcome]}</span>'
        for outcome, number in counts.items()
        if number
    )
    return f'<div class="outcomes"><b>{who}</b><div class="bar">{parts}</div></div>'


def _who(arm: Arm, results: Results) -> str:
    decides = len(results.arms) > 1 and arm.by is results.plan.primary
    return WHO[arm.by] + (" (decides)" if decides else "")


# --- the interval plot ----------------------------------------------------------------------------------


def interval_plot(results: Results) -> str:
    return "".join(
        f'<div class="intervals"><b>{_who(arm, results)}</b>{_axis("0 base", "1 tuned")}'
        f"{''.join(map(_row, rate_rows(arm)))}"
        f"{_axis('0 never', '1 always') if arm.floor.n else ''}{''.join(map(_row, noise_rows(arm)))}</div>"
        for arm in results.arms
    )


def rate_rows(arm: Arm) -> list[PlotRow]:
    """Win rates with their intervals: all prompts, the parts of them that say more, and each category."""
    rows = [("All prompts", _rate(arm.tally), arm.tally.n, "main")]
    if 0 < arm.uncut.n < arm.tally.n:
        rows.append(("Neither response cut", _rate(arm.uncut), arm.uncut.n, ""))
    rows.append((f"Lengths within {LIKE_LENGTH:g} times", _rate(arm.like_length), arm.like_length.n, ""))
    if len(arm.categories) > 1:
        rows += [(as_text(name), _rate(tally), tally.n, "category") for name, tally in arm.categories]
    return [(name, rate, n, kind + (" few" if n < FEW_IN_CATEGORY else "")) for name, rate, n, kind in rows]


def noise_rows(arm: Arm) -> list[PlotRow]:
    """How often either response was preferred: of the real pairs, and of the placebos, which can only be noise."""
    if not arm.floor.n:
        return []
    return [
        ("One preferred, base and tuned", arm.real.decided, arm.real.n, "share"),
        ("One preferred, base and base: noise", arm.floor.decided, arm.floor.n, "share noise"),
    ]


def _rate(tally: Tally) -> Interval:
    return Interval(tally.win_rate, tally.low, tally.high)


def _axis(low: str, high: str) -> str:
    return (
        f'<div class="row axis"><span></span><span class="track"><span>{low}</span><span>0.5</span>'
        f"<span>{high}</span></span><span></span></div>"
    )


def _row(row: PlotRow) -> str:
    name, rate, n, kind = row
    if rate.share is None or rate.low is None or rate.high is None:
        return f'<div class="row {kind}"><span>{name}</span><span class="track"></span><span>no verdict</span></div>'
    low, share, high = (100 * value for value in (rate.low, rate.share, rate.high))
    return (
        f'<div class="row {kind}"><span>{name}</span><span class="track"><i class="half"></i>'
        f'<i class="range" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
        f'<i class="rate" style="left:{share:.1f}%"></i></span>'
        f"<span>{rate.share:.2f} <small>({rate.low:.2f} to {rate.high:.2f}), n {n}</small></span></div>"
    )


# --- the length scatter ---------------------------------------------------------------------------------


def length_scatter(results: Results) -> str:
    """Tokens of base's response against tuned's: a mark a pair, below the line where tuned is shorter."""
    marks = [
        (row.base_tokens, row.tuned_tokens, _outcome(row, results.plan.primary))
        for row in results.rows
        if row.base_tokens is not None and row.tuned_tokens is not None
    ]
    if not marks:
        return ""
    end = AXIS_STEP * math.ceil(max(1, *(max(base, tuned) for base, tuned, _ in marks)) / AXIS_STEP)
    drawn = "".join(_mark(*mark, SIDE / end) for mark in marks)
    shorter = sum(tuned < base for base, tuned, _ in marks)
    said = f"Tuned is the shorter one in {shorter} of {count(len(marks), 'pair')}: those lie below the line."
    size = f"0 0 {LEFT + SIDE + 14} {TOP + SIDE + BELOW}"
    return (
        f'<figure class="scatter"><svg viewBox="{size}" role="img" aria-label="{said}">{_frame(end)}{drawn}</svg>'
        f"<figcaption>{said}</figcaption>{_legend(Counter(outcome for *_, outcome in marks))}</figure>"
    )


def _mark(base: int, tuned: int, outcome: Outcome, scale: float) -> str:
    place = f"{LEFT + base * scale:.1f} {TOP + SIDE - tuned * scale:.1f}"
    title = f"<title>base {base}, tuned {tuned} tokens: {PARTS[outcome]}</title>"
    return f'<g class="{outcome}" transform="translate({place})">{SHAPES[outcome]}{title}</g>'


def _outcome(row: Row, by: Decider) -> Outcome:
    return Outcome((row.human_outcome if by is Decider.HUMAN else row.judge_outcome) or Outcome.NO_VERDICT)


def _frame(end: int) -> str:
    right, bottom = LEFT + SIDE, TOP + SIDE
    ticks = "".join(
        f'<text x="{LEFT + SIDE * share:.0f}" y="{bottom + 16}" text-anchor="middle">{end * share:.0f}</text>'
        f'<text x="{LEFT - 7}" y="{bottom - SIDE * share + 4:.0f}" text-anchor="end">{end * share:.0f}</text>'
        for share in (0, 0.5, 1)
    )
    return (
        f'<path class="grid" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
        f'<path class="same" d="M{LEFT} {bottom}L{right} {TOP}"/>{ticks}'
        f'<text x="{LEFT + SIDE / 2:.0f}" y="{bottom + 34}" text-anchor="middle">tokens of base</text>'
        f'<text transform="translate(13 {TOP + SIDE / 2:.0f}) rotate(-90)" text-anchor="middle">tokens of tuned</text>'
    )


def _legend(counts: Counter[Outcome]) -> str:
    entries = "".join(
        f'<li><svg viewBox="-8 -8 16 16" aria-hidden="true"><g class="{outcome}">{shape}</g></svg>'
        f"{counts[outcome]} {PARTS[outcome]}</li>"
        for outcome, shape in SHAPES.items()
        if counts[outcome]
    )
    return f'<ul class="legend">{entries}</ul>'


# --- in words -------------------------------------------------------------------------------------------


def blocks(sections: Sequence[Section], agreement: Agreement | None) -> str:
    """Titled lines, side by side; where person and judge both spoke, their table stands with what is said of it."""
    return f'<div class="sections">{"".join(_block(title, lines, agreement) for title, lines in sections)}</div>'


def _block(title: str, lines: Sequence[str], agreement: Agreement | None) -> str:
    said = "".join(f"<p>{as_text(line)}</p>" for line in lines)
    counted = agreement_table(agreement) if agreement and title == AGREED else ""
    return f"<section><h4>{as_text(title)}</h4>{counted}{said}</section>"


def agreement_table(agreement: Agreement) -> str:
    """What the person said of each pair, by what Gemini said of it: counts."""
    names = ("won", "tied", "lost")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">You: {name}</th>'
        + "".join(f"<td{' class=same' if k == place else ''}>{number}</td>" for place, number in enumerate(row))
        + "</tr>"
        for k, (name, row) in enumerate(zip(names, agreement.table, strict=True))
    )
    return (
        f'<table class="agreement"><thead><tr><th scope="col">Gemini: tuned</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def called_nothing(lines: Sequence[str]) -> str:
    """The callout that nothing was learned; empty where nothing says so."""
    return f'<div class="nothing" role="note">{_block(NOTHING, lines, None)}</div>' if lines else ""
