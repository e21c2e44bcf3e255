"""A comparison in words: what it can show before it starts, and what it came to, each figure with its doubt.

The page and the log say the same sentences. Plain text: ids and reasons in it came from elsewhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.agreement import Agreement
from core.diagnostics import CUT
from core.judge import REASON_WORDS
from core.prices import cost
from core.results import LIKE_LENGTH, Arm, Quote, Results
from core.standing import Decider
from core.stats import (
    ENOUGH_COVERED,
    Finding,
    Interval,
    Mean,
    Tally,
    extremes,
    false_alarm,
    find,
    p_words,
    preference_probability,
    prompts_needed,
    sign_test,
    wins_needed,
)

WHO: Final = {Decider.HUMAN: "You", Decider.JUDGE: "Gemini"}
# Under this many verdicts an agreement, a category or a placebo share says next to nothing.
FEW_AGREED, FEW_IN_CATEGORY, FEW_PLACEBOS, FEW_DECIDED = 20, 10, 5, 10
MAX_QUOTE_CHARACTERS = 240
TRIES = 10

AFTER = {
    Finding.BETTER: "the sign test is below 0.05",
    Finding.WORSE: "the sign test is below 0.05",
    Finding.LEANING_BETTER: "too few to be sure",
    Finding.LEANING_WORSE: "too few to be sure",
    Finding.NO_DIFFERENCE: "this may well be chance",
    Finding.TOO_LITTLE: f"under {ENOUGH_COVERED:.0%} of the prompts have a verdict",
}
NOTHING, AGREED = "Your fine-tune did next to nothing", "You against Gemini"
Section = tuple[str, list[str]]


# --- before ---------------------------------------------------------------------------------------------


def promise(num_prompts: int, samples: int, num_placebos: int, judge_model: str, response_tokens: int) -> str:
    """What so many prompts can show, and what the judge would cost."""
    needed = wins_needed(num_prompts)
    said = f"{_count(num_prompts, 'prompt')}: "
    if needed is None:
        said += "even if tuned won all of them it would not count as better; 6 are the fewest that can show anything."
    else:
        said += f"tuned must win {needed} of {num_prompts} decided to count as better."
    if samples > 1:
        said += f" Each is drawn {samples} times and averaged."
    if num_placebos:
        pairs = "1 pair is" if num_placebos == 1 else f"{num_placebos} pairs are"
        said += (
            f" {pairs} added in which both sides are base: the noise that the result is read against. A prompt that "
            "comes once more has such a pair, and nothing says which."
        )
    if judge_model:
        said += f" {cost(judge_model, 2 * (num_prompts * samples + num_placebos), response_tokens)}."
    return said


def trained_sentence(adapter: str, prompt_ids: Sequence[str]) -> str:
    return (
        f"{_count(len(prompt_ids), 'prompt')} of these are in the data that {adapter} was trained on, so this says "
        f"little of prompts that it has never seen: {', '.join(prompt_ids[:8])}."
    )


def held_out_lines(figures: Mapping[str, Any]) -> list[str]:
    """What a run measured on its held-out pairs, from its result; empty where it held none out."""
    n, margin = figures.get("held_out") or 0, figures.get("margin")
    if not n:
        return []
    base, tuned = Interval.of(figures["base_k"], n), Interval.of(figures["tuned_k"], n)
    lines = [
        f"The chosen reply is the likelier one: tuned {_share(tuned)}, base {_share(base)} of {_count(n, 'pair')}; "
        f"McNemar's exact test {p_words(figures['mcnemar_p'])}."
    ]
    if margin:
        mean = Mean(margin["n"], margin["mean"], margin["low"], margin["high"])
        lines.append(
            f"Tuned puts the chosen reply further above the rejected one than base does by {_mean(mean)} nats (natural "
            f"logarithms of a probability): further on {margin['positive']}, less far on {margin['negative']} of "
            f"{margin['n']}; exact sign test {p_words(margin['p'])}."
        )
    return lines


# --- after ----------------------------------------------------------------------------------------------


def headline(results: Results) -> str:
    """The one sentence; the primary decider's."""
    arm = results.primary
    if arm is None:
        return "Nobody judged and nobody voted: there is no result, only the responses."
    early = "Ended early. " if results.is_early else ""
    return f"{early}{arm_sentence(arm)}"


def arm_sentence(arm: Arm) -> str:
    t = arm.tally
    counts = [_count(t.wins, "win"), _count(t.ties, "tie"), _count(t.losses, "loss", "losses")]
    counts += [_count(t.flips, "flip")] if t.flips else []
    counts += [f"{t.no_verdict} without a verdict"] if t.no_verdict else []
    rate = f"; win rate {_share(Interval(t.win_rate, t.low, t.high))}" if t.n else ""
    return f"{arm.finding.value.capitalize()}: {', '.join(counts)}{rate}; {AFTER[arm.finding]}."


