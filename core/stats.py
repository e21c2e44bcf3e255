"""What a comparison's outcomes add up to, each figure with its doubt.

Knows nothing of prompts, sides or judges; scipy is imported only where it is used. Two verdicts on one item are held
against each other in agreement.py.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from statistics import fmean, stdev
from typing import Self

# The two-sided 95 % quantile of the normal distribution.
Z_95 = 1.959963984540054
# A two-sided test at 5 % calls nothing at all "better" in at most one of forty comparisons. Leaning only hints.
ALPHA, LEANING = 0.05, 0.2
# How surely so many prompts should show what is there: in four tries of five.
POWER = 0.8
# What failed rarely failed at random, so that a tenth of it can turn a result round.
ENOUGH_COVERED = 0.9
# Past this no one compares: more prompts than that are needed, is all there is to say.
MOST_PROMPTS = 10_000


class Outcome(StrEnum):
    """What a prompt came to for the tuned model, sides lifted. `flip`: the judge's two orders disagree."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"
    FLIP = "flip"
    NO_VERDICT = "no_verdict"


class Finding(StrEnum):
    """What a tally comes to, in the words of a headline."""

    BETTER = "better"
    LEANING_BETTER = "leaning better"
    NO_DIFFERENCE = "no difference shown"
    LEANING_WORSE = "leaning worse"
    WORSE = "worse"
    TOO_LITTLE = "too little covered"


@dataclass(frozen=True)
class Interval:
    """A share `k / n` and the range that it may well be in; None all through where n is 0."""

    share: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, k: float, n: int) -> Self:
        return cls(k / n, *wilson(k, n)) if n else cls(None, None, None)


@dataclass(frozen=True)
class Tally:
    """Counts of outcomes. n leaves out `no_verdict`; ties and flips are half a win each in `win_rate`."""

    n: int
    wins: int
    ties: int
    losses: int
    flips: int
    no_verdict: int
    win_rate: float | None
    low: float | None
    high: float | None
    decided_share: float | None
    decided_low: float | None
    decided_high: float | None

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Self:
        count = Counter(outcomes)
        wins, losses = count[Outcome.WIN], count[Outcome.LOSS]
        ties, flips = count[Outcome.TIE], count[Outcome.FLIP]
        n = wins + ties + losses + flips
        rate = Interval.of(wins + (ties + flips) / 2, n)
        decided = Interval.of(wins, wins + losses)
        return cls(
            n, wins, ties, losses, flips, count[Outcome.NO_VERDICT],
            rate.share, rate.low, rate.high, decided.share, decided.low, decided.high,
        )  # fmt: skip

    @property
    def coverage(self) -> float | None:
        """The share that has a verdict; None where nothing was to be judged."""
        planned = self.n + self.no_verdict
        return self.n / planned if planned else None


@dataclass(frozen=True)
class Mean:
    """A mean and its 95 % interval, in the values' unit; the interval is None under two values."""

    n: int
    mean: float | None
    low: float | None
    high: float | None


def average(outcomes: Iterable[Outcome]) -> Outcome:
    """A prompt's samples as its one outcome: a win 1, a tie or flip 1/2, a loss 0, and the mean's side of 1/2 decides.

    Samples of one prompt are no independent evidence, so a prompt counts once. What has no verdict is left out.
    """
    counted = [outcome for outcome in outcomes if outcome is not Outcome.NO_VERDICT]
    if not counted:
        return Outcome.NO_VERDICT
    lead = counted.count(Outcome.WIN) - counted.count(Outcome.LOSS)
    if lead:
        return Outcome.WIN if lead > 0 else Outcome.LOSS
    return Outcome.FLIP if set(counted) == {Outcome.FLIP} else Outcome.TIE


def find(tally: Tally) -> Finding:
    """The headline. The exact sign test alone decides, once nine in ten have a verdict."""
    if tally.coverage is None or tally.coverage < ENOUGH_COVERED:
        return Finding.TOO_LITTLE
    p, is_ahead = sign_test(tally.wins, tally.losses), tally.wins > tally.losses
    if p < ALPHA:
        return Finding.BETTER if is_ahead else Finding.WORSE
    if p < LEANING:
        return Finding.LEANING_BETTER if is_ahead else Finding.LEANING_WORSE
    return Finding.NO_DIFFERENCE


