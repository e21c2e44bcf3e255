"""Compare's words, tables and cells: prompts, rows and scenes in, sentences out.

Pure: no gradio, no engine, no disk. What a comparison can show and came to is said by core/report.py; here is what
only the page says. A text that a person, a file or a model wrote leaves as plain text, or through `as_text`.
"""

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from core.blind import HumanVerdict
from core.compare import STEM
from core.export import Row
from core.judge import BASE, NO_VERDICT, REASON_WORDS, TUNED
from core.prompts import Prompt, check_prompts
from core.report import held_out_lines, trained_sentence
from core.results import Results
from core.standing import Decider
from core.stats import Outcome
from core.ui.compare_scene import Scene
from core.ui.compare_worker import ANSWERING, JUDGING, MEASURING, Progress
from core.ui.views import as_text, count, duration


class Mode(StrEnum):
    """Who decides. The outcome that makes the headline is chosen before anything is asked."""

    HUMAN = "human"
    SECONDED = "seconded"
    BOTH = "both"
    ALONE = "alone"

    @property
    def is_judged(self) -> bool:
        return self is not Mode.HUMAN

    @property
    def primary(self) -> Decider:
        return Decider.HUMAN if self in (Mode.HUMAN, Mode.SECONDED) else Decider.JUDGE


MODES = {
    Mode.HUMAN: "I decide, blind",
    Mode.SECONDED: "I decide, Gemini judges too",
    Mode.BOTH: "Gemini decides, I vote too",
    Mode.ALONE: "Gemini alone",
}
WAYS = {
    Mode.HUMAN: "you vote without knowing who is who. **Your votes decide.**",
    Mode.SECONDED: "you vote without knowing who is who, and Gemini judges each pair in both orders. **Your votes "
    "decide**; Gemini's verdicts are held against them.",
    Mode.BOTH: "Gemini judges each pair in both orders, and you vote without knowing who is who. **Gemini's verdicts "
    "decide**; yours are held against them.",
    Mode.ALONE: "Gemini judges each pair in both orders. **Its verdicts decide.**",
}
# In the order of the keys 1 to 5.
VOTES = {
    HumanVerdict.A: "A is better",
    HumanVerdict.B: "B is better",
    HumanVerdict.TIE: "Tie",
    HumanVerdict.BOTH_BAD: "Both bad",
    HumanVerdict.SKIP: "Skip",
}
# A button says its key first, and its label is what a vote arrives as.
VOTE_LABELS = {f"{number}  {words}": verdict for number, (verdict, words) in enumerate(VOTES.items(), start=1)}

NO_ADAPTER = "**No adapter yet.** Train one on the starter data: a few minutes on most machines."
NO_KEY = (
    "Gemini is off: there is no key. Your own blind vote needs none. To have Gemini judge as well, write "
    "`GEMINI_API_KEY=…` into the file `.env` and start the playground again."
)
NOTHING_YET = "**No comparison yet.** Set one up, and base and tuned answer the same prompts."
OVER_EARLY = (
    "Whoever looks and stops when it suits finds more than there is, so the result is marked as ended early, and no "
    "further vote is taken."
)
PHASES = {ANSWERING: "Answered", MEASURING: "Distance from base measured", JUDGING: "Judged by Gemini"}

OUTCOME_WORDS = {
    Outcome.WIN: "tuned is better",
    Outcome.LOSS: "base is better",
    Outcome.TIE: "tie",
    Outcome.FLIP: "its two orders disagree",
}
TABLE_HEADERS = ["Prompt", "Category", "You", "Gemini", "Tuned sat on", "Tokens, base / tuned"]
TABLE_WIDTHS = ["16%", "22%", "17%", "21%", "10%", "14%"]
ONLY_BASE, ONLY_TUNED = "−", "+"
DIFF_COLOURS = {ONLY_BASE: "#8a5a14", ONLY_TUNED: "#1f6f60"}


# --- before ---------------------------------------------------------------------------------------------


def prompt_table(prompts: Iterable[Prompt]) -> list[list[str]]:
    return [[prompt.category, prompt.prompt] for prompt in prompts]