def sections(results: Results) -> list[Section]:
    """Everything else, under titles, in the order in which it is read; a section without a line is left out."""
    arms = results.arms
    found: list[Section] = [(NOTHING, did_nothing(results))]
    found += [(f"How sure: {_name(arm)}", _doubt(arm)) for arm in arms]
    found += [
        ("The noise floor", [line for arm in arms for line in _noise(arm)]),
        ("Where neither was cut, and at like length", [line for arm in arms for line in _subsets(results, arm)]),
        ("By category", [line for arm in arms for line in _categories(arm)]),
        (AGREED, _agreed(results)),
        ("Strengths and weaknesses, by Gemini", _strengths(results)),
        ("Without any judge", results.diagnostics.sentences()),
        ("On held-out pairs, by the run; it decides nothing here", held_out_lines(results.plan.held_out)),
        ("How much this can be trusted", _trust(results)),
    ]
    return [(title, lines) for title, lines in found if lines]


def did_nothing(results: Results) -> list[str]:
    """What says that the fine-tune changed nothing; empty where nothing says so, or where somebody saw a difference."""
    arm = results.primary
    if arm is not None and arm.finding in (Finding.BETTER, Finding.WORSE):
        return []
    return [*results.diagnostics.did_nothing, *(_inside_noise(arm) if arm is not None else [])]


def _inside_noise(arm: Arm) -> list[str]:
    floor, real = arm.floor, arm.real
    if floor.n < FEW_PLACEBOS or not real.n or real.decided_k / real.n > floor.decided_k / floor.n:
        return []
    return [
        f"{_name(arm)} preferred one response in {real.decided_k} of {real.n} pairs of base and tuned, "
        f"and in {floor.decided_k} of {floor.n} pairs of base and base: tuned stands out no more than base's second "
        "draw."
    ]


def _doubt(arm: Arm) -> list[str]:
    t = arm.tally
    lines = [arm_sentence(arm)]
    if t.wins + t.losses:
        decided = Interval(t.decided_share, t.decided_low, t.decided_high)
        lines.append(
            f"Of the {t.wins + t.losses} decided it won {_share(decided)}; exact two-sided sign test "
            f"{p_words(sign_test(t.wins, t.losses))}. The probability that its preference rate is above one half is "
            f"{preference_probability(t.wins, t.losses):.2f} (Beta, flat prior; shown, never deciding)."
        )
    if sum(arm.leaning):
        lines.append(
            f"Counted as ties though one of the two orders preferred a side: {arm.leaning[0]} leaning to tuned, "
            f"{arm.leaning[1]} to base."
        )
    if t.no_verdict:
        worst, best = extremes(t)
        reasons = ", ".join(
            f"{number} {REASON_WORDS.get(reason, reason)}" for reason, number in arm.missing.items() if number
        )
        lines.append(
            f"Covered: {t.n} of {t.n + t.no_verdict} prompts (missing: {reasons}). Had all the missing gone to "
            f"base: {find(worst).value}, win rate {worst.win_rate:.2f}; all to tuned: {find(best).value}, "
            f"{best.win_rate:.2f}."
        )
    needed = prompts_needed(t) if t.wins + t.losses >= FEW_DECIDED else None
    if needed is not None and arm.finding not in (Finding.BETTER, Finding.WORSE):
        lines.append(
            f"Were tuned truly {'better' if t.wins > t.losses else 'worse'} by the shares seen here, about {needed:,} "
            "prompts would show it in four tries of five; the shares themselves are uncertain."
        )
    return lines


def _noise(arm: Arm) -> list[str]:
    floor = arm.floor
    if not floor.n:
        return []
    flips = f", its two orders disagreed in {_share(floor.flipped)}" if arm.by is Decider.JUDGE else ""
    few = " Too few pairs to read much into." if floor.n < FEW_PLACEBOS else ""
    return [
        f"On {_count(floor.n, 'pair')} of base against base {_name(arm, is_inside=True)} preferred one in "
        f"{_share(floor.decided)}{flips}; on the {_count(arm.real.n, 'pair')} of base and tuned in "
        f"{_share(arm.real.decided)}." + few
    ]