def extremes(tally: Tally) -> tuple[Tally, Tally]:
    """The worst and the best case: every missing verdict a loss, and every one a win."""
    found = {
        Outcome.WIN: tally.wins, Outcome.TIE: tally.ties, Outcome.LOSS: tally.losses, Outcome.FLIP: tally.flips,
    }  # fmt: skip
    worst, best = Counter(found), Counter(found)
    worst[Outcome.LOSS] += tally.no_verdict
    best[Outcome.WIN] += tally.no_verdict
    return Tally.of(worst.elements()), Tally.of(best.elements())


def wilson(k: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share k / n, for 0 <= k <= n and n > 0; k may hold halves.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927).
    scipy has it for whole k alone, and half a win a tie is not whole.
    """
    if not 0 <= k <= n or n <= 0:
        raise ValueError(f"A share needs 0 <= k <= n and n > 0, not k = {k} of n = {n}.")
    z2 = Z_95 * Z_95
    middle = (k + z2 / 2) / (n + z2)
    half = Z_95 / (n + z2) * math.sqrt(k * (n - k) / n + z2 / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


@cache
def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p-value of so uneven a split among the decided, were both equally likely."""
    if wins + losses == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses, 0.5).pvalue)


def mcnemar(base_only: int, tuned_only: int) -> float:
    """McNemar's exact test: the items that only one of the two got right, held against a fair coin."""
    return sign_test(tuned_only, base_only)


def p_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


@cache
def wins_needed(n: int) -> int | None:
    """The fewest wins among n decided that the sign test calls better; None where n is too few for any."""
    from scipy.stats import binom

    wins = int(binom.isf(ALPHA / 2, n, 0.5)) + 1
    return wins if wins <= n else None


@cache
def prompts_needed(tally: Tally) -> int | None:
    """The fewest prompts, ties among them, of which the sign test would tell a lead such as this one with POWER.

    Exact binomial power on both sides (Cohen, "Statistical Power Analysis", 1988, chapter 5), the shares of decided
    and of won taken to be those observed. None where nothing leans, or more than MOST_PROMPTS would be needed.
    """
    decided = tally.wins + tally.losses
    if tally.wins == tally.losses:
        return None
    import numpy as np
    from scipy.stats import binom

    share = tally.wins / decided
    most = MOST_PROMPTS * decided // tally.n
    for start in range(1, most + 1, 500):  # a page waits for this, and most answers are in the first 500
        num = np.arange(start, min(start + 500, most + 1))
        wins = binom.isf(ALPHA / 2, num, 0.5) + 1
        enough = num[binom.sf(wins - 1, num, share) + binom.cdf(num - wins, num, share) >= POWER]
        if enough.size:
            return math.ceil(int(enough[0]) * tally.n / decided)
    return None


def preference_probability(wins: int, losses: int) -> float:
    """How probable it is that the preference rate is above one half: a Beta(1, 1) prior and the decided alone.

    Gelman et al., "Bayesian Data Analysis", 3rd edition (2013), section 2.1. For reading only: it decides nothing.
    """
    from scipy.stats import beta

    return float(beta.sf(0.5, wins + 1, losses + 1))


def false_alarm(tries: int) -> float:
    """How probable at least one p-value under ALPHA is in so many independent comparisons without any effect."""
    return 1 - (1 - ALPHA) ** tries


def mean_interval(values: Iterable[float]) -> Mean:
    """The mean with Student's 95 % interval (Student, "The Probable Error of a Mean", Biometrika 6, 1908)."""
    known = list(values)
    mean, n = fmean(known) if known else None, len(known)
    if mean is None or n < 2:
        return Mean(n, mean, None, None)
    from scipy.stats import t

    half = float(t.ppf(1 - ALPHA / 2, n - 1)) * stdev(known) / math.sqrt(n)
    return Mean(n, mean, mean - half, mean + half)
