"""The judge where much goes wrong at once: eight threads, a server that fails, time that nobody waits for.

CHAOS_ITEMS=50 gives the full form; `-s` prints the figures.
"""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from queue import Empty, SimpleQueue

import pytest

from core.errors import JudgeError
from core.gemini import Gemini
from core.gemini_wire import MAX_REPLY_BYTES
from core.judge import DEFAULT_MODEL, REASON_WORDS, Judge, JudgeOutcome, Ruling
from core.prompts import Prompt
from core.stats import Outcome
from tests.asking import CANARY, PROMPT
from tests.fake_clock import LockstepClock
from tests.fake_gemini import (
    Asked,
    FakeGemini,
    Reply,
    bad_key,
    blocked,
    prefers,
    rate_limit,
    refusal,
    saying,
    stopped,
    verdict,
)

NUM_ITEMS = int(os.environ.get("CHAOS_ITEMS", "3"))
NUM_THREADS = 8
# Real seconds: a server that stalls is the one thing that no fake clock shortens, and a busy machine is no stall.
STALL_TIMEOUT_S, TIMEOUT_S = 0.1, 30.0
NAMED = {"base", "tuned", "tie"} | {f"no_verdict:{reason}" for reason in REASON_WORDS}

# What each comes to where it never ends.
KINDS: dict[str, tuple[Reply, str]] = {
    "prompt blocked": (blocked(), "blocked"),
    "stopped for safety": (stopped("SAFETY"), "blocked"),
    "stopped for recitation": (stopped("RECITATION"), "blocked"),
    "stopped for a new reason": (stopped("A_REASON_OF_NEXT_YEAR"), "blocked"),
    "cut short": (stopped("MAX_TOKENS"), "truncated"),
    "prose": (saying("I prefer the first."), "invalid"),
    "unknown winner": (verdict("RESPONSE_3"), "invalid"),
    "no candidate": (Reply(body={"candidates": []}), "invalid"),
    "a page for a reply": (Reply(body="<html>hello</html>"), "invalid"),
    "a reply too large": (Reply(body=b"[" + b" " * MAX_REPLY_BYTES + b"]"), "invalid"),
    "bad request": (refusal(400, "INVALID_ARGUMENT"), "bad_request"),
    "429 with a hint": (rate_limit("45s"), "rate_limited"),
    "500": (refusal(500, "INTERNAL"), "server_error"),
    "502 with a page": (Reply(502, "<html>bad gateway</html>"), "server_error"),
    "stall": (Reply(stall_s=60), "timeout"),
    "closed connection": (Reply(is_closed=True), "offline"),
    "key refused": (bad_key(), "key_refused"),
    "model gone": (refusal(404, "NOT_FOUND"), "model"),
    "account": (refusal(400, "FAILED_PRECONDITION"), "account"),
    "day's quota": (rate_limit(quota_id="GenerateRequestsPerDay"), "quota"),
}

Work = Callable[[Judge, int], None]


def base_of(number: int) -> str:
    return f"Base {number}."


def tuned_of(number: int) -> str:
    return f"Tuned {number}, and longer."


def side_by_side(
    num_items: int, server: FakeGemini, clock: LockstepClock, work: Work, timeout_s: float = TIMEOUT_S
) -> None:
    """One judge, all threads at once, each item dealt to whoever is free."""
    judge = Judge(Gemini(CANARY, DEFAULT_MODEL, server.url, clock, clock.sleep, timeout_s=timeout_s))
    items: SimpleQueue[int] = SimpleQueue()
    for number in range(num_items):
        items.put(number)

    def go() -> None:
        try:
            while True:
                work(judge, items.get_nowait())
        except Empty:
            pass
        finally:
            clock.leave()

    threads = [threading.Thread(target=go, daemon=True) for _ in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)


def end_states(num_items: int, reply: Reply, share: float) -> Counter[str]:
    """How each item's two orders end, where that share of the calls is answered with `reply`."""
    draw, states, clock = random.Random(1), Counter(), LockstepClock(NUM_THREADS)

    def answer(asked: Asked) -> Reply:
        return reply if draw.random() < share else prefers(len)(asked)

    def work(judge: Judge, number: int) -> None:
        ends: dict[int, str] = {}

        def keep(order: int, ruling: Ruling) -> None:
            ends[order] = ruling.winner

        reason = "not_judged"
        try:
            judge.judge_pair(PROMPT, base_of(number), tuned_of(number), on_ruling=keep)
        except JudgeError as error:
            reason = error.reason
        states.update(ends.get(order, f"no_verdict:{reason}") for order in (1, 2))

    with FakeGemini(default=answer, clock=clock) as server:
        side_by_side(num_items, server, clock, work, STALL_TIMEOUT_S if reply.stall_s else TIMEOUT_S)
    return states


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_every_item_ends_in_a_named_state(kind: str) -> None:
    reply, reason = KINDS[kind]
    for share in (1.0, 0.5):
        states = end_states(NUM_ITEMS, reply, share)
        print(f"{kind}, {share:.0%} of calls, {NUM_ITEMS} items: {dict(states)}")
        assert states.total() == 2 * NUM_ITEMS
        assert states.keys() <= NAMED
        assert states.keys() <= {f"no_verdict:{reason}"} | ({"tuned"} if share < 1 else set())


def test_a_storm_of_429s_loses_doubles_and_hurries_none_of_500_verdicts() -> None:
    draw, lock, clock = random.Random(2), threading.Lock(), LockstepClock(NUM_THREADS)
    hints: list[tuple[float, float]] = []
    given: Counter[tuple[str, str]] = Counter()
    outcomes: list[JudgeOutcome] = []

    def storm(asked: Asked) -> Reply:
        with lock:
            if draw.random() < 0.5:
                hint_s = draw.choice([0, 0, 0.5, 3, 11])
                hints.append((asked.at, hint_s))
                return rate_limit(f"{hint_s}s") if draw.random() < 0.5 else rate_limit(Retry_After=str(hint_s))
            given[asked.fenced("RESPONSE_1"), asked.fenced("RESPONSE_2")] += 1
        return prefers(len)(asked)

    def work(judge: Judge, number: int) -> None:
        outcomes.append(judge.judge_pair(Prompt(str(number), "any", "Why?"), base_of(number), tuned_of(number)))

    with FakeGemini(default=storm, clock=clock) as server:
        side_by_side(250, server, clock, work)
        times = [asked.at for asked in server.asked]
    # Time stands while a thread works, and calls are spaced: none can have left before the hint arrived.
    hurried = [at for sent, hint_s in hints for at in times if sent < at < sent + hint_s]
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    lost = 250 - sum(outcome.outcome is Outcome.WIN for outcome in outcomes)
    doubled = given.total() - len(given)
    print(f"{given.total()} verdicts, {len(times)} calls, {len(hints)} 429s: {lost=}, {doubled=}, {len(hurried)=}")
    assert (len(given), lost, doubled, hurried) == (500, 0, 0, [])
    assert min(gaps) >= 0.25
    assert max(gaps) <= 11 + 30
