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
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from core import blind
from core.blind import HumanVerdict, Side, commit, draw_sides
from core.client import Response, Turn
from core.compare import Card, Comparison, list_comparisons
from core.errors import EngineDied, JudgeError, PlaygroundError, RequestError
from core.export import to_csv
from core.judge import Judge
from core.normalise import normalise
from core.paths import PROJECT_ROOT
from core.prompts import Prompt, check_prompts, read_prompts
from core.settings import COMPARISON_BATCH_PROMPTS, Decoding
from core.stats import Outcome
from tests.fake_gemini import FakeGemini, bad_key, prefers, stopped, verdict

ADAPTER = "dpo-1122-1405"
KEY = "AIzaCanary-0123456789-abcdefghijklmnop"


class FakeEngine:
    """Answers at once and remembers what it was asked; `breaks_at` is the call that fails."""

    def __init__(self, breaks_at: int = 0, is_same: bool = False) -> None:
        self.calls: list[list[Turn]] = []
        self.decodings: list[Decoding] = []
        self.breaks_at, self.is_same = breaks_at, is_same

    def __call__(self, turns: list[Turn], decoding: Decoding) -> list[Response]:
        self.calls.append(turns)
        self.decodings.append(decoding)
        if len(self.calls) == self.breaks_at:
            raise EngineDied("The engine was killed, likely for want of memory.")
        return [self._say(turn) for turn in turns]

    def _say(self, turn: Turn) -> Response:
        length = 1 if self.is_same or turn.contender == "base" else 3
        words = ["word"] * length
        return Response(f"{turn.conversation[-1].content} {' '.join(words)}", length)

    @property
    def asked(self) -> list[tuple[str, str]]:
        return [(turn.contender, turn.conversation[-1].content) for turns in self.calls for turn in turns]


def prompts(n: int) -> list[Prompt]:
    return [Prompt(f"p{number}", "everyday", f"Question {number}?") for number in range(n)]


def begin(n: int = 5, is_judge_only: bool = False, judge_model: str | None = None) -> Comparison:
    return Comparison.create(ADAPTER, "smollm2", prompts(n), Decoding(), judge_model, 42, is_judge_only)


def answered(n: int = 5) -> Comparison:
    comparison = begin(n)
    comparison.run(FakeEngine())
    return comparison


def records(comparison: Comparison) -> list[dict[str, object]]:
    return [json.loads(line) for line in comparison.path.read_text().splitlines()]


def tuned_side(comparison: Comparison, index: int) -> Side:
    """Where tuned sits, as only the test knows it: by its longer response."""
    return Side.A if "word word" in comparison.cards(index).response_a else Side.B


def vote_all(comparison: Comparison, choose: Callable[[int], HumanVerdict]) -> None:
    for index in range(len(comparison.plan.prompts)):
        comparison.vote(f"p{index}", choose(index))


def for_tuned(comparison: Comparison) -> Callable[[int], HumanVerdict]:
    return lambda index: HumanVerdict(tuned_side(comparison, index).value)


