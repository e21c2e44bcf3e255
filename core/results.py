"""What a comparison came to: every figure of its result, the placebos' beside them, as plain values.

Works from how a revealed comparison stands; says nothing in words but what a judge wrote.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.agreement import Agreement, agreement
from core.blind import HumanVerdict, Item
from core.diagnostics import Diagnostics, Pair, diagnose
from core.export import Row
from core.judge import BASE, TUNED, JudgeOutcome
from core.rubric import DIMENSIONS
from core.standing import Decider, Plan, Standing
from core.stats import Finding, Interval, Mean, Outcome, Tally, average, find, mean_interval

# Two responses count as of one length where the longer has at most this many times the other's tokens.
LIKE_LENGTH = 1.25
MAX_QUOTES = 3


@dataclass(frozen=True)
class Split:
    """Of n pairs with a verdict, how often one response was preferred, and how often the two orders disagreed."""

    n: int
    decided: Interval
    flipped: Interval
    decided_k: int

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> "Split":
        count = Counter(outcomes)
        decided, n = count[Outcome.WIN] + count[Outcome.LOSS], count.total() - count[Outcome.NO_VERDICT]
        return cls(n, Interval.of(decided, n), Interval.of(count[Outcome.FLIP], n), decided)


@dataclass(frozen=True)
class Arm:
    """One decider's verdicts. All tallies are by prompt, samples averaged within it, and leave the placebos out.

    `real`: items of base and tuned; `floor`: those of base and base. `missing`: reason -> items without a verdict.
    `leaning`: items that one order left a tie: (for tuned, for base).
    """

    by: Decider
    tally: Tally
    finding: Finding
    uncut: Tally
    like_length: Tally
    categories: tuple[tuple[str, Tally], ...]
    real: Split
    floor: Split
    missing: Mapping[str, int]
    leaning: tuple[int, int]


@dataclass(frozen=True)
class Quote:
    prompt_id: str
    text: str


@dataclass(frozen=True)
class Scores:
    """The judge's five scores, tuned minus base, paired by prompt, and its reasons where tuned won and lost."""

    differences: Mapping[str, Mean]
    won: tuple[Quote, ...]
    lost: tuple[Quote, ...]
    num_manipulated: int


@dataclass(frozen=True)
class Results:
    """All of a revealed comparison. `human` is None where nobody voted, `judge` where nobody judged.

    `cut`: which responses were cut, by their row's prompt id and base or tuned.
    """

    plan: Plan
    nonce: str
    is_early: bool
    num_asked_again: int
    human: Arm | None
    judge: Arm | None
    scores: Scores | None
    agreement: Agreement | None
    share_a: Interval
    diagnostics: Diagnostics
    rows: tuple[Row, ...]
    cut: frozenset[tuple[str, str]]

    @property
    def primary(self) -> Arm | None:
        return self.human if self.plan.primary is Decider.HUMAN else self.judge

    @property
    def arms(self) -> list[Arm]:
        """Who gave verdicts, the one that decides first."""
        found = [arm for arm in (self.primary, self.human, self.judge) if arm is not None]
        return list({arm.by: arm for arm in found}.values())

    @property
    def decisive_tally(self) -> Tally:
        """The primary decider's; where nobody decided, no prompt has a verdict."""
        return self.primary.tally if self.primary else Tally.of([Outcome.NO_VERDICT] * len(self.plan.prompts))


def assess(standing: Standing) -> Results:
    plan, real = standing.started, standing.real_items()
    answered = [item for item in real if standing.is_answered(item.id)]
    human = None if plan.is_judge_only else _arm(standing, Decider.HUMAN)
    judge = _arm(standing, Decider.JUDGE) if plan.judge_model else None
    # Draws of one prompt are not independent of each other: the tests take one.
    pairs = [standing.pair(item.id) for item in answered if item.sample == 0]
    both = [(standing.human_outcome(item.id), standing.judge_result(item.id).outcome) for item in real]
    twins = [standing.pair(item.id) for item in standing.placebos() if standing.is_answered(item.id)]
    return Results(
        plan=plan,
        nonce=standing.nonce.hex(),
        is_early=standing.is_early,
        num_asked_again=standing.num_asked_again,
        human=human,
        judge=judge,
        scores=_scores(standing, answered) if judge else None,
        agreement=agreement(both) if human and judge else None,
        share_a=_share_a(standing),
        diagnostics=diagnose(pairs, twins, standing.drift),
        rows=tuple(_row(standing, item) for item in real),
        cut=frozenset(
            (_row_id(item), who)
            for item in answered
            for who, answer in standing.answers[item.id].items()
            if answer.is_cut
        ),
    )


