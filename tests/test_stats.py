import itertools
import math
import random
import warnings

import pytest

from core.agreement import agreement
from core.stats import (
    Finding,
    Mean,
    Outcome,
    Tally,
    average,
    extremes,
    false_alarm,
    find,
    mcnemar,
    mean_interval,
    preference_probability,
    prompts_needed,
    sign_test,
    wilson,
    wins_needed,
)
from tests.bench.simulate_comparisons import BOTH, simulate

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


def tally(wins: int = 0, ties: int = 0, losses: int = 0, flips: int = 0, none: int = 0) -> Tally:
    return Tally.of([WIN] * wins + [TIE] * ties + [LOSS] * losses + [FLIP] * flips + [NONE] * none)


@pytest.mark.parametrize(
    ("counts", "finding"),
    [
        ((18, 0, 7), Finding.BETTER),
        ((17, 0, 8), Finding.LEANING_BETTER),
        ((15, 0, 10), Finding.NO_DIFFERENCE),
        ((0, 20, 0, 5), Finding.NO_DIFFERENCE),
        ((8, 0, 17), Finding.LEANING_WORSE),
        ((7, 0, 18), Finding.WORSE),
        ((5, 0, 0), Finding.LEANING_BETTER),
        ((45, 0, 0, 0, 5), Finding.BETTER),
        ((44, 0, 0, 0, 5), Finding.TOO_LITTLE),
        ((0, 0, 0, 0, 5), Finding.TOO_LITTLE),
        ((), Finding.TOO_LITTLE),
    ],
)
def test_the_headline_is_the_sign_tests_once_nine_in_ten_have_a_verdict(counts, finding) -> None:
    assert find(tally(*counts)) is finding


def test_ties_never_move_the_headline() -> None:
    for wins, losses in itertools.product(range(12), repeat=2):
        if wins + losses:
            assert find(tally(wins, 40, losses, 40)) is find(tally(wins, 0, losses))


def test_coverage_is_what_has_a_verdict_of_what_was_asked() -> None:
    assert tally(3, 1, 0, 0, 1).coverage == pytest.approx(0.8)
    assert tally().coverage is None


@pytest.mark.parametrize(
    ("samples", "outcome"),
    [
        ([WIN], WIN),
        ([WIN, TIE, FLIP], WIN),
        ([WIN, LOSS, LOSS], LOSS),
        ([WIN, LOSS], TIE),
        ([FLIP, TIE], TIE),
        ([FLIP, FLIP], FLIP),
        ([FLIP, NONE], FLIP),
        ([LOSS, NONE, NONE], LOSS),
        ([NONE, NONE], NONE),
        ([], NONE),
    ],
)
def test_a_prompts_samples_are_one_outcome_on_the_side_of_their_mean(samples, outcome) -> None:
    assert average(samples) is outcome
    assert average(samples[::-1]) is outcome


def test_wins_needed_is_where_the_sign_test_turns() -> None:
    assert (wins_needed(25), wins_needed(50), wins_needed(5), wins_needed(0)) == (18, 33, None, None)
    for n in (*range(1, 120), 999, 5_000):
        needed = wins_needed(n)
        if needed is None:
            assert sign_test(n, 0) >= 0.05
        else:
            assert sign_test(needed, n - needed) < 0.05 <= sign_test(needed - 1, n - needed + 1)


def test_more_prompts_are_needed_where_less_leans() -> None:
    assert prompts_needed(tally(20, 0, 5)) == prompts_needed(tally(5, 0, 20)) == 20
    needed = [prompts_needed(tally(wins, 0, 100 - wins)) for wins in (90, 80, 70, 60, 55)]
    assert None not in needed
    assert needed == sorted(needed)
    assert prompts_needed(tally(65, 0, 35)) == 90
    assert prompts_needed(tally(65, 60, 35, 40)) == 180  # half are undecided, so twice as many
    assert prompts_needed(tally(6, 0, 0)) == 6


@pytest.mark.parametrize("counts", [(), (0, 9), (5, 3, 5), (501, 0, 500), (1, 1999, 0)])
def test_no_number_of_prompts_is_named_where_nothing_leans_or_too_many_were_needed(counts) -> None:
    assert prompts_needed(tally(*counts)) is None


def test_the_power_at_the_prompts_needed_is_the_power_asked_for() -> None:
    from scipy.stats import binom

    def power(n: int, share: float) -> float:
        return sum(binom.pmf(wins, n, share) for wins in range(n + 1) if sign_test(wins, n - wins) < 0.05)

    n = prompts_needed(tally(7, 0, 3))
    assert n is not None
    assert power(n, 0.7) >= 0.8
    assert all(power(fewer, 0.7) < 0.8 for fewer in range(1, n))