class TestSides:
    @pytest.mark.parametrize("n", [1, 2, 5, 6, 25, 50])
    def test_each_contender_sits_on_each_side_equally_often(self, n: int) -> None:
        ids = [f"p{number}" for number in range(n)]
        for _ in range(30):
            on_a = list(draw_sides(blind.draw_nonce(), ids).values()).count(Side.A)
            assert on_a in {n // 2, (n + 1) // 2}

    def test_every_prompt_and_the_odd_one_may_fall_either_way(self) -> None:
        draws = [draw_sides(blind.draw_nonce(), ["a", "b", "c"]) for _ in range(80)]
        assert all({draw[name] for draw in draws} == set(Side) for name in "abc")
        assert {list(draw.values()).count(Side.A) for draw in draws} == {1, 2}

    def test_the_seed_says_nothing_of_the_sides(self) -> None:
        seen = {tuple(tuned_side(answered(6), index) for index in range(6)) for _ in range(12)}
        assert len(seen) > 1

    def test_the_commitment_stands_before_the_first_vote_and_the_nonce_after_the_last(self) -> None:
        comparison = answered(3)
        before = comparison.plan.commitment
        assert comparison.nonce == ""
        assert "revealed" not in [record["kind"] for record in records(comparison)]
        sides = [tuned_side(comparison, index) for index in range(3)]
        vote_all(comparison, lambda index: HumanVerdict.TIE)
        kinds = [record["kind"] for record in records(comparison)]
        assert kinds.index("start") < kinds.index("vote")
        assert kinds[-1] == "revealed"
        nonce = bytes.fromhex(comparison.nonce)
        assert commit(nonce, draw_sides(nonce, ["p0", "p1", "p2"])) == before == comparison.plan.commitment
        assert list(draw_sides(nonce, ["p0", "p1", "p2"]).values()) == sides

    def test_the_commitment_can_be_checked_with_a_shells_tools(self) -> None:
        sides = {"b": Side.B, "a": Side.A}
        text = "00" * 32 + '\n{"a": "A", "b": "B"}'
        assert commit(bytes(32), sides) == hashlib.sha256(text.encode()).hexdigest()


class TestBlindness:
    def test_a_card_holds_nothing_but_the_texts(self) -> None:
        assert [field.name for field in fields(Card)] == ["prompt_id", "category", "prompt", "response_a", "response_b"]

    def test_before_the_vote_nothing_tells_who_is_who(self) -> None:
        comparison = begin(4, judge_model="gemini-3.8-flash")
        with FakeGemini(default=prefers(len)) as server:
            comparison.run(FakeEngine(), Judge(KEY, base_url=server.url))
        shown = json.dumps([asdict(comparison.cards(index)) for index in range(4)])
        assert "base" not in shown
        assert "tuned" not in shown
        assert ADAPTER not in shown
        for row in comparison.rows():
            blank = {name for name, value in asdict(row).items() if value in ("", None)}
            assert blank == {
                "base_response", "tuned_response", "tuned_side", "human_verdict", "human_outcome", "judge_order_1",
                "judge_order_2", "judge_outcome", "judge_reason", "base_tokens", "tuned_tokens",
            }  # fmt: skip
        assert comparison.results("judge").n == 0
        assert comparison.summary().sentences() == []
        assert "word" not in to_csv(comparison.rows())

    def test_the_log_shows_sides_only_when_all_votes_are_in(self) -> None:
        comparison = answered(2)
        log = comparison.log_path.read_text()
        assert "[A]\nQuestion 0?" in log
        assert comparison.plan.commitment in log
        comparison.vote("p0", HumanVerdict.TIE)
        log = comparison.log_path.read_text()
        entries = log.split("-" * 78)[1:]
        assert "Vote: tie" in log
        assert not any(word in entry for entry in entries for word in ("base", "tuned", "tokens", "win", "loss"))
        comparison.vote("p1", for_tuned(comparison)(1))
        log = comparison.log_path.read_text()
        assert f"[{tuned_side(comparison, 1)}, tuned, tokens: 3]" in log
        assert "Person:     wins 1, ties 1, losses 0, flips 0 (n = 2); no verdict 0. Win rate 0.75 (" in log
        assert comparison.nonce in log

    def test_a_prompt_opens_with_its_own_vote_alone(self) -> None:
        comparison = answered(3)
        comparison.vote("p1", HumanVerdict.BOTH_BAD)
        assert [row.tuned_side for row in comparison.rows()] == ["", tuned_side(comparison, 1), ""]

    def test_the_judge_is_hidden_until_the_person_has_voted(self) -> None:
        comparison = begin(2, judge_model="gemini-3.8-flash")
        with FakeGemini(default=prefers(len)) as server:
            comparison.run(FakeEngine(), Judge(KEY, base_url=server.url))
        comparison.vote("p0", HumanVerdict.TIE)
        assert [row.judge_outcome for row in comparison.rows()] == ["win", ""]
        assert comparison.results("judge").wins == 1

    def test_no_card_before_both_responses_are_there(self) -> None:
        with pytest.raises(RequestError) as caught:
            begin().cards(0)
        assert str(caught.value) == "The prompt 'p0' is not answered yet. Wait for both responses."

    @pytest.mark.parametrize("index", [-1, 5, True, "0", None, 0.0])
    def test_a_card_that_is_not_there_is_a_sentence(self, index: object) -> None:
        with pytest.raises(RequestError, match="numbered from 0 to 4"):
            answered().cards(index)  # type: ignore[arg-type]


class TestVotes:
    @pytest.mark.parametrize(
        ("verdict", "outcome"), [("tie", Outcome.TIE), ("both_bad", Outcome.TIE), ("skip", Outcome.NO_VERDICT)]
    )
    def test_what_decides_nothing(self, verdict: str, outcome: Outcome) -> None:
        comparison = answered(1)
        comparison.vote("p0", verdict)
        assert comparison.rows()[0].human_outcome == outcome

    def test_a_vote_for_tuneds_side_is_a_win_wherever_it_sits(self) -> None:
        comparison = answered(6)
        vote_all(comparison, for_tuned(comparison))
        assert comparison.results().wins == 6
        assert {row.human_verdict for row in comparison.rows()} == {"A", "B"}

    def test_who_always_votes_a_wins_half(self) -> None:
        comparison = answered(6)
        vote_all(comparison, lambda index: HumanVerdict.A)
        tally = comparison.results()
        assert (tally.wins, tally.losses, tally.win_rate) == (3, 3, 0.5)

    def test_one_vote_per_prompt(self) -> None:
        comparison = answered(2)
        comparison.vote("p0", "A")
        with pytest.raises(RequestError) as caught:
            comparison.vote("p0", "B")
        assert str(caught.value) == "The prompt 'p0' already has its vote. Undo takes back the last one."

    def test_votes_at_the_same_moment_count_once(self) -> None:
        first = answered(1)
        tabs = [first, Comparison.open(first.path), first, Comparison.open(first.path)]
        refused: list[RequestError] = []

        def vote(tab: Comparison) -> None:
            try:
                tab.vote("p0", "A")
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
        first.vote("p0", "A")
        assert second.pending() == ["p1", "p2"]

    def test_undo_takes_back_the_last_vote_until_the_seal_is_open(self) -> None:
        comparison = answered(2)
        with pytest.raises(RequestError, match="There is no vote to take back"):
            comparison.undo()
        comparison.vote("p1", "A")
        assert comparison.undo() == "p1"
        assert comparison.pending() == ["p0", "p1"]
        vote_all(comparison, lambda index: HumanVerdict.B)
        with pytest.raises(RequestError, match="the sides are shown"):
            comparison.undo()

    @pytest.mark.parametrize("verdict", ["", "a", "C", None, 1, ["A"], "win"])
    def test_a_vote_that_is_none_is_refused(self, verdict: object) -> None:
        comparison = answered(1)
        with pytest.raises(RequestError, match="A vote is one of A, B, tie, both_bad, skip"):
            comparison.vote("p0", verdict)  # type: ignore[arg-type]
        assert comparison.pending() == ["p0"]

    @pytest.mark.parametrize("prompt_id", ["p9", "", None, 3, ["p0"]])
    def test_a_vote_for_no_prompt_is_refused(self, prompt_id: object) -> None:
        with pytest.raises(RequestError, match="has no prompt named"):
            answered(1).vote(prompt_id, "A")  # type: ignore[arg-type]

    def test_a_vote_before_the_responses_is_refused(self) -> None:
        with pytest.raises(RequestError, match="not answered yet"):
            begin(1).vote("p0", "A")


class TestAnswering:
    def test_base_and_tuned_are_asked_together_in_few_batches(self) -> None:
        engine, n = FakeEngine(), COMPARISON_BATCH_PROMPTS + 2
        begin(n).run(engine)
        assert [len(turns) for turns in engine.calls] == [2 * COMPARISON_BATCH_PROMPTS, 4]
        assert engine.asked[:2] == [("base", "Question 0?"), (ADAPTER, "Question 0?")]
        assert [decoding.seed for decoding in engine.decodings] == [42, 42 + COMPARISON_BATCH_PROMPTS]

    def test_progress_is_told(self) -> None:
        told: list[tuple[str, int, int]] = []
        begin(3).run(FakeEngine(), on_progress=lambda *step: told.append(step))
        assert told == [("answering", 0, 3), ("answering", 3, 3)]

    def test_stop_keeps_what_is_done_and_nothing_is_asked_twice(self) -> None:
        n = 2 * COMPARISON_BATCH_PROMPTS
        engine, comparison = FakeEngine(), begin(n)
        comparison.run(engine, is_stopped=lambda: len(engine.calls) == 1)
        assert comparison.progress() == (COMPARISON_BATCH_PROMPTS, 0, 0, n)
        Comparison.open(comparison.path).run(engine)
        assert comparison.progress()[0] == n
        assert len(engine.asked) == len(set(engine.asked)) == 2 * n

    def test_an_engine_that_dies_leaves_a_comparison_that_goes_on(self) -> None:
        n = 2 * COMPARISON_BATCH_PROMPTS
        comparison = begin(n)
        with pytest.raises(EngineDied):
            comparison.run(FakeEngine(breaks_at=2))
        assert comparison.progress()[0] == COMPARISON_BATCH_PROMPTS
        engine = FakeEngine()
        Comparison.open(comparison.path).run(engine)
        assert {prompt for _, prompt in engine.asked} == {f"Question {i}?" for i in range(COMPARISON_BATCH_PROMPTS, n)}

    def test_the_raw_text_is_kept_beside_what_is_shown(self) -> None:
        comparison = begin(1)
        raw = "Yes.\u200b\n\nHuman: and now?"
        comparison.run(lambda turns, decoding: [Response(raw, 4) for _ in turns])
        assert comparison.cards(0).response_a == "Yes."
        assert {record["raw"] for record in records(comparison) if record["kind"] == "response"} == {raw}


class TestJudging:
    def test_without_votes_the_judge_alone_decides(self) -> None:
        comparison = begin(5, is_judge_only=True, judge_model="gemini-3.8-flash")
        with FakeGemini(default=prefers(len)) as server:
            comparison.run(FakeEngine(), Judge(KEY, base_url=server.url))
        assert comparison.is_complete
        assert comparison.results("judge").wins == 5
        assert comparison.results("human").n == 0
        assert comparison.pending() == []
        row = comparison.rows()[0]
        assert (row.judge_order_1, row.judge_order_2, row.judge_outcome) == ("tuned", "tuned", "win")
        assert row.base_response
        assert row.tuned_side in {"A", "B"}
        with pytest.raises(RequestError, match="only the judge decides"):
            comparison.vote("p0", "A")

    def test_a_judge_that_always_says_the_first_wins_nothing(self) -> None:
        comparison = begin(5, is_judge_only=True, judge_model="gemini-3.8-flash")
        with FakeGemini(default=lambda asked: verdict("RESPONSE_1")) as server:
            comparison.run(FakeEngine(), Judge(KEY, base_url=server.url))
        tally = comparison.results("judge")
        assert (tally.wins, tally.losses, tally.flips, tally.win_rate) == (0, 0, 5, 0.5)
        assert tally.decided_share is None

    def test_what_failed_is_outside_n_and_shown(self) -> None:
        comparison = begin(3, is_judge_only=True, judge_model="gemini-3.8-flash")
        with FakeGemini(script=[stopped("SAFETY")], default=prefers(len)) as server:
            comparison.run(FakeEngine(), Judge(KEY, base_url=server.url))
        tally = comparison.results("judge")
        assert (tally.n, tally.no_verdict) == (2, 1)
        assert comparison.rows()[0].judge_order_1 == "no_verdict:safety"

    def test_the_same_response_twice_costs_no_call(self) -> None:
        comparison = begin(2, is_judge_only=True, judge_model="gemini-3.8-flash")
        with FakeGemini() as server:
            comparison.run(FakeEngine(is_same=True), Judge(KEY, base_url=server.url))
            assert server.asked == []
        assert comparison.results("judge").ties == 2

    def test_a_refused_key_stops_the_judge_and_not_the_person(self) -> None:
        comparison = begin(3, judge_model="gemini-3.8-flash")
        with FakeGemini(script=[verdict("RESPONSE_2")], default=lambda asked: bad_key()) as server:
            with pytest.raises(JudgeError):
                comparison.run(FakeEngine(), Judge(KEY, base_url=server.url))
            assert len(server.asked) == 2
        assert comparison.judge_stopped.startswith("Gemini refuses the key.")
        assert comparison.pending() == ["p0", "p1", "p2"]
        with FakeGemini(default=prefers(len)) as server:
            Comparison.open(comparison.path).run(FakeEngine(), Judge(KEY, base_url=server.url))
            assert len(server.asked) == 5  # the one order that was ruled on before is not asked again
        assert comparison.judge_stopped == ""

    def test_stop_between_two_verdicts_loses_and_repeats_none(self) -> None:
        comparison = begin(4, is_judge_only=True, judge_model="gemini-3.8-flash")
        with FakeGemini(default=prefers(len)) as server:
            judge = Judge(KEY, base_url=server.url)
            comparison.run(FakeEngine(), judge, is_stopped=lambda: len(server.asked) >= 3)
            assert not comparison.is_complete
            Comparison.open(comparison.path).run(FakeEngine(), judge)
            assert len(server.asked) == 8
            assert len({(asked.fenced("RESPONSE_1")) for asked in server.asked}) == 8
        assert comparison.is_complete

    def test_with_nobody_to_judge_every_prompt_still_has_a_state(self) -> None:
        comparison = begin(2, is_judge_only=True)
        comparison.run(FakeEngine())
        tally = comparison.results("judge")
        assert (tally.n, tally.no_verdict, tally.win_rate) == (0, 2, None)
        assert {row.judge_order_1 for row in comparison.rows()} == {"no_verdict:not_judged"}

    def test_strengths_and_weaknesses_come_from_scores_and_reasons(self) -> None:
        comparison = begin(2, is_judge_only=True, judge_model="gemini-3.8-flash")
        with FakeGemini(default=prefers(len)) as server:
            comparison.run(FakeEngine(), Judge(KEY, base_url=server.url))
        assert comparison.summary().sentences() == [
            "Mean scores (1 to 5) over 2 prompts, tuned minus base. Descriptive only: the outcomes decide.",
            "Stronger in: clarity (+2.00).",
            "Weaker in: nothing.",
            "Why it won, p0: “tuned is clearer.”",
            "Why it won, p1: “tuned is clearer.”",
        ]
        assert "Stronger in: clarity (+2.00)." in comparison.log_path.read_text()

    def test_the_key_is_in_no_file(self, tmp_path: Path) -> None:
        comparison = begin(2, is_judge_only=True, judge_model="gemini-3.8-flash")
        server = FakeGemini(script=[verdict()], default=lambda asked: bad_key(f"{KEY} is bad"))
        with server, pytest.raises(JudgeError):
            comparison.run(FakeEngine(), Judge(KEY, base_url=server.url))
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) == 2
        assert not any(KEY.encode() in path.read_bytes() for path in files)
        assert KEY not in to_csv(comparison.rows())


