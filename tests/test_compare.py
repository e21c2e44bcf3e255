"""Comparisons as a person meets them: sealed sides, votes that stay, and nothing asked twice."""

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from core import blind
from core.blind import HumanVerdict, Item, Side, commit, deal
from core.client import Response, Turn
from core.compare import Card, Comparison, Counts, list_comparisons
from core.errors import AdapterError, EngineDied, JudgeError, PlaygroundError, RequestError
from core.export import to_csv
from core.gemini import Gemini
from core.judge import Judge
from core.messages import Conversation
from core.paths import PROJECT_ROOT, finetuned_dir
from core.prompts import Prompt
from core.report import headline, sections
from core.results import Results
from core.settings import COMPARISON_BATCH_ITEMS, Decoding
from core.standing import Decider
from core.stats import Finding, Outcome
from tests.fake_clock import FakeClock
from tests.fake_gemini import Asked, FakeGemini, Reply, bad_key, prefers, stopped, verdict

ADAPTER = "dpo-1122-1405"
MODEL = "gemini-3.8-flash"
THE_LONGER = prefers(len)
KEY = "AIzaCanary-0123456789-abcdefghijklmnop"


class FakeEngine:
    """Answers at once and remembers what it was asked; `breaks_at` is the call that fails."""

    def __init__(self, breaks_at: int = 0, is_same: bool = False) -> None:
        self.calls: list[list[Turn]] = []
        self.decodings: list[Decoding] = []
        self.num_said: Counter[str] = Counter()
        self.breaks_at, self.is_same = breaks_at, is_same

    def __call__(self, turns: list[Turn], decoding: Decoding) -> list[Response]:
        self.calls.append(turns)
        self.decodings.append(decoding)
        if len(self.calls) == self.breaks_at:
            raise EngineDied("The engine was killed, likely for want of memory.")
        return [self._say(turn) for turn in turns]

    def _say(self, turn: Turn) -> Response:
        """Tuned says more than base, and base something else of one length when it is asked once more."""
        question = turn.conversation[-1].content
        if self.is_same:
            return Response(question, 1)
        if turn.contender != "base":
            return Response(f"{question} word word word", 3)
        self.num_said[question] += 1
        return Response(f"{question} say{self.num_said[question]}", 1)

    @property
    def asked(self) -> list[tuple[str, str]]:
        return [(turn.contender, turn.conversation[-1].content) for turns in self.calls for turn in turns]


def prompts(n: int) -> list[Prompt]:
    return [Prompt(f"p{number}", "everyday", f"Question {number}?") for number in range(n)]


def begin(n: int = 5, judge_model: str = "", **options: object) -> Comparison:
    return Comparison.create(ADAPTER, "smollm2", prompts(n), Decoding(), judge_model, 42, **options)  # type: ignore[arg-type]


def judged_alone(n: int = 5, **options: object) -> Comparison:
    return begin(n, MODEL, primary=Decider.JUDGE, is_judge_only=True, **options)


def answered(n: int = 5, **options: object) -> Comparison:
    comparison = begin(n, **options)  # type: ignore[arg-type]
    comparison.run(FakeEngine())
    return comparison


def judge_all(comparison: Comparison, default: Callable[[Asked], Reply] = THE_LONGER) -> None:
    with FakeGemini(default=default) as server:
        comparison.run(FakeEngine(), judge_at(server))


def judge_at(server: FakeGemini) -> Judge:
    """A judge whose waits take no time."""
    clock = FakeClock()
    return Judge(Gemini(KEY, MODEL, server.url, clock, clock.sleep))


def records(comparison: Comparison) -> list[dict[str, object]]:
    return [json.loads(line) for line in comparison.path.read_text().splitlines()]


def tuned_side(comparison: Comparison, item_id: str) -> Side:
    """Where tuned sits, as only the test knows it: by its longer response."""
    return Side.A if "word word" in comparison.card(item_id).response_a else Side.B


def vote_all(comparison: Comparison, choose: Callable[[str], HumanVerdict]) -> None:
    for item_id in comparison.pending():
        comparison.vote(item_id, choose(item_id))


def for_tuned(comparison: Comparison) -> Callable[[str], HumanVerdict]:
    return lambda item_id: HumanVerdict(tuned_side(comparison, item_id).value)


