"""How often a comparison calls tuned better: without an effect, with one, and under a judge's known habits.

Only the judge's answers are simulated. How its two orders make an outcome (core.judge) and how outcomes make a finding
(core.stats) is the program's own code. Run it with `python -m tests.bench.simulate_comparisons`.

A judge leans towards tuned by: what tuned is truly better by on this prompt (the same in both orders) + what it gives
for length + what it gives to the response shown first + noise of its own at every call. All are in logits of its
preference. Close to even it says TIE.
"""

import argparse
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from core.judge import BASE, SHOWN, TIE, TUNED, Ruling, combine
from core.stats import Finding, Interval, Outcome, Tally, find

NUM_PROMPTS = 50
# How far apart two responses to a prompt are in truth (standard deviation); noise is logistic, of scale 1.
QUALITY_SPREAD = 1.5
# Of two equal responses the first is preferred in 62 % of decided calls, and one twice as long in 67 %.
ORDER_BIAS, LENGTH_BIAS = 0.5, 1.0
LENGTH_SPREAD = 0.4
TIE_BAND = 0.4


@dataclass(frozen=True)
class Condition:
    """`better_share`: of how many prompts tuned is truly better. `length`: tuned's typical length, base's being 1."""

    name: str
    better_share: float = 0.5
    length: float = 1.0
    order_bias: float = ORDER_BIAS
    length_bias: float = LENGTH_BIAS
    noise: float = 1.0
    tie_band: float = TIE_BAND


# Length must be drawn alike where there is to be no effect: to a judge that likes length, shorter is worse, and no
# test of its verdicts can know better. What that does is shown as conditions of its own. The flawless judge tells what
# power is lost to the judge from what is lost to there being no more prompts.
CONDITIONS = (
    Condition("no effect"),
    Condition("65 % effect", better_share=0.65),
    Condition("65 % effect, a flawless judge", 0.65, order_bias=0, length_bias=0, noise=0, tie_band=0),
    Condition("no effect, tuned 20 % shorter", length=0.8),
    Condition("65 % effect, tuned 20 % shorter", better_share=0.65, length=0.8),
    Condition("a judge that always says RESPONSE_1", order_bias=math.inf),
)
BOTH = "both orders"
RULINGS = {winner: Ruling(winner) for winner in (BASE, TUNED, TIE)}
ALONE = {BASE: Outcome.LOSS, TUNED: Outcome.WIN, TIE: Outcome.TIE}


@dataclass(frozen=True)
class Row:
    """What came of `num` comparisons: how many were called better and worse, and their prompts' outcomes in all."""

    condition: str
    asked: str
    num: int
    better: int
    worse: int
    outcomes: Tally


def simulate(num_comparisons: int, seed: int) -> list[Row]:
    """Each condition as both orders find it, and as either order alone would have."""
    return [
        row
        for index, condition in enumerate(CONDITIONS)
        for row in _compare(condition, num_comparisons, np.random.default_rng([seed, index]))
    ]


def _compare(condition: Condition, num: int, draw: np.random.Generator) -> Iterable[Row]:
    first, second = _winners(condition, num, draw)
    both = [
        [combine(RULINGS[one], RULINGS[two]).outcome for one, two in zip(*orders, strict=True)]
        for orders in zip(first, second, strict=True)
    ]
    yield _row(condition, BOTH, both)
    for order, winners in zip(SHOWN, (first, second), strict=True):
        alone = [[ALONE[winner] for winner in comparison] for comparison in winners]
        yield _row(condition, f"{SHOWN[order][0]} first, alone", alone)


def _winners(condition: Condition, num: int, draw: np.random.Generator) -> list[list[list[str]]]:
    """Order, comparison, prompt -> whom the judge names."""
    shape = (num, NUM_PROMPTS)
    lead = NormalDist().inv_cdf(condition.better_share) * QUALITY_SPREAD
    quality = draw.normal(lead, QUALITY_SPREAD, shape)
    base_length, tuned_length = draw.normal(0, LENGTH_SPREAD, (2, *shape))
    leaning = quality + condition.length_bias * (tuned_length + math.log(condition.length) - base_length)
    orders = []
    for first, _ in SHOWN.values():
        for_first = condition.order_bias if first == TUNED else -condition.order_bias
        seen = leaning + for_first + draw.logistic(scale=condition.noise, size=shape)
        orders.append(np.select([abs(seen) < condition.tie_band, seen > 0], [TIE, TUNED], BASE).tolist())
    return orders


def _row(condition: Condition, asked: str, comparisons: list[list[Outcome]]) -> Row:
    findings = [find(Tally.of(outcomes)) for outcomes in comparisons]
    return Row(
        condition.name,
        asked,
        len(comparisons),
        findings.count(Finding.BETTER),
        findings.count(Finding.WORSE),
        Tally.of(outcome for outcomes in comparisons for outcome in outcomes),
    )


def _cells(row: Row) -> list[str]:
    def doubted(k: int) -> str:
        share = Interval.of(k, row.num)
        return f"{share.share:.1%} ({share.low:.1%} to {share.high:.1%})"

    every = row.outcomes
    won = "-" if every.decided_share is None else f"{every.decided_share:.1%}"
    return [
        row.condition, row.asked, f"{row.num:,}", doubted(row.better), doubted(row.worse), f"{every.wins:,}", won,
        f"{every.ties / every.n:.1%}", f"{every.flips / every.n:.1%}" if row.asked == BOTH else "-",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulated comparisons through the program's own verdicts and tests.")
    parser.add_argument("--comparisons", type=int, default=2_000, help="of each condition (default 2,000)")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    head = ["condition", "asked in", "n", "called better (95 %)", "called worse (95 %)", "wins", "won of decided",
            "ties", "flips"]  # fmt: skip
    table = [head, *(_cells(row) for row in simulate(asked.comparisons, asked.seed))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    took_s = time.monotonic() - began
    print(f"n comparisons of {NUM_PROMPTS} prompts each, seed {asked.seed}, {took_s:.0f} s.")


if __name__ == "__main__":
    main()