class TestJournal:
    def test_reopening_gives_the_same_table(self) -> None:
        comparison = begin(5, judge_model="gemini-3.8-flash")
        with FakeGemini(default=prefers(len)) as server:
            comparison.run(FakeEngine(), Judge(KEY, base_url=server.url))
        vote_all(comparison, for_tuned(comparison))
        again = Comparison.open(comparison.path)
        assert again.rows() == comparison.rows()
        assert again.results() == comparison.results()
        assert again.results("judge") == comparison.results("judge")
        assert again.plan == comparison.plan

    def test_cut_off_at_any_byte_it_opens_and_goes_on(self) -> None:
        comparison = answered(2)
        comparison.vote("p0", "A")
        data = comparison.path.read_bytes()
        start = data.index(b'{"kind": "response"')
        for end in range(start, len(data), 37):
            comparison.path.write_bytes(data[:end])
            opened = Comparison.open(comparison.path)
            opened.run(FakeEngine())
            assert opened.progress()[0] == 2
            for prompt_id in opened.pending():
                opened.vote(prompt_id, "tie")
            assert Comparison.open(comparison.path).is_complete

    def test_a_damaged_line_costs_only_itself(self) -> None:
        comparison = answered(3)
        lines = comparison.path.read_text().splitlines()
        lines[2] = lines[2][:40]
        lines[3:3] = ["[1, 2]", "null", '{"kind": "from next year"}', '{"kind": "vote"}', "\x00" * 40, '{"kind": []}']
        comparison.path.write_text("\n".join(lines) + "\n")
        opened = Comparison.open(comparison.path)
        assert opened.progress() == (2, 0, 0, 3)

    def test_a_kill_in_the_middle_loses_nothing_that_was_said(self, tmp_path: Path) -> None:
        code = (
            "import os, signal\n"
            "from core.compare import Comparison\n"
            "from tests.test_compare import FakeEngine, begin\n"
            "comparison = begin(3)\n"
            "comparison.run(FakeEngine())\n"
            "comparison.vote('p1', 'B')\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, env={**os.environ}, timeout=60)
        assert done.returncode == -signal.SIGKILL
        opened = Comparison.latest()
        assert opened is not None
        assert opened.pending() == ["p0", "p2"]

    def test_a_full_disk_is_a_sentence_and_leaves_no_half_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        comparison = answered(1)
        before = comparison.path.read_bytes()

        def full(descriptor: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(PlaygroundError, match="No space left on device"):
                comparison.vote("p0", "A")
        assert comparison.path.read_bytes() == before
        comparison.vote("p0", "A")
        assert comparison.is_complete

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

    @pytest.mark.parametrize("content", ["", "not json\n", '{"kind": "vote"}\n', '{"kind": "start"}\n', "[]\n"])
    def test_what_is_no_journal_is_a_sentence(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "model_comparison_x.jsonl"
        path.write_text(content)
        with pytest.raises(RequestError, match="is no comparison's journal"):
            Comparison.open(path)

    def test_a_journal_that_is_gone_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="There is no comparison at"):
            Comparison.open(tmp_path / "gone.jsonl")

    def test_an_export_while_votes_arrive_fits_together(self) -> None:
        comparison = answered(30)
        thread = threading.Thread(target=vote_all, args=(comparison, lambda index: HumanVerdict.TIE))
        thread.start()
        while thread.is_alive():
            for row in comparison.rows():
                assert bool(row.human_verdict) == bool(row.tuned_side) == bool(row.base_response)
        thread.join()

    def test_the_csv_has_a_row_a_prompt(self) -> None:
        comparison = answered(4)
        vote_all(comparison, for_tuned(comparison))
        rows = list(csv.DictReader(io.StringIO(to_csv(comparison.rows()).removeprefix("\ufeff"), newline="")))
        assert [row["prompt_id"] for row in rows] == ["p0", "p1", "p2", "p3"]
        assert {row["human_outcome"] for row in rows} == {"win"}
        assert {(row["base_tokens"], row["tuned_tokens"], row["seed"]) for row in rows} == {("1", "3", "42")}


class TestPrompts:
    def test_the_given_five_are_usable(self) -> None:
        given = read_prompts(PROJECT_ROOT / "assets" / "prompts.json")
        assert len({prompt.category for prompt in given}) == 5

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ("nonsense", "is not JSON in UTF-8"),
            ("{}", "does not hold a list"),
            ("[]", "There is no prompt to compare on"),
            ('[{"id": "a", "category": "c"}]', "Entry 1 of the prompts needs an id, a category and a prompt"),
            ('[{"id": 1, "category": "c", "prompt": "p"}]', "Entry 1 of the prompts needs"),
            ('[{"id": "a", "category": "c", "prompt": " "}]', "The prompt 'a' is empty"),
            ('[{"id": "", "category": "c", "prompt": "p"}]', "A prompt has an empty id"),
            ('[{"id": "a", "category": "c", "prompt": "\\ud800"}]', "holds half of a character"),
            ('[{"id": "a", "category": "c", "prompt": "p"}, {"id": "a", "category": "c", "prompt": "q"}]',
             "Two prompts are named 'a'"),
            ("[" * 100_000, "is not JSON in UTF-8"),
        ],
    )  # fmt: skip
    def test_a_file_that_cannot_be_used_says_why(self, tmp_path: Path, content: str, sentence: str) -> None:
        path = tmp_path / "prompts.json"
        path.write_text(content)
        with pytest.raises(RequestError) as caught:
            read_prompts(path)
        assert sentence in str(caught.value)

    def test_a_file_that_is_not_there_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="cannot be read"):
            read_prompts(tmp_path / "gone.json")

    def test_a_prompt_without_end_is_refused(self) -> None:
        with pytest.raises(RequestError, match="longer than 100,000 characters"):
            check_prompts([replace(prompts(1)[0], prompt="x" * 100_001)])


class TestNormalise:
    @pytest.mark.parametrize(
        ("raw", "shown"),
        [
            ("  plain  ", "plain"),
            ("zero\u200bwidth\ufeff", "zerowidth"),
            ("\u202eabc\u202c", "abc"),
            ("hid\u200dden", "hidden"),
            ("👩\u200d🔬 and نامه\u200cای", "👩\u200d🔬 and نامه\u200cای"),
            ("e\u0301", "é"),
            ("a\r\nb\rc", "a\nb\nc"),
            ("Yes.\n\nHuman: and?\n\nAssistant: no", "Yes."),
            ("Yes.\nHuman: and?", "Yes."),
            ("Dear Human: hello", "Dear Human: hello"),
            ("Done.<|im_end|>\n<|im_start|>user", "Done."),
            ("tag\U000e0041\U000e0042s", "tags"),
            ("half \ud800", "half \ufffd"),
            ("code\n\tindented\n", "code\n\tindented"),
            ("", ""),
        ],
    )
    def test_both_responses_are_cleaned_alike(self, raw: str, shown: str) -> None:
        assert normalise(raw) == shown
        assert normalise(shown) == shown
