"""What a comparison's outcomes add up to, each figure with its doubt.

Knows nothing of prompts, sides or judges; scipy is imported only where it is used.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

# The two-sided 95 % quantile of the normal distribution.
Z_95 = 1.959963984540054


class Outcome(StrEnum):
    """What a prompt came to for the tuned model, sides lifted. `flip`: the judge's two orders disagree."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"
    FLIP = "flip"
    NO_VERDICT = "no_verdict"


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


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p-value of so uneven a split among the decided, were both equally likely."""
    if wins + losses == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses, 0.5).pvalue)


def mcnemar(base_only: int, tuned_only: int) -> float:
    """McNemar's exact test: the items that only one of the two got right, held against a fair coin."""
    return sign_test(tuned_only, base_only)
