"""Compare's words, tables and bars: rows and tallies in, sentences and cells out.

Pure: no gradio, no engine, no disk. HTML here is made of numbers and fixed words alone; a text that a
person, a file or a model wrote leaves as plain text, for places that show it letter by letter.
"""

from collections.abc import Iterable, Sequence

from core.blind import HumanVerdict
from core.export import Row
from core.judge import TUNED
from core.prompts import Prompt, check_prompts
from core.stats import Outcome, Tally, sign_test
from core.ui.compare_scene import Scene
from core.ui.compare_worker import Progress
from core.ui.views import as_text, count, duration

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
SURE_BELOW_P = 0.05

GEMINI_OFF = (
    "**Gemini is off:** there is no key. Write `GEMINI_API_KEY=…` into the file `.env` and start the playground "
    "again, and it judges the same pairs too. Your own vote needs no key."
)
GEMINI_ON = (
    "**Gemini judges too**, blind and in both orders. What it says of a pair stays hidden until you have voted on all."
)
NOTHING_YET = "**No comparison yet.** Choose an adapter above and press Start: base and tuned answer the same prompts."
NO_ADAPTER = "**No adapter yet.** Train one on the starter data: a few minutes on most machines."
HIDDEN = "Who said what shows once you have voted on every prompt."

OUTCOME_WORDS = {
    Outcome.WIN: "tuned is better",
    Outcome.LOSS: "base is better",
    Outcome.TIE: "tie",
    Outcome.FLIP: "its two orders disagree",
}
REASON_WORDS = {"not_judged": "not judged"}
TABLE_HEADERS = ["Prompt", "Category", "You", "Gemini", "Tuned sat on", "Tokens, base / tuned"]


# --- before ---------------------------------------------------------------------------------------------


def prompt_table(prompts: Iterable[Prompt]) -> list[list[str]]:
    return [[prompt.category, prompt.prompt] for prompt in prompts]


def prompts_of(table: Iterable[Sequence[object]], known: Iterable[Prompt]) -> list[Prompt]:
    """The table's prompts; one whose words are known keeps its id. RequestError where nothing is left to ask."""
    ids = {prompt.prompt: prompt.id for prompt in known}
    taken = set(ids.values())
    prompts: list[Prompt] = []
    for category, text in ((_cell(row[0]), _cell(row[1])) for row in table):
        if not text:
            continue
        prompt_id = ids.pop(text, None) or _free_id(taken)
        taken.add(prompt_id)
        prompts.append(Prompt(prompt_id, category or "own", text))
    return check_prompts(prompts)


