"""A comparison in words: the readable log, and the judge's reasons as strengths and weaknesses.

Reads how a comparison stands; until all is revealed it says nothing that tells the contenders apart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.blind import Side
from core.judge import BASE, DIMENSIONS, TUNED, JudgeOutcome
from core.prompts import Prompt
from core.standing import Standing
from core.stats import Outcome, Tally

MAX_QUOTES = 3
MAX_QUOTE_CHARACTERS = 240
# Differences of the mean score below this, on a scale of 1 to 5, are not called stronger or weaker.
NOTABLE = 0.1
RULE = "-" * 78


@dataclass(frozen=True)
class Summary:
    """The judge's view of tuned against base. `differences`: dimension -> mean of tuned minus base, over n prompts."""

    n: int
    differences: Mapping[str, float]
    won: tuple[str, ...]
    lost: tuple[str, ...]

    @classmethod
    def of(cls, results: Iterable[tuple[Prompt, JudgeOutcome]]) -> "Summary":
        judged = list(results)
        scores = [result.scores for _, result in judged if result.scores]
        differences = {
            name: sum(score[TUNED][name] - score[BASE][name] for score in scores) / len(scores)
            for name in (DIMENSIONS if scores else ())
        }
        return cls(len(scores), differences, _quotes(judged, Outcome.WIN), _quotes(judged, Outcome.LOSS))

    def sentences(self) -> list[str]:
        """Plain lines for the page and the log; empty where nothing was judged."""
        if not self.n:
            return []
        stronger = {name: value for name, value in self.differences.items() if value >= NOTABLE}
        weaker = {name: value for name, value in self.differences.items() if value <= -NOTABLE}
        prompts = "1 prompt" if self.n == 1 else f"{self.n} prompts"
        lines = [
            f"Mean scores (1 to 5) over {prompts}, tuned minus base. Descriptive only: the outcomes decide.",
            f"Stronger in: {_listed(stronger)}.",
            f"Weaker in: {_listed(weaker)}.",
        ]
        lines += [f"Why it won, {quote}" for quote in self.won]
        return lines + [f"Why it lost, {quote}" for quote in self.lost]


def write_tally(tally: Tally) -> str:
    """A tally as a sentence, with n, interval, and what is left out."""
    text = (
        f"wins {tally.wins}, ties {tally.ties}, losses {tally.losses}, flips {tally.flips} (n = {tally.n}); "
        f"no verdict {tally.no_verdict}."
    )
    if tally.win_rate is None or tally.low is None or tally.high is None:
        return text
    text += f" Win rate {tally.win_rate:.2f} ({tally.low:.2f} to {tally.high:.2f})"
    if tally.decided_share is None or tally.decided_low is None or tally.decided_high is None:
        return text + "; none was decided."
    return text + (
        f"; share won of the {tally.wins + tally.losses} decided {tally.decided_share:.2f} "
        f"({tally.decided_low:.2f} to {tally.decided_high:.2f})."
    )


def write_report(standing: Standing) -> str:
    """The whole log as it stands."""
    parts = [_head(standing)]
    if standing.is_revealed:
        parts.append(_results(standing))
    entry = _open_entry if standing.is_revealed else _blind_entry
    parts += [
        f"{RULE}\n{number}. {prompt.category} [{prompt.id}]\n\n{prompt.prompt}\n\n{entry(standing, prompt)}"
        for number, prompt in enumerate(standing.started.prompts, start=1)
    ]
    return "\n\n".join(parts) + "\n"


def summarise(standing: Standing) -> Summary:
    """Over the prompts that are open and judged."""
    results = ((prompt, standing.judge_result(prompt.id)) for prompt in standing.started.prompts)
    return Summary.of((prompt, result) for prompt, result in results if result is not None)


