"""The judge where much goes wrong at once: eight threads, a server that fails, time that nobody waits for."""

import random
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from queue import Empty, SimpleQueue

from core.errors import JudgeError
from core.gemini import Gemini
from core.gemini_wire import MAX_REPLY_BYTES
from core.judge import DEFAULT_MODEL, Judge, JudgeOutcome
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
from tests.faults.figures.figure import Figure, Tried

NUM_THREADS = 8
# Real seconds: a server that stalls is the one thing that no fake clock shortens, and a busy machine is no stall.
STALL_TIMEOUT_S, TIMEOUT_S = 0.1, 30.0
# The first pass over the kinds is short, so that few items see them all.
FIRST_ITEMS, ITEMS, STORM_ITEMS = 2, 10, 20
SHARES = (1.0, 0.5)
# What comes of a call that nothing holds back any longer: the spacing of the calls, and its own way back to a pace.
MIN_GAP_S, MAX_GAP_S = 0.25, 41.0

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


def chaos(seed: int) -> Tried:
    """How each item's two orders end, where all or half of the calls are answered with one kind of failure."""
    kind = list(KINDS)[seed % len(KINDS)]
    share = SHARES[seed // len(KINDS) % len(SHARES)]
    num_items = FIRST_ITEMS if seed < len(KINDS) else ITEMS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        states = _end_states(num_items, KINDS[kind][0], share, seed)
    allowed = {f"no_verdict:{KINDS[kind][1]}"} | ({"tuned"} if share < 1 else set())
    wrong = [
        f"{kind}, {share:.0%} of calls: {n} ended as {state}" for state, n in states.items() if state not in allowed
    ]
    wrong += [f"{kind}: {2 * num_items} orders became {states.total()}"] * (states.total() != 2 * num_items)
    return Tried(num_items, tuple(wrong))


def _end_states(num_items: int, reply: Reply, share: float, seed: int) -> Counter[str]:
    states: Counter[str] = Counter()
    lots, clock = Lots(seed), LockstepClock(NUM_THREADS)

    def answer(asked: Asked) -> Reply:
        return reply if lots.draw(asked).random() < share else prefers(len)(asked)

    def work(judge: Judge, number: int) -> None:
        ends: dict[int, str] = {}
        reason = "not_judged"
        try:
            judge.judge_pair(
                PROMPT, base_of(number), tuned_of(number), on_ruling=lambda order, r: ends.update({order: r.winner})
            )
        except JudgeError as error:
            reason = error.reason
        states.update(ends.get(order, f"no_verdict:{reason}") for order in (1, 2))

    with FakeGemini(default=answer, clock=clock) as server:
        side_by_side(num_items, server, clock, work, STALL_TIMEOUT_S if reply.stall_s else TIMEOUT_S)
    return states


class Lots:
    """Draws by what is asked and how often it was asked before, so that no order of threads changes what happens."""

    def __init__(self, seed: int) -> None:
        self._seed, self._lock = seed, threading.Lock()
        self._asked: Counter[str] = Counter()

    def draw(self, asked: Asked) -> random.Random:
        what = asked.fenced("RESPONSE_1")
        with self._lock:
            self._asked[what] += 1
            return random.Random(f"{self._seed} {what} {self._asked[what]}")


def storm(seed: int) -> Tried:
    """Half of the calls are one too many. Each verdict is had once, and no call leaves within a hint."""
    lots, lock, clock = Lots(seed), threading.Lock(), LockstepClock(NUM_THREADS)
    hints: list[tuple[float, float]] = []
    given: Counter[str] = Counter()
    outcomes: list[JudgeOutcome] = []

    def answer(asked: Asked) -> Reply:
        draw = lots.draw(asked)
        if draw.random() < 0.5:
            hint_s = draw.choice([0, 0, 0.5, 3, 11])
            hints.append((asked.at, hint_s))
            return rate_limit(f"{hint_s}s") if draw.random() < 0.5 else rate_limit(Retry_After=str(hint_s))
        with lock:
            given[asked.fenced("RESPONSE_1")] += 1
        return prefers(len)(asked)

    def work(judge: Judge, number: int) -> None:
        outcomes.append(judge.judge_pair(Prompt(str(number), "any", "Why?"), base_of(number), tuned_of(number)))

    with FakeGemini(default=answer, clock=clock) as server:
        side_by_side(STORM_ITEMS, server, clock, work)
        times = [asked.at for asked in server.asked]
    return Tried(2 * STORM_ITEMS, tuple(_wrong_with_storm(times, hints, given, outcomes)))


def _wrong_with_storm(
    times: list[float], hints: list[tuple[float, float]], given: Counter[str], outcomes: list[JudgeOutcome]
) -> list[str]:
    # Time stands while a thread works, and calls are spaced: none can have left before the hint arrived.
    hurried = [(at, sent, hint_s) for sent, hint_s in hints for at in times if sent < at < sent + hint_s]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    lost = STORM_ITEMS - sum(outcome.outcome is Outcome.WIN for outcome in outcomes)
    wrong = ["an item without its verdicts"] * lost
    wrong += [f"{what!r} was judged {n} times" for what, n in given.items() if n > 1]
    wrong += [f"asked at {at:.2f}, hinted at {sent:.2f} to wait {hint_s} s" for at, sent, hint_s in hurried]
    wrong += [f"two calls within {gap:.2f} s" for gap in gaps if gap < MIN_GAP_S]
    return wrong + [f"nothing was asked for {gap:.0f} s" for gap in gaps if gap > MAX_GAP_S]


FIGURES = (
    Figure(
        "storm",
        "judge under 50 % 429s, some with a retry hint: verdicts lost, doubled, or asked sooner than the hint",
        "0, 0, 0 of 500",
        500,
        40,
        storm,
    ),
    Figure(
        "chaos",
        f"judge chaos, {len(KINDS)} kinds of failure x 50: items that end in no named state",
        "0 of 1,000",
        1_000,
        40,
        chaos,
    ),
)