def test_the_preference_probability_is_even_for_an_even_split_and_mirrors() -> None:
    assert preference_probability(0, 0) == preference_probability(9, 9) == pytest.approx(0.5)
    assert preference_probability(1, 0) == pytest.approx(0.75)
    assert preference_probability(18, 7) == pytest.approx(1 - preference_probability(7, 18))


def test_the_extremes_cover_everything_and_bracket_the_rate() -> None:
    draw = random.Random(3)
    for _ in range(50):
        seen = Tally.of(draw.choices(list(Outcome), k=20))
        worst, best = extremes(seen)
        assert worst.n == best.n == 20
        assert worst.no_verdict == best.no_verdict == 0
        assert (worst.wins, best.losses) == (seen.wins, seen.losses)
        if seen.win_rate is not None:
            assert (worst.win_rate or 0) <= seen.win_rate <= (best.win_rate or 0)
    whole = tally(3, 1, 2, 1)
    assert extremes(whole) == (whole, whole)


def test_ten_tries_make_a_false_alarm_likely() -> None:
    assert [round(false_alarm(tries), 3) for tries in (0, 1, 10)] == [0, 0.05, 0.401]


def test_a_mean_has_scipys_interval_and_none_of_one_value() -> None:
    from scipy.stats import ttest_1samp

    values = [0.5, -1.0, 2.0, 0.0, 1.5]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert (found.n, found.mean) == (5, pytest.approx(0.6))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert mean_interval(iter([2.0])) == Mean(1, 2.0, None, None)
    assert mean_interval([]) == Mean(0, None, None, None)
    assert mean_interval([1.0] * 4) == Mean(4, 1.0, 1.0, 1.0)


def test_full_agreement_is_kappa_one_and_the_table_is_its_diagonal() -> None:
    found = agreement([(WIN, WIN)] * 9 + [(TIE, FLIP)] * 6 + [(LOSS, LOSS)] * 5 + [(WIN, NONE), (NONE, LOSS)])
    assert (found.n, found.table) == (20, ((9, 0, 0), (0, 6, 0), (0, 0, 5)))
    assert (found.kappa, found.kappa_low, found.kappa_high) == (1, 1, 1)
    assert found.raw is not None
    assert (found.raw.share, found.raw.low) == (1, wilson(20, 20)[0])


def test_the_person_is_the_row_and_the_judge_the_column() -> None:
    assert agreement([(WIN, LOSS), (TIE, LOSS), (FLIP, LOSS)]).table == ((0, 0, 1), (0, 0, 2), (0, 0, 0))


def test_kappas_interval_is_the_bootstrap_of_scikit_learns_kappa() -> None:
    from sklearn.metrics import cohen_kappa_score

    draw = random.Random(5)
    pairs = [(one, one if draw.random() < 0.6 else draw.choice([WIN, TIE, LOSS]))
             for one in draw.choices([WIN, TIE, LOSS], k=40)]  # fmt: skip
    found = agreement(pairs)
    kappas = sorted(cohen_kappa_score(*zip(*draw.choices(pairs, k=40), strict=True)) for _ in range(300))
    assert found == agreement(pairs)
    assert found.kappa == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))
    assert (found.kappa_low, found.kappa_high) == pytest.approx((kappas[7], kappas[292]), abs=0.08)


@pytest.mark.parametrize("pairs", [[], [(NONE, WIN)], [(WIN, WIN)], [(FLIP, TIE)] * 30])
def test_one_verdict_alone_has_no_kappa_and_no_warning(pairs) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = agreement(pairs)
    assert (found.kappa, found.kappa_low, found.kappa_high) == (None, None, None)
    assert (found.raw is None) == (found.n == 0)


def test_sparse_tables_have_a_kappa_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert agreement([(WIN, LOSS)]).kappa == 0
        rare = agreement([(WIN, WIN)] * 19 + [(LOSS, LOSS)])
    assert (rare.kappa, rare.kappa_low, rare.kappa_high) == (1, 1, 1)


def test_in_simulated_comparisons_a_judges_habits_make_no_false_finding_and_both_orders_are_why() -> None:
    from scipy.stats import binomtest

    rows = {(row.condition, row.asked): row for row in simulate(200, seed=1)}
    none, effect = rows["no effect", BOTH], rows["65 % effect", BOTH]
    for falsely in (none.better, none.worse):  # no more than one in forty, chance allowed for
        assert binomtest(falsely, none.num, 0.025, alternative="greater").pvalue > 0.001
    assert binomtest(rows["no effect", "tuned first, alone"].better, 200, 0.025, alternative="greater").pvalue < 1e-6
    assert effect.better > 10 * max(effect.worse, none.better, 1)
    always = rows["a judge that always says RESPONSE_1", BOTH]
    assert (always.outcomes.wins, always.outcomes.losses, always.outcomes.flips) == (0, 0, always.outcomes.n)
    assert (always.better, always.worse) == (0, 0)
