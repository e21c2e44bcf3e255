"""What Gemini's server may do to a call, and what becomes of it: named, tried again, waited for, or the end of all."""

import io
import json
import logging
import time
import traceback
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from core.errors import Cancelled, JudgeError
from core.gemini import Gemini
from core.gemini_wire import MAX_REPLY_BYTES
from core.judge import DEFAULT_MODEL, DIMENSIONS, Judge
from core.stats import Outcome
from tests.asking import BASE, CANARY, PROMPT, TUNED, Asking, asking
from tests.fake_clock import FakeClock
from tests.fake_gemini import FakeGemini, Reply, bad_key, blocked, rate_limit, refusal, saying, stopped, verdict

WIN = (verdict("RESPONSE_2"), verdict("RESPONSE_1"))


@pytest.fixture
def ask() -> Iterator[Asking]:
    with asking() as ready:
        yield ready


FINAL = [
    ("blocked", blocked()),
    ("blocked", stopped("SAFETY")),
    ("blocked", stopped("RECITATION")),
    ("blocked", stopped("A_REASON_OF_NEXT_YEAR")),
    ("truncated", stopped("MAX_TOKENS")),
    ("bad_request", refusal(400, "INVALID_ARGUMENT", "too long")),
]


@pytest.mark.filterwarnings("ignore:A_REASON_OF_NEXT_YEAR")
@pytest.mark.parametrize(("reason", "reply"), FINAL)
def test_what_would_come_out_the_same_is_not_asked_again(ask: Asking, reason: str, reply: Reply) -> None:
    result = ask(verdict("RESPONSE_2"), reply)
    assert (result.order_1, result.order_2) == ("tuned", f"no_verdict:{reason}")
    assert len(ask.server.asked) == 2


FENCES = ["```json\n{}\n```", "```\n{}\n```", "\n```JSON\n{}\n```  \n"]


@pytest.mark.parametrize("fence", FENCES)
def test_a_verdict_in_a_code_fence_counts(ask: Asking, fence: str) -> None:
    fenced = [saying(fence.replace("{}", reply.body["candidates"][0]["content"]["parts"][0]["text"])) for reply in WIN]
    assert ask(*fenced).outcome is Outcome.WIN
    assert len(ask.server.asked) == 2


OFF_SCHEMA = {
    "an empty fence": saying("```json\n{}\n```"),
    "prose": saying("I prefer the first."),
    "wrong enum": verdict("RESPONSE_3"),
    "another's label": verdict("A"),
    "wrong strength": verdict(strength="overwhelming"),
    "score out of range": verdict(scores_1=dict.fromkeys(DIMENSIONS, 9)),
    "missing field": saying(json.dumps({"winner": "TIE"})),
    "half a character": verdict(reason="\ud800"),
    "empty": saying(""),
    "no candidate": Reply(body={"candidates": []}),
    "odd candidates": Reply(body={"candidates": [{"content": 3}]}),
    "empty object": Reply(body={}),
    "a page": Reply(body="<html>hello</html>"),
    "nothing": Reply(body=""),
    "a list": Reply(body="[]"),
    "a number": Reply(body="3"),
    "too large": Reply(body=b'{"a": "' + b"x" * (MAX_REPLY_BYTES + 1) + b'"}'),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OFF_SCHEMA)
def test_what_is_off_schema_is_asked_for_once_more_and_never_made_a_tie(ask: Asking, kind: str) -> None:
    bad = OFF_SCHEMA[kind]
    assert ask(bad, *WIN).outcome is Outcome.WIN
    ask.server.asked.clear()
    result = ask(bad, bad, verdict("RESPONSE_1"))
    assert (result.order_1, result.outcome, len(ask.server.asked)) == ("no_verdict:invalid", Outcome.NO_VERDICT, 3)


TRANSIENT = [
    ("server_error", refusal(500, "INTERNAL")),
    ("server_error", Reply(502, "<html>bad gateway</html>")),
    ("server_error", refusal(503, "UNAVAILABLE")),
    ("server_error", Reply(302, "", {"Location": "http://127.0.0.1:9/elsewhere"})),
    ("offline", Reply(is_closed=True)),
]


@pytest.mark.parametrize(("reason", "reply"), TRANSIENT)
def test_what_may_pass_is_tried_again_up_to_the_attempts(ask: Asking, reason: str, reply: Reply) -> None:
    assert ask(reply, reply, reply, *WIN).outcome is Outcome.WIN
    ask.server.asked.clear()
    result = ask(reply, reply, reply, reply, verdict("RESPONSE_1"))
    assert (result.order_1, len(ask.server.asked)) == (f"no_verdict:{reason}", 5)


