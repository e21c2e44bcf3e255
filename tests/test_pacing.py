"""The pace of calls, on a clock that nobody waits for."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import Cancelled
from core.pacing import LEAST_PATIENCE_S, Pace, stop_if
from tests.fake_clock import FakeClock, LockstepClock

FOREVER = float("inf")


def go(pace: Pace, num_calls: int, clock: Callable[[], float]) -> list[float]:
    """When each of so many calls went out."""
    times = []
    for _ in range(num_calls):
        assert pace.is_passed(FOREVER, lambda: None)
        times.append(clock())
    return times


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pace(clock: FakeClock) -> Pace:
    return Pace(4.0, clock, clock.sleep)


def test_calls_are_evenly_spaced_from_the_first_on(pace: Pace, clock: FakeClock) -> None:
    assert go(pace, 4, clock) == [1000, 1000.25, 1000.5, 1000.75]


def test_a_429_halves_the_pace_down_to_one_a_second_and_answers_bring_it_back(pace: Pace) -> None:
    seen = []
    for _ in range(4):
        pace.refused()
        seen.append(pace.per_s)
    assert seen == [2, 1, 1, 1]
    for _ in range(10):
        pace.answered()
    assert pace.per_s == pytest.approx(2)
    for _ in range(100):
        pace.answered()
    assert pace.per_s == 4


def test_a_slower_pace_holds_for_those_who_wait_already(pace: Pace, clock: FakeClock) -> None:
    go(pace, 1, clock)
    pace.refused()
    pace.refused()
    assert go(pace, 1, clock) == [1001]


def test_the_longest_hint_counts(pace: Pace, clock: FakeClock) -> None:
    pace.failed(30)
    pace.refused(5)
    assert go(pace, 1, clock) == [1030]


def test_stop_is_heard_within_a_slice(pace: Pace, clock: FakeClock) -> None:
    pace.failed(300)
    with pytest.raises(Cancelled):
        pace.is_passed(FOREVER, lambda: stop_if(lambda: clock.now >= 1003.1))
    assert clock.now <= 1003.35
    assert max(clock.slept) <= 0.25


def test_nobody_sits_out_a_hint_beyond_the_deadline(pace: Pace, clock: FakeClock) -> None:
    pace.failed(601)
    assert not pace.is_passed(pace.deadline(600), lambda: None)
    assert clock.slept == []


def test_patience_is_shared_and_comes_back_with_an_answer(pace: Pace, clock: FakeClock) -> None:
    pace.failed()
    clock.now += 400
    assert pace.deadline(600) == 1600
    clock.now += 400
    assert pace.deadline(600) == clock.now + LEAST_PATIENCE_S
    pace.answered()
    assert pace.deadline(600) == clock.now + 600


def test_eight_threads_at_once_keep_the_pace_and_the_hint() -> None:
    clock, times = LockstepClock(8), []
    pace, lock = Pace(4.0, clock, clock.sleep), threading.Lock()
    hinted_at = []

    def work() -> None:
        for _ in range(25):
            assert pace.is_passed(FOREVER, lambda: None)
            with lock:
                times.append(clock())
                if len(times) % 40 == 0:
                    hinted_at.append(clock())
                    pace.refused(10)
        clock.leave()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(8)]:
            done.result(60)
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert len(times) == 200
    assert min(gaps) >= 0.25
    assert len(hinted_at) == 5
    assert not [at for at in times for hint in hinted_at if hint < at < hint + 10]