def _subsets(results: Results, arm: Arm) -> list[str]:
    """The result on the pairs that length cannot have decided; the first only where something was cut at all."""
    cut = results.diagnostics.counts[CUT]
    limit = f"{results.plan.decoding.max_new_tokens} tokens"
    left = _short_tally(arm.uncut) if arm.uncut.n else "none is left."
    lines = [f"{_name(arm)}, without the pairs in which a response was cut at {limit}: {left}"]
    return (lines if cut.base or cut.tuned else []) + [
        f"{_name(arm)}, where the longer response has at most {LIKE_LENGTH:g} times the other's tokens (descriptive): "
        f"{_short_tally(arm.like_length)}"
    ]


def _categories(arm: Arm) -> list[str]:
    if len(arm.categories) < 2:
        return []
    return [
        f"{_name(arm)}, {category}: {_short_tally(tally)}"
        + (f" Under {FEW_IN_CATEGORY} prompts: descriptive." if tally.n < FEW_IN_CATEGORY else "")
        for category, tally in arm.categories
    ]


def _agreed(results: Results) -> list[str]:
    if results.agreement is None or not results.agreement.n:
        return []
    pull = f"Of your decided votes {_share(results.share_a)} went to A; one half is what nothing would pull to."
    return [_agreement_sentence(results.agreement), *([pull] if results.share_a.share is not None else [])]


def _agreement_sentence(found: Agreement) -> str:
    if found.n < FEW_AGREED:
        return f"{_count(found.n, 'pair')} with both verdicts: too few to say how far you and Gemini agree."
    said = f"On {_count(found.n, 'pair')} you and Gemini agree in {_share(found.raw)}" if found.raw else ""
    if found.kappa is None or found.kappa_low is None or found.kappa_high is None:
        return f"{said}; Cohen's kappa is not defined here."
    return f"{said}; Cohen's kappa {found.kappa:.2f} ({found.kappa_low:.2f} to {found.kappa_high:.2f}), 0 being chance."


def _strengths(results: Results) -> list[str]:
    scores = results.scores
    if scores is None:
        return []
    known = {name: mean for name, mean in scores.differences.items() if mean.n}
    lines = [f"{name}: {_mean(mean)} points of 5, tuned minus base, {_over(mean)}." for name, mean in known.items()]
    lines += [f"Why it won, {_quote(quote)}" for quote in scores.won]
    lines += [f"Why it lost, {_quote(quote)}" for quote in scores.lost]
    if scores.num_manipulated:
        lines.append(
            f"Gemini marked {_count(scores.num_manipulated, 'verdict')} in which a response talks to the judge."
        )
    return lines


def _trust(results: Results) -> list[str]:
    plan, lines = results.plan, []
    if results.is_early:
        lines.append("It was ended early. Whoever looks and stops when it suits finds more than there is.")
    if results.num_asked_again:
        lines.append(
            f"Gemini was asked again {_count(results.num_asked_again, 'time')} after the result had been seen."
        )
    if plan.num_earlier:
        lines.append(
            f"These prompts have been compared {_count(plan.num_earlier, 'time')} before. Of {TRIES} tries on nothing "
            f"at all, one or more falls below 0.05 with probability {false_alarm(TRIES):.2f}; of "
            f"{plan.num_earlier + 1}, with {false_alarm(plan.num_earlier + 1):.2f}."
        )
    if plan.trained_on:
        lines.append(trained_sentence(plan.adapter, plan.trained_on))
    return lines


# --- words ----------------------------------------------------------------------------------------------


def _name(arm: Arm, is_inside: bool = False) -> str:
    return "you" if is_inside and arm.by is Decider.HUMAN else WHO[arm.by]


def _short_tally(t: Tally) -> str:
    if not t.n:
        return "no prompt with a verdict."
    rate = _share(Interval(t.win_rate, t.low, t.high))
    return f"{t.wins} won, {t.ties + t.flips} even, {t.losses} lost; win rate {rate}."


def _share(interval: Interval) -> str:
    if interval.share is None or interval.low is None or interval.high is None:
        return "none"
    return f"{interval.share:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _mean(mean: Mean) -> str:
    if mean.low is None or mean.high is None or _is_constant(mean):
        return f"{mean.mean:+.2f}"
    return f"{mean.mean:+.2f} ({mean.low:+.2f} to {mean.high:+.2f})"


def _over(mean: Mean) -> str:
    prompts = _count(mean.n, "prompt")
    return f"the same on all of {prompts}" if _is_constant(mean) else f"over {prompts}"


def _is_constant(mean: Mean) -> bool:
    """An interval without a width says only that nothing varied."""
    return mean.low is not None and mean.low == mean.high


def _quote(quote: Quote) -> str:
    line = " ".join(quote.text.split("\n", 1)[0].split())
    short = line if len(line) <= MAX_QUOTE_CHARACTERS else line[: MAX_QUOTE_CHARACTERS - 1].rstrip() + "…"
    return f"{quote.prompt_id}: “{short}”"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