def _arm(standing: Standing, by: Decider) -> Arm:
    real, prompts = standing.real_items(), standing.prompts
    answered = [item for item in real if standing.is_answered(item.id)]
    by_category: dict[str, list[Item]] = defaultdict(list)
    for item in real:
        by_category[prompts[item.prompt_id].category].append(item)

    def split(items: Iterable[Item]) -> Split:
        return Split.of(standing.outcome(item.id, by) for item in items)

    def tally(items: Iterable[Item]) -> Tally:
        by_prompt: dict[str, list[Outcome]] = defaultdict(list)
        for item in items:
            by_prompt[item.prompt_id].append(standing.outcome(item.id, by))
        return Tally.of(map(average, by_prompt.values()))

    whole = tally(real)
    return Arm(
        by=by,
        tally=whole,
        finding=find(whole),
        uncut=tally(item for item in answered if not any(answer.is_cut for answer in standing.pair(item.id))),
        like_length=tally(item for item in answered if _is_of_like_length(standing.pair(item.id))),
        categories=tuple((name, tally(items)) for name, items in by_category.items()),
        real=split(real),
        floor=split(standing.placebos()),
        missing=_missing(standing, by),
        leaning=_leaning(standing, by),
    )


def _missing(standing: Standing, by: Decider) -> dict[str, int]:
    lacking = [i for i in standing.real_items() if standing.outcome(i.id, by) is Outcome.NO_VERDICT]
    if by is Decider.HUMAN:
        voted = sum(item.id in standing.votes for item in lacking)
        return {"skipped": voted, "not_voted": len(lacking) - voted}
    return dict(Counter(reason for item in lacking for reason in standing.judge_result(item.id).reasons[:1]))


def _leaning(standing: Standing, by: Decider) -> tuple[int, int]:
    if by is Decider.HUMAN:
        return 0, 0
    leanings = [standing.judge_result(item.id).leaning for item in standing.real_items()]
    return leanings.count(TUNED), leanings.count(BASE)


def _scores(standing: Standing, items: Sequence[Item]) -> Scores:
    results = [(item.prompt_id, standing.judge_result(item.id)) for item in items]
    differences = {name: mean_interval(_differences(results, name)) for name in DIMENSIONS}
    rulings = [ruling for by_order in standing.rulings.values() for ruling in by_order.values()]
    manipulated = sum(ruling.is_manipulated for ruling in rulings)
    return Scores(differences, _quotes(results, Outcome.WIN), _quotes(results, Outcome.LOSS), manipulated)


def _quotes(results: Sequence[tuple[str, JudgeOutcome]], outcome: Outcome) -> tuple[Quote, ...]:
    """The first reasons for this outcome, one a prompt."""
    reasons = {prompt_id: r.reason for prompt_id, r in reversed(results) if r.outcome is outcome and r.reason}
    return tuple(Quote(prompt_id, reason) for prompt_id, reason in reversed(reasons.items()))[:MAX_QUOTES]


def _differences(results: Sequence[tuple[str, JudgeOutcome]], name: str) -> list[float]:
    """One difference a prompt: the mean over its samples."""
    found: dict[str, list[float]] = {}
    for prompt_id, result in results:
        scores = result.scores
        if scores:
            found.setdefault(prompt_id, []).append(scores[TUNED][name] - scores[BASE][name])
    return [sum(values) / len(values) for values in found.values()]


def _share_a(standing: Standing) -> Interval:
    """How often the person chose A among all that they decided, placebos included: half of it, if nothing pulls."""
    sided = [verdict for verdict in standing.votes.values() if verdict in (HumanVerdict.A, HumanVerdict.B)]
    return Interval.of(sided.count(HumanVerdict.A), len(sided))


def _is_of_like_length(pair: Pair) -> bool:
    shorter, longer = sorted(answer.num_tokens for answer in pair)
    return longer <= LIKE_LENGTH * shorter


def _row_id(item: Item) -> str:
    """From the second sample on, a prompt's id says which it is."""
    return item.prompt_id if item.sample == 0 else f"{item.prompt_id}#{item.sample + 1}"


def _row(standing: Standing, item: Item) -> Row:
    plan, prompt = standing.started, standing.prompts[item.prompt_id]
    answers = standing.answers.get(item.id, {})
    base, tuned = answers.get(BASE), answers.get(TUNED)
    judged = standing.judge_result(item.id) if plan.judge_model or plan.is_judge_only else None
    return Row(
        prompt_id=_row_id(item),
        category=prompt.category,
        prompt=prompt.prompt,
        base_response=base.text if base else "",
        tuned_response=tuned.text if tuned else "",
        tuned_side=item.tuned_side,
        human_verdict=standing.votes.get(item.id, ""),
        human_outcome="" if plan.is_judge_only else standing.human_outcome(item.id),
        judge_order_1=judged.order_1 if judged else "",
        judge_order_2=judged.order_2 if judged else "",
        judge_outcome=judged.outcome if judged else "",
        judge_reason=judged.reason if judged else "",
        base_model=plan.base_model,
        adapter=plan.adapter,
        judge_model=plan.judge_model,
        base_tokens=base.num_tokens if base else None,
        tuned_tokens=tuned.num_tokens if tuned else None,
        seed=plan.seed,
        created_at=plan.created_at,
    )