def test_attempts_are_counted_over_all_that_goes_wrong(ask: Asking) -> None:
    mixed = (rate_limit(), refusal(500, "INTERNAL"), Reply(is_closed=True), refusal(503, "UNAVAILABLE"), rate_limit())
    assert ask(*mixed, *WIN).outcome is Outcome.WIN
    assert ask(*mixed, Reply(is_closed=True), verdict("RESPONSE_1")).order_1 == "no_verdict:offline"


def test_waits_between_tries_double_and_are_drawn(ask: Asking) -> None:
    ask.server.script = [refusal(500, "INTERNAL")] * 3
    ask.judge(draw=lambda: 1.0).judge_pair(PROMPT, BASE, TUNED)
    assert [round(b - a, 3) for a, b in zip(ask.times, ask.times[1:], strict=False)] == [2, 4, 8, 0.25]


def test_nobody_there_is_offline() -> None:
    with FakeGemini() as gone:
        ask = Asking(gone, FakeClock())
    result = ask()
    assert (result.order_1, result.order_2) == ("no_verdict:offline", "no_verdict:offline")


def test_a_name_that_is_not_found_is_offline(looked_up_hosts: list[str]) -> None:
    clock = FakeClock()
    judge = Judge(Gemini(CANARY, DEFAULT_MODEL, "https://judge.invalid", clock, clock.sleep))
    assert judge.judge_pair(PROMPT, BASE, TUNED).order_1 == "no_verdict:offline"
    assert set(looked_up_hosts) == {"judge.invalid"}


@pytest.mark.parametrize("reply", [Reply(stall_s=5), Reply(body={"a": "b" * 400}, is_dripped=True)])
def test_a_server_that_stalls_or_drips_times_out(ask: Asking, reply: Reply) -> None:
    ask.server.script = [reply] * 4
    started = time.monotonic()
    result = ask.judge(timeout_s=0.1).judge_pair(PROMPT, BASE, TUNED)
    assert (result.order_1, result.order_2) == ("no_verdict:timeout", "tie")
    assert (len(ask.server.asked), time.monotonic() - started < 4) == (5, True)


HINTS = {
    "seconds": (rate_limit(Retry_After="17"), 17),
    "RetryInfo": (rate_limit("23s"), 23),
    "fractions": (rate_limit("0.5s"), 0.5),
    "the longer": (rate_limit("5s", Retry_After="40"), 40),
    "on a 503": (refusal(503, "UNAVAILABLE", Retry_After="12"), 12),
}


@pytest.mark.parametrize("kind", HINTS)
def test_a_hint_is_waited_for(ask: Asking, kind: str) -> None:
    reply, seconds = HINTS[kind]
    assert ask(reply, *WIN).outcome is Outcome.WIN
    assert seconds <= ask.times[1] - ask.times[0] < seconds + 1


def test_a_date_is_a_hint_too(ask: Asking) -> None:
    ask(rate_limit(Retry_After=formatdate(time.time() + 30, usegmt=True)))
    assert 28 <= ask.times[1] - ask.times[0] <= 31


@pytest.mark.parametrize("text", ["inf", "nan", "-5", "soon", "1e309"])
def test_a_hint_that_is_none_does_no_harm(ask: Asking, text: str) -> None:
    ask(rate_limit(text + "s", Retry_After=text))
    assert ask.clock.now - 1000 < 60


def test_a_429_uses_up_no_attempt(ask: Asking) -> None:
    assert ask(*[rate_limit("3s")] * 50, *WIN).outcome is Outcome.WIN
    assert len(ask.server.asked) == 52


def test_only_the_total_wait_bounds_429s(ask: Asking) -> None:
    ask.server.default = lambda asked: rate_limit("7s")
    result = ask()
    assert (result.order_1, result.order_2) == ("no_verdict:rate_limited", "no_verdict:rate_limited")
    assert 580 < ask.clock.now - 1000 <= 600


def test_a_storm_without_end_is_waited_out_once_and_not_for_every_pair(ask: Asking) -> None:
    ask.server.default = lambda asked: rate_limit()
    judge = ask.judge()
    results = [judge.judge_pair(PROMPT, BASE, TUNED + str(n)) for n in range(20)]
    assert {result.order_1 for result in results} == {"no_verdict:rate_limited"}
    assert ask.clock.now - 1000 <= 600 + 19 * 30