def results(comparison: Comparison) -> Results:
    found = comparison.results()
    assert found is not None
    return found


def said(comparison: Comparison) -> str:
    found = results(comparison)
    return "\n".join([headline(found), *(line for _, lines in sections(found) for line in lines)])


def sides_of(items: tuple[Item, ...]) -> list[Side]:
    return [item.tuned_side for item in items]


class TestDeal:
    @pytest.mark.parametrize(
        ("n", "samples", "num_placebos"), [(1, 1, 0), (2, 1, 1), (5, 1, 1), (25, 1, 5), (50, 2, 10)]
    )
    def test_each_contender_sits_on_each_side_equally_often(self, n: int, samples: int, num_placebos: int) -> None:
        ids = [f"p{number}" for number in range(n)]
        for _ in range(30):
            items = deal(blind.draw_nonce(), ids, samples, num_placebos)
            for is_placebo, total in ((False, n * samples), (True, num_placebos)):
                on_a = sides_of(tuple(item for item in items if item.is_placebo == is_placebo)).count(Side.A)
                assert on_a in {total // 2, (total + 1) // 2}

    def test_every_prompt_is_dealt_as_often_as_asked_and_placebos_lie_anywhere(self) -> None:
        ids = [f"p{number}" for number in range(10)]
        places: set[int] = set()
        for _ in range(60):
            items = deal(blind.draw_nonce(), ids, 2, 3)
            real = [(item.prompt_id, item.sample) for item in items if not item.is_placebo]
            assert sorted(real) == sorted((name, sample) for name in ids for sample in range(2))
            assert [item.id for item in items] == [str(place) for place in range(1, 24)]
            places |= {place for place, item in enumerate(items) if item.is_placebo}
        assert len(places) > 20

    def test_every_prompt_and_the_odd_one_may_fall_either_way(self) -> None:
        draws = [deal(blind.draw_nonce(), ["a", "b", "c"], 1, 0) for _ in range(80)]
        assert {(item.prompt_id, item.tuned_side) for draw in draws for item in draw} == {
            (name, side) for name in "abc" for side in Side
        }
        assert {sides_of(draw).count(Side.A) for draw in draws} == {1, 2}

    def test_the_seed_says_nothing_of_the_sides(self) -> None:
        dealt = {tuple(tuned_side(answered(6), str(place)) for place in range(1, 7)) for _ in range(12)}
        assert len(dealt) > 1

    def test_the_commitment_stands_before_the_first_vote_and_the_nonce_after_the_last(self) -> None:
        comparison = answered(3, num_placebos=1)
        before = comparison.plan.commitment
        assert "revealed" not in [record["kind"] for record in records(comparison)]
        assert comparison.results() is None
        vote_all(comparison, lambda item_id: HumanVerdict.TIE)
        kinds = [record["kind"] for record in records(comparison)]
        assert kinds.index("start") < kinds.index("vote")
        assert kinds[-1] == "revealed"
        nonce = bytes.fromhex(results(comparison).nonce)
        assert commit(nonce, deal(nonce, ["p0", "p1", "p2"], 1, 1)) == before == comparison.plan.commitment

    def test_the_commitment_can_be_checked_with_a_shells_tools(self) -> None:
        item = Item("1", "p0", 0, False, Side.B)
        text = "00" * 32 + '\n[{"id": "1", "is_placebo": false, "prompt_id": "p0", "sample": 0, "tuned_side": "B"}]'
        assert commit(bytes(32), [item]) == hashlib.sha256(text.encode()).hexdigest()


class TestBlindness:
    def test_a_card_holds_nothing_but_the_texts(self) -> None:
        assert [field.name for field in fields(Card)] == [
            "item_id", "number", "category", "prompt", "response_a", "response_b",
        ]  # fmt: skip

    def test_before_the_last_vote_nothing_tells_who_is_who_or_how_it_stands(self) -> None:
        comparison = begin(4, MODEL, num_placebos=2)
        judge_all(comparison)
        for item_id in comparison.pending()[:5]:
            comparison.vote(item_id, for_tuned(comparison)(item_id))
        shown = json.dumps([asdict(comparison.card(str(place))) for place in range(1, 7)])
        assert not [word for word in ("base", "tuned", "placebo", ADAPTER, "p0") if word in shown]
        assert comparison.results() is None
        assert comparison.decided(Decider.HUMAN) == comparison.decided(Decider.JUDGE) == []

    def test_the_log_shows_sides_only_when_all_votes_are_in(self) -> None:
        comparison = answered(2)
        log = comparison.log_path.read_text()
        assert "[A]\nQuestion " in log
        assert comparison.plan.commitment in log
        first, last = comparison.pending()
        comparison.vote(first, HumanVerdict.TIE)
        log = comparison.log_path.read_text()
        assert "Vote: tie" in log
        entries = log.split("-" * 78)[1:]
        assert not [
            word for entry in entries for word in ("base", "tuned", "tokens", "win", "loss", "[p") if word in entry
        ]
        comparison.vote(last, for_tuned(comparison)(last))
        log = comparison.log_path.read_text()
        assert f"[{tuned_side(comparison, last)}, tuned, tokens: 3]" in log
        assert "RESULT. No difference shown: 1 win, 1 tie, 0 losses; win rate 0.75 (" in log
        assert results(comparison).nonce in log

    def test_a_placebo_is_base_twice_and_looks_like_any_other(self) -> None:
        engine, comparison = FakeEngine(), begin(4, num_placebos=4)
        comparison.run(engine)
        assert sum(contender == ADAPTER for contender, _ in engine.asked) == 4
        assert sum(contender == "base" for contender, _ in engine.asked) == 12
        cards = [comparison.card(item_id) for item_id in comparison.pending()]
        assert [card.number for card in cards] == list(range(1, 9))

    def test_no_card_before_both_responses_are_there(self) -> None:
        with pytest.raises(RequestError) as caught:
            begin().card("1")
        assert str(caught.value) == "Pair 1 is not answered yet. Wait for both responses."

    @pytest.mark.parametrize("item_id", ["0", "6", 1, True, "", None, ["1"], "p0"])
    def test_a_card_that_is_not_there_is_a_sentence(self, item_id: object) -> None:
        with pytest.raises(RequestError, match="has no pair named"):
            answered().card(item_id)  # type: ignore[arg-type]


class TestVotes:
    @pytest.mark.parametrize(
        ("verdict", "outcome"), [("tie", Outcome.TIE), ("both_bad", Outcome.TIE), ("skip", Outcome.NO_VERDICT)]
    )
    def test_what_decides_nothing(self, verdict: str, outcome: Outcome) -> None:
        comparison = answered(1)
        comparison.vote("1", verdict)
        assert results(comparison).rows[0].human_outcome == outcome

    def test_a_vote_for_tuneds_side_is_a_win_wherever_it_sits(self) -> None:
        comparison = answered(6)
        vote_all(comparison, for_tuned(comparison))
        found = results(comparison)
        assert found.decisive_tally.wins == 6
        assert {row.human_verdict for row in found.rows} == {"A", "B"}
        assert headline(found) == (
            "Better: 6 wins, 0 ties, 0 losses; win rate 1.00 (0.61 to 1.00); the sign test is below 0.05."
        )

    def test_who_always_votes_a_wins_half(self) -> None:
        comparison = answered(6)
        vote_all(comparison, lambda item_id: HumanVerdict.A)
        found = results(comparison)
        assert (found.decisive_tally.wins, found.decisive_tally.losses) == (3, 3)
        assert found.share_a.share == 1.0

    def test_one_vote_per_pair(self) -> None:
        comparison = answered(2)
        comparison.vote("1", "A")
        with pytest.raises(RequestError) as caught:
            comparison.vote("1", "B")
        assert str(caught.value) == "Pair 1 already has its vote. Undo takes back the last one."

    def test_votes_at_the_same_moment_count_once(self) -> None:
        first = answered(1)
        tabs = [first, Comparison.open(first.path), first, Comparison.open(first.path)]
        refused: list[RequestError] = []

        def vote(tab: Comparison) -> None:
            try:
                tab.vote("1", "A")
            except RequestError as error:
                refused.append(error)

        threads = [threading.Thread(target=vote, args=(tab,)) for tab in tabs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 3
        assert [record["kind"] for record in records(first)].count("vote") == 1

    def test_a_second_tab_sees_the_first_ones_vote(self) -> None:
        first = answered(3)
        second = Comparison.open(first.path)
        first.vote("1", "A")
        assert second.pending() == ["2", "3"]

    def test_undo_takes_back_the_last_vote_until_the_seal_is_open(self) -> None:
        comparison = answered(2)
        with pytest.raises(RequestError, match="There is no vote to take back"):
            comparison.undo()
        comparison.vote("2", "A")
        assert comparison.undo() == "2"
        assert comparison.pending() == ["1", "2"]
        vote_all(comparison, lambda item_id: HumanVerdict.B)
        with pytest.raises(RequestError, match="the sides are shown"):
            comparison.undo()

    @pytest.mark.parametrize("verdict", ["", "a", "C", None, 1, ["A"], "win"])
    def test_a_vote_that_is_none_is_refused(self, verdict: object) -> None:
        comparison = answered(1)
        with pytest.raises(RequestError, match="A vote is one of A, B, tie, both_bad, skip"):
            comparison.vote("1", verdict)  # type: ignore[arg-type]
        assert comparison.pending() == ["1"]

    def test_a_vote_before_the_responses_or_after_the_end_is_refused(self) -> None:
        with pytest.raises(RequestError, match="not answered yet"):
            begin(1).vote("1", "A")
        comparison = answered(2)
        comparison.vote("1", "A")
        comparison.end_early()
        with pytest.raises(RequestError, match="would no longer be blind"):
            comparison.vote("2", "A")

    def test_a_result_that_was_ended_early_says_so_and_counts_the_rest_as_missing(self) -> None:
        comparison = answered(10)
        for item_id in comparison.pending()[:6]:
            comparison.vote(item_id, for_tuned(comparison)(item_id))
        comparison.end_early()
        found = results(comparison)
        assert found.primary is not None
        assert found.primary.finding is Finding.TOO_LITTLE
        assert found.primary.missing == {"skipped": 0, "not_voted": 4}
        assert headline(found).startswith(
            "Ended early. Too little covered: 6 wins, 0 ties, 0 losses, 4 without a verdict"
        )
        assert "Whoever looks and stops when it suits finds more than there is." in said(comparison)


class TestPlacebosAndSamples:
    def test_placebos_are_never_in_n_nor_in_the_rows(self) -> None:
        comparison = answered(6, num_placebos=6)
        vote_all(comparison, lambda item_id: HumanVerdict.A)
        found = results(comparison)
        assert found.primary is not None
        assert (found.primary.tally.n, len(found.rows), found.primary.floor.n) == (6, 6, 6)
        assert found.primary.floor.decided_k == 6

    def test_a_person_who_sees_as_much_in_base_twice_is_told_that_it_did_nothing(self) -> None:
        comparison = answered(10, num_placebos=10)
        vote_all(comparison, lambda item_id: HumanVerdict.A)
        assert (
            "You preferred one response in 10 of 10 pairs of base and tuned, and in 10 of 10 pairs of base and base: "
            "tuned stands out no more than base's second draw."
        ) in said(comparison)

    def test_samples_are_averaged_within_their_prompt(self) -> None:
        comparison = answered(2, samples=3)
        standing_items = {r["item"]: r["seed"] for r in records(comparison) if r["kind"] == "response"}
        assert len(standing_items) == 6
        assert len(set(standing_items.values())) == 3
        vote_all(comparison, for_tuned(comparison))
        found = results(comparison)
        assert (found.decisive_tally.n, found.decisive_tally.wins) == (2, 2)
        assert [row.prompt_id for row in found.rows] == ["p0", "p0#2", "p0#3", "p1", "p1#2", "p1#3"]

    def test_several_draws_at_temperature_zero_are_refused(self) -> None:
        with pytest.raises(RequestError, match="At temperature 0 every draw is the same"):
            Comparison.create(ADAPTER, "smollm2", prompts(2), Decoding(temperature=0.0), samples=2)


class TestAnswering:
    def test_base_and_tuned_are_asked_together_in_few_batches(self) -> None:
        engine, n = FakeEngine(), COMPARISON_BATCH_ITEMS + 2
        begin(n).run(engine)
        assert [len(turns) for turns in engine.calls] == [2 * COMPARISON_BATCH_ITEMS, 4]
        assert len(set(engine.asked)) == 2 * n
        assert [decoding.seed for decoding in engine.decodings] == [43, 43 + COMPARISON_BATCH_ITEMS]

    def test_progress_is_told(self) -> None:
        told: list[tuple[str, int, int]] = []
        begin(3).run(FakeEngine(), on_progress=lambda *step: told.append(step))
        assert told == [("answering", 0, 3), ("answering", 3, 3)]

    def test_stop_keeps_what_is_done_and_nothing_is_asked_twice(self) -> None:
        n = 2 * COMPARISON_BATCH_ITEMS
        engine, comparison = FakeEngine(), begin(n)
        comparison.run(engine, is_stopped=lambda: len(engine.calls) == 1)
        assert comparison.counts() == Counts(COMPARISON_BATCH_ITEMS, 0, 0, n)
        Comparison.open(comparison.path).run(engine)
        assert comparison.counts().answered == n
        assert len(engine.asked) == len(set(engine.asked)) == 2 * n

    def test_an_engine_that_dies_leaves_a_comparison_that_goes_on(self) -> None:
        n = 2 * COMPARISON_BATCH_ITEMS
        comparison = begin(n)
        with pytest.raises(EngineDied):
            comparison.run(FakeEngine(breaks_at=2))
        assert comparison.counts().answered == COMPARISON_BATCH_ITEMS
        engine = FakeEngine()
        Comparison.open(comparison.path).run(engine)
        assert len(engine.asked) == 2 * COMPARISON_BATCH_ITEMS

    def test_how_far_tuned_is_from_base_is_measured_once(self) -> None:
        measured: list[int] = []

        def drift(asked: Sequence[tuple[Conversation, str]]) -> list[float]:
            measured.append(len(asked))
            return [0.001] * len(asked)

        comparison = begin(6, num_placebos=2)
        for _ in range(2):
            comparison.run(FakeEngine(is_same=True), drift=drift)
        assert measured == [6]
        vote_all(comparison, lambda item_id: HumanVerdict.TIE)
        assert "The adapter is nearly inert: along base's own responses it moves by 0.0010 nats a token" in said(
            comparison
        )

    def test_an_adapter_that_was_trained_anew_under_its_name_ends_the_comparison(self) -> None:
        manifest = finetuned_dir() / ADAPTER / "adapter" / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text("{}")
        comparison = begin(1)
        comparison.check_unchanged()
        manifest.write_text('{"another": 1}')
        with pytest.raises(AdapterError, match="is not the one that this comparison was begun with"):
            comparison.check_unchanged()

    def test_what_was_cleaned_is_counted_and_the_raw_text_kept(self) -> None:
        comparison = begin(1)
        raw = "Yes.\u200b\n\nHuman: and now?"
        comparison.run(lambda turns, decoding: [Response(raw, 4) for _ in turns])
        assert comparison.card("1").response_a == "Yes."
        assert {record["raw"] for record in records(comparison) if record["kind"] == "response"} == {raw}
        comparison.vote("1", "tie")
        assert "Responses running on into another turn: base 1 of 1, tuned 1 of 1." in said(comparison)
        assert "Responses holding hidden characters: base 1 of 1, tuned 1 of 1." in said(comparison)

    def test_a_cut_response_is_counted_by_contender_and_the_uncut_pairs_stand_apart(self) -> None:
        def cut(turns: list[Turn], decoding: Decoding) -> list[Response]:
            return [
                Response(f"{t.contender} says", 9, is_cut=t.contender == "base" and "0" in t.conversation[-1].content)
                for t in turns
            ]

        comparison = begin(4)
        comparison.run(cut)
        vote_all(comparison, lambda item_id: HumanVerdict.TIE)
        found = results(comparison)
        assert "Responses cut by the length limit: base 1 of 4, tuned 0 of 4" in said(comparison)
        assert found.primary is not None
        assert found.primary.uncut.n == 3


class TestJudging:
    def test_without_votes_the_judge_alone_decides(self) -> None:
        comparison = judged_alone()
        judge_all(comparison)
        found = results(comparison)
        assert found.decisive_tally.wins == 5
        assert found.human is None
        assert comparison.pending() == []
        row = found.rows[0]
        assert (row.judge_order_1, row.judge_order_2, row.judge_outcome) == ("tuned", "tuned", "win")
        assert row.human_outcome == ""
        with pytest.raises(RequestError, match="only the judge decides"):
            comparison.vote("1", "A")

    def test_a_judge_that_always_says_the_first_wins_nothing(self) -> None:
        comparison = judged_alone(num_placebos=5)
        judge_all(comparison, lambda asked: verdict("RESPONSE_1"))
        found = results(comparison)
        tally = found.decisive_tally
        assert (tally.wins, tally.losses, tally.flips, tally.win_rate) == (0, 0, 5, 0.5)
        assert found.judge is not None
        assert found.judge.floor.flipped.share == 1.0

    def test_what_failed_is_outside_n_named_and_can_be_asked_again(self) -> None:
        comparison = judged_alone(3)
        with FakeGemini(script=[stopped("SAFETY")], default=prefers(len)) as server:
            comparison.run(FakeEngine(), judge_at(server))
        tally = results(comparison).decisive_tally
        assert (tally.n, tally.no_verdict) == (2, 1)
        assert "no_verdict:blocked" in {row.judge_order_1 for row in results(comparison).rows}
        assert comparison.failed() == {"blocked": 1}
        with pytest.raises(RequestError, match="Nothing of this comparison failed as 'offline'"):
            comparison.retry("offline")
        comparison.retry("blocked")
        with FakeGemini(default=prefers(len)) as server:
            comparison.run(FakeEngine(), judge_at(server))
            assert len(server.asked) == 1
        assert results(comparison).decisive_tally.wins == 3

    def test_a_refused_key_costs_one_call_and_stops_the_judge_and_not_the_person(self) -> None:
        comparison = begin(3, MODEL)
        with FakeGemini(default=lambda asked: bad_key()) as server:
            with pytest.raises(JudgeError):
                comparison.run(FakeEngine(), judge_at(server))
            assert len(server.asked) == 1
        assert comparison.judge_stopped.startswith("Gemini refuses the key.")
        assert comparison.failed() == {"key_refused": 3}
        vote_all(comparison, for_tuned(comparison))
        assert results(comparison).decisive_tally.wins == 3
        assert {row.judge_order_1 for row in results(comparison).rows} == {"no_verdict:key_refused"}
        comparison.retry("key_refused")
        judge_all(Comparison.open(comparison.path))
        found = results(comparison)
        assert "Gemini was asked again 1 time after the result had been seen." in said(comparison)
        assert found.judge is not None
        assert (found.judge.tally.wins, comparison.judge_stopped) == (3, "")

    def test_a_judge_that_gives_up_on_its_own_result_waits_to_go_on(self) -> None:
        comparison = judged_alone(3)
        with FakeGemini(default=lambda asked: bad_key()) as server, pytest.raises(JudgeError):
            comparison.run(FakeEngine(), judge_at(server))
        assert comparison.results() is None
        judge_all(comparison)
        assert results(comparison).decisive_tally.wins == 3

    def test_the_persons_result_waits_for_a_judge_that_is_still_at_it(self) -> None:
        comparison = begin(2, MODEL)
        comparison.run(FakeEngine())
        vote_all(comparison, for_tuned(comparison))
        assert comparison.results() is None
        judge_all(comparison)
        assert comparison.results() is not None

    def test_stop_between_two_verdicts_loses_and_repeats_none(self) -> None:
        comparison = judged_alone(12)
        with FakeGemini(default=prefers(len)) as server:
            judge = judge_at(server)
            comparison.run(FakeEngine(), judge, is_stopped=lambda: len(server.asked) >= 3)
            assert comparison.results() is None
            Comparison.open(comparison.path).run(FakeEngine(), judge)
            assert len(server.asked) == 24
            assert len({asked.fenced("RESPONSE_1") for asked in server.asked}) == 24
        assert comparison.results() is not None

    def test_a_ruling_on_something_else_is_asked_anew(self) -> None:
        comparison = judged_alone(2)
        judge_all(comparison)
        lines = comparison.path.read_text().splitlines()
        edited = next(place for place, line in enumerate(lines) if '"kind": "ruling"' in line)
        lines[edited] = json.dumps(json.loads(lines[edited]) | {"key": "of an older form"})
        comparison.path.write_text("\n".join(lines) + "\n")
        with FakeGemini(default=prefers(len)) as server:
            Comparison.open(comparison.path).run(FakeEngine(), judge_at(server))
            assert len(server.asked) == 1

    def test_with_nobody_to_judge_every_prompt_still_has_a_state(self) -> None:
        comparison = begin(2, primary=Decider.JUDGE, is_judge_only=True)
        comparison.run(FakeEngine())
        found = results(comparison)
        assert (found.decisive_tally.n, found.decisive_tally.no_verdict, found.decisive_tally.win_rate) == (0, 2, None)
        assert {row.judge_order_1 for row in found.rows} == {"no_verdict:not_judged"}
        assert headline(found) == "Nobody judged and nobody voted: there is no result, only the responses."

    def test_strengths_and_weaknesses_come_with_their_doubt_and_the_reasons(self) -> None:
        comparison = judged_alone(2)
        judge_all(comparison)
        text = said(comparison)
        assert "clarity: +2.00 points of 5, tuned minus base, the same on all of 2 prompts." in text
        assert "Why it won, p0: “tuned is clearer.”" in text
        assert "Why it won, p0: “tuned is clearer.”" in comparison.log_path.read_text()

    def test_person_and_judge_are_held_against_each_other(self) -> None:
        comparison = begin(20, MODEL)
        judge_all(comparison)
        vote_all(comparison, lambda item_id: HumanVerdict.A)
        found = results(comparison)
        assert found.agreement is not None
        assert found.agreement.n == 20
        assert found.agreement.table == ((10, 0, 0), (0, 0, 0), (10, 0, 0))
        assert "On 20 pairs you and Gemini agree in 0.50 (0.30 to 0.70)" in said(comparison)
        assert "Of your decided votes 1.00 (0.84 to 1.00) went to A" in said(comparison)

    def test_the_key_is_in_no_file(self, tmp_path: Path) -> None:
        comparison = judged_alone(2)
        server = FakeGemini(script=[verdict()], default=lambda asked: bad_key(f"{KEY} is bad"))
        with server, pytest.raises(JudgeError):
            comparison.run(FakeEngine(), judge_at(server))
        comparison.end_early()
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} == {".jsonl", ".log", ".lock"}
        assert not any(KEY.encode() in path.read_bytes() for path in files)
        assert KEY not in to_csv(results(comparison).rows)


class TestJournal:
    def test_reopening_gives_the_same_results(self) -> None:
        comparison = begin(5, MODEL, num_placebos=2)
        judge_all(comparison)
        vote_all(comparison, for_tuned(comparison))
        again = Comparison.open(comparison.path)
        assert again.results() == comparison.results()
        assert again.plan == comparison.plan

    def test_the_tries_on_the_same_prompts_are_counted_whatever_the_adapter(self) -> None:
        assert [begin(3).plan.num_earlier for _ in range(3)] == [0, 1, 2]
        assert begin(4).plan.num_earlier == 0
        comparison = answered(3)
        vote_all(comparison, for_tuned(comparison))
        assert (
            "These prompts have been compared 3 times before. Of 10 tries on nothing at all, one or more falls below "
            "0.05 with probability 0.40; of 4, with 0.19."
        ) in said(comparison)

    def test_cut_off_at_any_byte_it_opens_and_goes_on(self) -> None:
        comparison = answered(2)
        comparison.vote("1", "A")
        data = comparison.path.read_bytes()
        start = data.index(b'{"kind": "response"')
        for end in range(start, len(data), 37):
            comparison.path.write_bytes(data[:end])
            opened = Comparison.open(comparison.path)
            opened.run(FakeEngine())
            assert opened.counts().answered == 2
            vote_all(opened, lambda item_id: HumanVerdict.TIE)
            assert Comparison.open(comparison.path).results() is not None

    def test_sides_that_are_not_those_committed_to_are_refused(self) -> None:
        comparison = answered(3)
        other = blind.seal(bytes(range(32)))
        lines = [json.loads(line) for line in comparison.path.read_text().splitlines()]
        edited = [line | {"box": other} if line["kind"] == "sealed" else line for line in lines]
        comparison.path.write_text("".join(json.dumps(line) + "\n" for line in edited))
        with pytest.raises(RequestError, match="^The seal of .* is broken"):
            Comparison.open(comparison.path)

    def test_the_log_holds_all_that_it_takes_to_check_the_seal(self) -> None:
        comparison = answered(3, num_placebos=1)
        vote_all(comparison, lambda item_id: HumanVerdict.TIE)
        log = comparison.log_path.read_text()
        line = next(line for line in log.splitlines() if line.startswith('[{"id": "1"'))
        sealed = f"{results(comparison).nonce}\n{line}"
        assert hashlib.sha256(sealed.encode()).hexdigest() == comparison.plan.commitment

    def test_a_damaged_line_costs_only_itself(self) -> None:
        comparison = answered(3)
        lines = comparison.path.read_text().splitlines()
        lines[2] = lines[2][:40]
        lines[3:3] = ["[1, 2]", "null", '{"kind": "from next year"}', '{"kind": "vote"}', "\x00" * 40, '{"kind": []}']
        comparison.path.write_text("\n".join(lines) + "\n")
        assert Comparison.open(comparison.path).counts() == Counts(2, 0, 0, 3)

    def test_a_kill_in_the_middle_loses_nothing_that_was_said(self) -> None:
        code = (
            "import os, signal\n"
            "from core.compare import Comparison\n"
            "from tests.test_compare import FakeEngine, begin\n"
            "comparison = begin(3)\n"
            "comparison.run(FakeEngine())\n"
            "comparison.vote('2', 'B')\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, env={**os.environ}, timeout=60)
        assert done.returncode == -signal.SIGKILL
        opened = Comparison.latest()
        assert opened is not None
        assert opened.pending() == ["1", "3"]

    def test_a_full_disk_is_a_sentence_and_leaves_no_half_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        comparison = answered(1)
        before = comparison.path.read_bytes()

        def full(descriptor: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(PlaygroundError, match="No space left on device"):
                comparison.vote("1", "A")
        assert comparison.path.read_bytes() == before
        comparison.vote("1", "A")
        assert comparison.results() is not None

    def test_it_is_for_its_owner_alone(self) -> None:
        assert begin().path.stat().st_mode & 0o777 == 0o600

    def test_the_list_is_newest_first_and_names_are_never_shared(self) -> None:
        made = [begin(1).path for _ in range(3)]
        assert len(set(made)) == 3
        assert set(list_comparisons()) == set(made)
        latest = Comparison.latest()
        assert latest is not None
        assert latest.path == list_comparisons()[0]

    def test_there_may_be_none_yet(self) -> None:
        assert Comparison.latest() is None
        assert list_comparisons() == []

    @pytest.mark.parametrize(
        "content",
        ["", "not json\n", '{"kind": "vote"}\n', '{"kind": "start"}\n', "[]\n", '{"kind": "start", "format": 1}\n'],
    )
    def test_what_is_no_journal_is_a_sentence(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "model_comparison_x.jsonl"
        path.write_text(content)
        with pytest.raises(RequestError, match="is no comparison's journal of this version"):
            Comparison.open(path)

    def test_a_journal_that_is_gone_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="There is no comparison at"):
            Comparison.open(tmp_path / "gone.jsonl")

    def test_the_csv_has_a_row_a_prompt(self) -> None:
        comparison = answered(4, num_placebos=2)
        vote_all(comparison, for_tuned(comparison))
        rows = list(csv.DictReader(io.StringIO(to_csv(results(comparison).rows).removeprefix("\ufeff"), newline="")))
        assert [row["prompt_id"] for row in rows] == ["p0", "p1", "p2", "p3"]
        assert {row["human_outcome"] for row in rows} == {"win"}
        assert {(row["base_tokens"], row["tuned_tokens"], row["seed"]) for row in rows} == {("1", "3", "42")}

    def test_only_decided_real_pairs_become_data(self) -> None:
        comparison = answered(9, num_placebos=4)
        verdicts = [*HumanVerdict, *HumanVerdict, HumanVerdict.A, HumanVerdict.B, HumanVerdict.SKIP]
        vote_all(comparison, lambda item_id: verdicts[int(item_id) - 1])
        decided, tally = comparison.decided(Decider.HUMAN), results(comparison).decisive_tally
        is_tuned = ["word word" in pair.chosen for pair in decided]
        assert (is_tuned.count(True), is_tuned.count(False)) == (tally.wins, tally.losses)
        assert all(("word word" in pair.rejected) is not chosen for pair, chosen in zip(decided, is_tuned, strict=True))
        assert not any(pair.is_chosen_cut for pair in decided)