def _head(standing: Standing) -> str:
    plan, decoding = standing.started, standing.started.decoding
    answered = sum(standing.is_answered(prompt.id) for prompt in plan.prompts)
    lines = [
        "Model comparison",
        f"Started:    {plan.created_at}",
        f"Base:       {plan.base_model}",
        f"Tuned:      {plan.adapter}",
        f"Judge:      {plan.judge_model or 'none'}{', without a human vote' if plan.is_judge_only else ''}",
        f"Decoding:   temperature {decoding.temperature:g}, top p {decoding.top_p:g}, "
        f"at most {decoding.max_new_tokens} tokens, seed {plan.seed}",
        f"Prompts:    {len(plan.prompts)}, of which {answered} answered and {len(standing.votes)} voted on",
        f"Sides:      sealed under SHA-256 {plan.commitment}",
    ]
    if standing.is_revealed:
        lines.append(f"Nonce:      {standing.nonce.hex()}")
    if standing.judge_stopped:
        lines.append(f"The judge stopped: {standing.judge_stopped}")
    return "\n".join(lines)


def _results(standing: Standing) -> str:
    plan, lines = standing.started, ["Results, for tuned against base"]
    if not plan.is_judge_only:
        lines.append(f"Person:     {write_tally(Tally.of(standing.outcomes('human')))}")
    if plan.judge_model:
        lines.append(f"Judge:      {write_tally(Tally.of(standing.outcomes('judge')))}")
    sentences = summarise(standing).sentences()
    return "\n".join(lines + (["", "Strengths and weaknesses, by the judge", *sentences] if sentences else []))


def _blind_entry(standing: Standing, prompt: Prompt) -> str:
    if not standing.is_answered(prompt.id):
        return "(not answered yet)"
    verdict = standing.votes.get(prompt.id)
    state = f"Vote: {verdict}" if verdict else "(no vote yet)"
    if standing.started.is_judge_only:
        state = "(sides are shown when the comparison is complete)"
    return f"{_response('A', standing, prompt)}\n\n{_response('B', standing, prompt)}\n\n{state}"


def _open_entry(standing: Standing, prompt: Prompt) -> str:
    row = standing.row(prompt)
    lines = [_response("A", standing, prompt), "", _response("B", standing, prompt), ""]
    if row.human_verdict:
        lines.append(f"Vote: {row.human_verdict}. For tuned: {row.human_outcome}.")
    if row.judge_outcome:
        orders = f"base shown first: {row.judge_order_1}; tuned shown first: {row.judge_order_2}"
        lines.append(f"Judge, {orders}. For tuned: {row.judge_outcome}.")
    if row.judge_reason:
        lines.append(row.judge_reason)
    return "\n".join(lines)


def _response(side: str, standing: Standing, prompt: Prompt) -> str:
    """One side's response; who that is only once all is revealed."""
    if not standing.is_answered(prompt.id):
        return f"[{side}] (not answered)"
    answer = standing.answer_on(prompt.id, Side(side))
    who = ""
    if standing.is_revealed:
        who = f", {TUNED if standing.sides[prompt.id] == side else BASE}, tokens: {answer.num_tokens}"
        who += ", cut" if answer.is_cut else ""
    return f"[{side}{who}]\n{answer.text or '(empty)'}"


def _quotes(judged: Iterable[tuple[Prompt, JudgeOutcome]], outcome: Outcome) -> tuple[str, ...]:
    found = [f"{p.id}: “{_short(r.reason)}”" for p, r in judged if r.outcome is outcome and r.reason]
    return tuple(found[:MAX_QUOTES])


def _short(reason: str) -> str:
    line = " ".join(reason.split("\n", 1)[0].split())
    return line if len(line) <= MAX_QUOTE_CHARACTERS else line[: MAX_QUOTE_CHARACTERS - 1].rstrip() + "…"


def _listed(differences: Mapping[str, float]) -> str:
    ranked = sorted(differences.items(), key=lambda item: -abs(item[1]))
    return ", ".join(f"{name} ({value:+.2f})" for name, value in ranked) or "nothing"