def test_a_hint_beyond_the_total_wait_is_not_sat_out(ask: Asking) -> None:
    ask.server.default = lambda asked: rate_limit("3600s")
    judge = ask.judge()
    results = [judge.judge_pair(PROMPT, BASE, TUNED).order_1 for _ in range(3)]
    assert results == ["no_verdict:rate_limited"] * 3
    assert (len(ask.server.asked), ask.clock.slept) == (1, [])


def test_stop_is_heard_during_a_wait(ask: Asking) -> None:
    ask.server.script = [rate_limit("300s")]
    with pytest.raises(Cancelled):
        ask.judge().judge_pair(PROMPT, BASE, TUNED, lambda: ask.clock.now > 1003)
    assert (len(ask.server.asked), ask.clock.now < 1004) == (1, True)


def test_stop_is_heard_while_a_server_stalls(ask: Asking) -> None:
    ask.server.script = [Reply(stall_s=30)]
    started = time.monotonic()
    with pytest.raises(Cancelled):
        ask.judge().judge_pair(PROMPT, BASE, TUNED, lambda: bool(ask.server.asked))
    assert time.monotonic() - started < 10


FATAL = {
    "key": (
        bad_key(), "key_refused",
        "Gemini refuses the key. Check GEMINI_API_KEY in .env. What is judged so far is kept.",
    ),
    "403": (
        refusal(403, "PERMISSION_DENIED"), "key_refused",
        "Gemini refuses the key. Check GEMINI_API_KEY in .env. What is judged so far is kept.",
    ),
    "404": (
        refusal(404, "NOT_FOUND"), "model",
        "Gemini has no model named 'gemini-3.8-flash' for this key. Choose another judge model. "
        "What is judged so far is kept.",
    ),
    "account": (
        refusal(400, "FAILED_PRECONDITION", "User location is not supported."), "account",
        "Gemini does not serve this key's account (its region or its billing). What is judged so far is kept.",
    ),
    "day": (
        rate_limit("20s", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"), "quota",
        "Gemini's quota for the day is used up. What is judged so far is kept. Go on tomorrow, or with another key.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FATAL)
def test_what_no_call_can_get_past_stops_all_after_one(ask: Asking, kind: str) -> None:
    reply, reason, sentence = FATAL[kind]
    ask.server.script, judge = [reply], ask.judge()
    for _ in range(3):
        with pytest.raises(JudgeError) as caught:
            judge.judge_pair(PROMPT, BASE, TUNED)
        assert (str(caught.value), caught.value.reason, caught.value.exit_code) == (sentence, reason, 1)
    assert len(ask.server.asked) == 1


def test_a_new_judge_tries_again_where_the_day_stopped_the_last(ask: Asking) -> None:
    with pytest.raises(JudgeError):
        ask(FATAL["day"][0])
    assert ask(*WIN).outcome is Outcome.WIN


ECHO = f"The key {CANARY} is not valid."
ANSWERS = [
    verdict("RESPONSE_1"),
    blocked(),
    rate_limit("1s"),
    Reply(is_closed=True),
    Reply(502, ECHO),
    Reply(200, ECHO),
    refusal(500, "INTERNAL", ECHO),
]
REFUSALS = [
    bad_key(ECHO),
    rate_limit(quota_id=f"PerDay {CANARY}"),
    refusal(403, "PERMISSION_DENIED", ECHO),
    refusal(404, "NOT_FOUND", ECHO),
    refusal(400, "FAILED_PRECONDITION", ECHO),
]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that any library logs, down to DEBUG."""
    text, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(text), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


def test_the_key_appears_nowhere_but_in_the_header(ask: Asking, log: io.StringIO) -> None:
    said = [repr(ask(reply)) for reply in ANSWERS]
    for reply in REFUSALS:
        with pytest.raises(JudgeError) as caught:
            ask(reply)
        assert (caught.value.__context__, caught.value.__cause__) == (None, None)
        said += [repr(caught.value), repr(vars(caught.value)), "".join(traceback.format_exception(caught.value))]
    judge = ask.judge()
    said += [repr(judge), repr(vars(judge))]
    assert "POST" in log.getvalue()
    assert CANARY not in log.getvalue()
    assert CANARY not in "\n".join(said)
    assert {asked.headers["x-goog-api-key"] for asked in ask.server.asked} == {CANARY}