def prompts_of(table: Iterable[Sequence[object]], known: Iterable[Prompt]) -> list[Prompt]:
    """The table's prompts; one whose words are known keeps its id and its turns. RequestError where nothing is left."""
    by_words: dict[str, list[Prompt]] = defaultdict(list)
    taken = set()
    for prompt in known:
        by_words[prompt.prompt.strip()].append(prompt)
        taken.add(prompt.id)
    prompts: list[Prompt] = []
    for category, text in ((_cell(row[0]), _cell(row[1])) for row in table):
        if text:
            same = by_words[text]
            prompt = same.pop(0) if same else Prompt(_free_id(taken), "own", text)
            taken.add(prompt.id)
            prompts.append(replace(prompt, category=category or "own"))
    return check_prompts(prompts)


def _cell(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _free_id(taken: set[str]) -> str:
    return next(name for name in (f"own-{n}" for n in range(1, len(taken) + 2)) if name not in taken)


def plan_words(adapter: str | None, mode: Mode, promised: str, trained_on: Sequence[str], key_words: str) -> str:
    """What Start will do and what that can show, in Markdown; `key_words` are Markdown already."""
    if not adapter:
        return NO_ADAPTER
    said = [f"Base and **{as_text(adapter)}** answer the same prompts, then {WAYS[mode]}", as_text(promised)]
    if trained_on:
        said.append(f"**Seen before:** {as_text(trained_sentence(adapter, trained_on))}")
    return "\n\n".join([*said, *([key_words] if key_words else [])])


def measured_words(result: Mapping[str, Any]) -> str:
    """What the adapter's run found on its held-out pairs, in Markdown; nothing where it held none out."""
    return "\n\n".join(as_text(line) for line in held_out_lines(result))


# --- while it goes on -----------------------------------------------------------------------------------


def comparison_choices(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """When each was begun, as its file's name says it, and that name."""
    found = []
    for name in (path.stem for path in paths):
        day, _, clock = name.removeprefix(f"{STEM}_").partition("_")
        found.append((f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}:{clock[4:6]}", name))
    return found


def title(scene: Scene) -> str:
    """Which comparison it is, in Markdown; who is who stays open."""
    began = datetime.fromisoformat(scene.plan.created_at).strftime("%d %b %H:%M")
    base, pairs = as_text(scene.plan.base_model), count(scene.counts.total, "pair")
    return f"### {as_text(scene.plan.adapter)} against base\n{base} · {pairs} · begun {began}"


def bar(share: float) -> str:
    percent = round(100 * min(1.0, max(0.0, share)))
    return (
        f'<div class="progress" role="progressbar" aria-label="How far the comparison is" aria-valuenow="{percent}" '
        f'aria-valuemin="0" aria-valuemax="100"><div style="width:{percent}%"></div></div>'
    )


def standing_sentence(scene: Scene) -> str:
    """How far it is, and what went wrong if anything did; Markdown."""
    troubles = [f"**It stopped:** {as_text(scene.failure)}"] if scene.failure else []
    if scene.judge_stopped and scene.judge_stopped != scene.failure:
        troubles.append(f"**Gemini stopped:** {as_text(scene.judge_stopped)}")
    if scene.progress:
        said = "Stopping. What is answered and judged stays." if scene.is_stopping else going(scene.progress)
    else:
        said = _halted(scene) if scene.can_go_on else ""
    return "  \n".join([*troubles, *([said] if said else [])])


def going(progress: Progress) -> str:
    left = "" if progress.eta_s is None else f" About {duration(progress.eta_s)} left."
    # Many minutes at nought would look as if it were stuck.
    how = " They are answered many at a time." if progress.phase == ANSWERING and not progress.done else ""
    return f"{PHASES[progress.phase]}: {progress.done} of {count(progress.total, 'pair')}.{how}{left}"


def _halted(scene: Scene) -> str:
    counts = scene.counts
    judged = f" and {counts.judged} judged" if scene.plan.judge_model else ""
    return (
        f"**Not finished:** {counts.answered} of {count(counts.total, 'pair')} answered{judged}. "
        "Go on picks it up there: what is answered and judged stays, and only what was under way is asked again."
    )


def retry_label(reason: str, number: int) -> str:
    return f"Ask again: {number} × {REASON_WORDS[reason]}"


def voted_sentence(voted: int, total: int, commitment: str) -> str:
    return (
        f"{voted} of {count(total, 'pair')} voted. Nothing of the result shows before the last vote.  \n"
        f"Sides and order were sealed before anything was asked, under SHA-256 `{commitment}`"
    )


# --- results --------------------------------------------------------------------------------------------


def seal_sentence(commitment: str, nonce: str) -> str:
    """How anyone can check that no side moved."""
    return (
        f"Sides, order and placebos were dealt from the nonce `{nonce}`. They and it still have the SHA-256 "
        f"`{commitment}` that was written down before anything was asked, so nothing moved in between. Anyone can "
        "check: the log says how."
    )


def table(results: Results) -> list[list[str]]:
    """One line a pair, under TABLE_HEADERS."""
    return [
        [row.prompt_id, row.category, human_words(row), judge_words(row), row.tuned_side,
         f"{tokens(BASE, row, results.cut)} / {tokens(TUNED, row, results.cut)}"]
        for row in results.rows
    ]  # fmt: skip


def human_words(row: Row) -> str:
    if row.human_verdict == HumanVerdict.BOTH_BAD:
        return "both bad"
    if row.human_verdict == HumanVerdict.SKIP:
        return "skipped"
    return OUTCOME_WORDS[Outcome(row.human_outcome)] if row.human_verdict else "–"


def judge_words(row: Row) -> str:
    if not row.judge_outcome:
        return "–"
    if row.judge_outcome != Outcome.NO_VERDICT:
        return OUTCOME_WORDS[Outcome(row.judge_outcome)]
    reasons = dict.fromkeys(order.partition(":")[2] for order in (row.judge_order_1, row.judge_order_2) if ":" in order)
    return f"no verdict ({', '.join(REASON_WORDS.get(reason, reason) for reason in reasons)})"


def tokens(contender: str, row: Row, cut: Set[tuple[str, str]]) -> str:
    number = row.tuned_tokens if contender == TUNED else row.base_tokens
    return "–" if number is None else f"{number}{' cut' if (row.prompt_id, contender) in cut else ''}"


def pair_label(contender: str, row: Row, cut: Set[tuple[str, str]]) -> str:
    side = row.tuned_side if contender == TUNED else {"A": "B", "B": "A"}[row.tuned_side]
    is_cut = ", cut by the length limit" if (row.prompt_id, contender) in cut else ""
    return f"{contender} · sat on {side} · {tokens(contender, row, frozenset())} tokens{is_cut}"


def pair_notes(row: Row) -> str:
    """What was said of a pair, as plain text."""
    notes = [f"You: {human_words(row)}."] if row.human_verdict else []
    if row.judge_outcome:
        orders = f"base shown first: {_order(row.judge_order_1)}; tuned shown first: {_order(row.judge_order_2)}"
        notes.append(f"Gemini: {judge_words(row)} ({orders}).")
    if row.judge_reason:
        notes.append(row.judge_reason)
    return "\n".join(notes)


def _order(said: str) -> str:
    return "no verdict" if said.startswith(NO_VERDICT) else said


def word_diff(base: str, tuned: str) -> list[tuple[str, str | None]]:
    """Both responses as one text: what they share, and marked what only one of them says."""
    before, after = (re.findall(r"\S+\s*|\s+", text) for text in (base, tuned))
    said_before, said_after = ([piece.strip() for piece in pieces] for pieces in (before, after))
    found: list[tuple[str, str | None]] = []
    matcher = difflib.SequenceMatcher(None, said_before, said_after, autojunk=False)
    for kind, b0, b1, t0, t1 in matcher.get_opcodes():
        if kind == "equal":
            found.append(("".join(after[t0:t1]), None))
            continue
        found += [("".join(before[b0:b1]), ONLY_BASE)] if b1 > b0 else []
        found += [("".join(after[t0:t1]), ONLY_TUNED)] if t1 > t0 else []
    return found