def _cell(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _free_id(taken: set[str]) -> str:
    return next(name for name in (f"own-{n}" for n in range(1, len(taken) + 2)) if name not in taken)


def plan_sentence(num_prompts: int, adapter: str | None, is_judge_only: bool) -> str:
    """What Start will do, in Markdown; an adapter's name is a slug."""
    if not adapter:
        return NO_ADAPTER
    prompts = count(num_prompts, "prompt")
    who = "Gemini alone decides, in both orders" if is_judge_only else "you vote without knowing who is who"
    return f"Base and **{adapter}** answer {prompts}, then {who}."


def gemini_sentence(has_key: bool, is_judge_only: bool) -> str:
    if not has_key:
        return GEMINI_OFF
    return "" if is_judge_only else GEMINI_ON


# --- while it goes on -----------------------------------------------------------------------------------


def bar(share: float) -> str:
    """A bar of how far it is."""
    percent = round(100 * min(1.0, max(0.0, share)))
    return (
        f'<div class="progress" role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" aria-valuemax="100">'
        f'<div style="width:{percent}%"></div></div>'
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
    doing = "Judged by Gemini" if progress.phase == "judging" else "Answered"
    left = "" if progress.eta_s is None else f" About {duration(progress.eta_s)} left."
    return f"{doing}: {progress.done} of {count(progress.total, 'prompt')}.{left}"


def _halted(scene: Scene) -> str:
    judged = f" and {scene.num_judged} judged" if scene.has_judge else ""
    return (
        f"**Not finished:** {scene.num_answered} of {count(scene.num_prompts, 'prompt')} answered{judged}. "
        "Go on picks it up there and asks nothing twice."
    )


def voted_sentence(num_voted: int, num_prompts: int, commitment: str) -> str:
    return f"{num_voted} of {count(num_prompts, 'prompt')} voted. {HIDDEN} Sides sealed as `{commitment[:16]}…`"


# --- results --------------------------------------------------------------------------------------------


def headline(tally: Tally) -> str:
    """In words, by the exact two-sided sign test on the decided prompts alone."""
    p = sign_test(tally.wins, tally.losses)
    if tally.wins == tally.losses:
        return "No difference shown"
    direction = "better" if tally.wins > tally.losses else "worse"
    return direction.capitalize() if p < SURE_BELOW_P else f"Leaning {direction}, too few to be sure"


def result_sentence(tally: Tally, who: str) -> str:
    """The result with its n and its interval; Markdown of ours."""
    outside = f" {count(tally.no_verdict, 'prompt')} without a verdict." if tally.no_verdict else ""
    if not tally.n:
        return f"**{who}: no verdict.**{outside}"
    counts = [count(tally.wins, "win"), count(tally.ties, "tie"), count(tally.losses, "loss", "losses")]
    if tally.flips:
        counts.append(count(tally.flips, "flip"))
    rate = f"win rate {tally.win_rate:.2f} ({tally.low:.2f} to {tally.high:.2f}) on {count(tally.n, 'prompt')}"
    return f"**{who}: {headline(tally).lower()}.** {', '.join(counts)} for tuned; {rate}.{outside}"


def outcome_bar(tally: Tally, who: str) -> str:
    """Counts as one bar and the win rate with its interval under it, in HTML of numbers and our words."""
    counts = {"win": tally.wins, "tie": tally.ties, "flip": tally.flips, "loss": tally.losses, "none": tally.no_verdict}
    names = {"win": "won", "tie": "tied", "flip": "flipped", "loss": "lost", "none": "no verdict"}
    parts = "".join(
        f'<span class="{kind}" style="flex-grow:{number}">{number} {names[kind]}</span>'
        for kind, number in counts.items() if number
    )  # fmt: skip
    return f'<div class="outcomes"><b>{who}</b><div class="bar">{parts}</div>{_interval(tally)}</div>'


def _interval(tally: Tally) -> str:
    if tally.win_rate is None or tally.low is None or tally.high is None:
        return ""
    low, rate, high = (100 * value for value in (tally.low, tally.win_rate, tally.high))
    said = f"win rate {tally.win_rate:.2f}, interval {tally.low:.2f} to {tally.high:.2f}"
    return (
        f'<div class="interval" role="img" aria-label="{said}" title="{said}"><i class="half"></i>'
        f'<i class="range" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
        f'<i class="rate" style="left:{rate:.1f}%"></i></div>'
        '<div class="scale"><span>0 base always</span><span>0.5</span><span>1 tuned always</span></div>'
    )


def sentences(human: Tally | None, judge: Tally | None) -> str:
    """Each decider's result, the person's first; Markdown."""
    said = [result_sentence(tally, who) for who, tally in (("You", human), ("Gemini", judge)) if tally]
    return "  \n".join(said)


def bars(human: Tally | None, judge: Tally | None) -> str:
    return "".join(outcome_bar(tally, who) for who, tally in (("You", human), ("Gemini", judge)) if tally)


def seal_sentence(nonce: str) -> str:
    """How anyone can check that no side moved."""
    if not nonce:
        return ""
    return f"The sides were drawn from the nonce `{nonce}`; its hash with them was sealed before the first vote."


def table(rows: Iterable[Row]) -> list[list[str]]:
    """One line a prompt, under TABLE_HEADERS."""
    return [
        [row.prompt_id, row.category, human_words(row), judge_words(row), row.tuned_side, _tokens(row)] for row in rows
    ]


def human_words(row: Row) -> str:
    if row.human_verdict == HumanVerdict.BOTH_BAD:
        return "both bad"
    if row.human_verdict == HumanVerdict.SKIP:
        return "skipped"
    return OUTCOME_WORDS[Outcome(row.human_outcome)] if row.human_outcome else "–"


def judge_words(row: Row) -> str:
    if not row.judge_outcome:
        return "–"
    if row.judge_outcome != Outcome.NO_VERDICT:
        return OUTCOME_WORDS[Outcome(row.judge_outcome)]
    reasons = dict.fromkeys(order.partition(":")[2] for order in (row.judge_order_1, row.judge_order_2) if ":" in order)
    named = ", ".join(REASON_WORDS.get(reason, reason.replace("_", " ")) for reason in reasons if reason)
    return f"no verdict ({named})" if named else "no verdict"


def _tokens(row: Row) -> str:
    return f"{_number(row.base_tokens)} / {_number(row.tuned_tokens)}"


def _number(number: int | None) -> str:
    return "–" if number is None else str(number)


def pair_label(contender: str, row: Row) -> str:
    return f"{contender} · sat on {row.tuned_side if contender == TUNED else _other(row.tuned_side)}"


def _other(side: str) -> str:
    return {"A": "B", "B": "A"}.get(side, "")


def pair_notes(row: Row) -> str:
    """What was said of a pair, as plain text."""
    notes = [f"You: {human_words(row)}."] if row.human_verdict else []
    if row.judge_outcome:
        notes.append(f"Gemini: {judge_words(row)}.")
    if row.judge_reason:
        notes.append(row.judge_reason)
    return "\n".join(notes)
