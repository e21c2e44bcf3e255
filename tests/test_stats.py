import math
import random

import pytest

from core.stats import Outcome, Tally, mcnemar, sign_test, wilson

WIN, TIE, LOSS, FLIP, NONE = Outcome.WIN, Outcome.TIE, Outcome.LOSS, Outcome.FLIP, Outcome.NO_VERDICT


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (3, 7), (25, 50), (49, 50), (0, 200)])
def test_wilson_is_scipys_for_whole_counts(k: int, n: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_halves_lie_between_the_whole_counts_around_them() -> None:
    low, high = wilson(3.5, 7)
    assert wilson(3, 7)[0] < low < wilson(4, 7)[0]
    assert low == pytest.approx(1 - high)


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_what_is_no_share_has_no_interval(k: float, n: int) -> None:
    with pytest.raises(ValueError, match="needs 0 <= k <= n"):
        wilson(k, n)


def test_five_to_nothing_still_leaves_doubt() -> None:
    tally = Tally.of([WIN] * 5)
    assert (tally.win_rate, round(tally.low or 0, 2), tally.high) == (1.0, 0.57, 1.0)
    assert sign_test(5, 0) == pytest.approx(0.0625)


def test_ties_and_flips_are_half_a_win_and_no_verdict_is_outside_n() -> None:
    tally = Tally.of([WIN, WIN, TIE, LOSS, FLIP, NONE, NONE])
    assert (tally.n, tally.wins, tally.ties, tally.losses, tally.flips, tally.no_verdict) == (5, 2, 1, 1, 1, 2)
    assert tally.win_rate == pytest.approx(3 / 5)
    assert (tally.low, tally.high) == wilson(3, 5)
    assert tally.decided_share == pytest.approx(2 / 3)
    assert (tally.decided_low, tally.decided_high) == wilson(2, 3)


@pytest.mark.parametrize("outcomes", [[], [NONE, NONE]])
def test_without_a_verdict_there_is_no_rate(outcomes: list[Outcome]) -> None:
    tally = Tally.of(outcomes)
    assert (tally.n, tally.no_verdict, tally.win_rate, tally.low, tally.high) == (0, len(outcomes), None, None, None)


def test_ties_alone_are_a_half_and_nothing_decided() -> None:
    tally = Tally.of([TIE, FLIP])
    assert (tally.win_rate, tally.decided_share) == (0.5, None)


def test_swapping_wins_and_losses_mirrors_the_rate() -> None:
    draw = random.Random(7)
    swap = {WIN: LOSS, LOSS: WIN}
    for _ in range(50):
        outcomes = draw.choices(list(Outcome), k=draw.randint(1, 30))
        here, there = Tally.of(outcomes), Tally.of([swap.get(outcome, outcome) for outcome in outcomes])
        if here.win_rate is not None and here.low is not None:
            assert there.win_rate == pytest.approx(1 - here.win_rate)
            assert there.high == pytest.approx(1 - here.low)


def test_the_exact_tests_take_the_decided_alone() -> None:
    assert sign_test(18, 7) == pytest.approx(0.0433, abs=1e-4)
    assert sign_test(17, 8) > 0.05
    assert sign_test(0, 0) == 1.0
    assert mcnemar(base_only=2, tuned_only=13) == mcnemar(base_only=13, tuned_only=2) == sign_test(13, 2)
