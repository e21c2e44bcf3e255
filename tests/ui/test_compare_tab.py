"""The Compare tab as a person meets it: nothing shows before its time, and nothing is lost with the page."""

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from core import blind, compare_run, runs, settings
from core.blind import Item, Side
from core.client import Response, Turn
from core.compare import Comparison, list_comparisons
from core.errors import BusyError, EngineDied, RequestError, SettingError
from core.judge import REASON_WORDS
from core.prompt_sets import Given, list_own, load_set
from core.prompts import Prompt
from core.settings import Decoding
from core.ui import compare_views as views
from core.ui.compare_prompts import PromptPicker
from core.ui.compare_scene import Scene, look
from core.ui.compare_tab import CURRENT, SETUP, CompareTab
from core.ui.compare_views import Mode
from core.ui.try_prompt import TryPrompt
from tests.fake_gemini import FakeGemini, bad_key, blocked, prefers, verdict
from tests.ui.fake_talker import DRIFT, FakeTalker, make_adapter

KEY = "AIzaCanary-0123456789-abcdefghijklmnop"
TABLE: list[list[object]] = [["tea", "How is tea made?"], ["rain", "Why does it rain?"], ["", ""]]
SECONDS = 20.0


@pytest.fixture
def adapter() -> str:
    return make_adapter()


@pytest.fixture
def client() -> FakeTalker:
    return FakeTalker()


@pytest.fixture
def tab(client: FakeTalker) -> CompareTab:
    return build(client)


@pytest.fixture
def gemini(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGemini]:
    at_once = replace(settings.JUDGE["judge_rate_per_s"], default=1000.0)
    monkeypatch.setitem(settings.JUDGE, "judge_rate_per_s", at_once)
    with FakeGemini(default=prefers(len)) as server:
        monkeypatch.setenv("GEMINI_API_KEY", KEY)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        yield server


def build(client: FakeTalker) -> CompareTab:
    """The tab in a page of its own, as a program that has just been started has it."""
    tab = CompareTab(client)
    with gr.Blocks():
        tab.build()
    return tab


def start(tab: CompareTab, adapter: str, mode: Mode = Mode.HUMAN, **drawn: float) -> None:
    tab.setup.start(adapter, mode, TABLE, (), **({"max_new_tokens": 64, "placebo_share": 0.0} | drawn))
    tab.worker.join(SECONDS)


def seen(tab: CompareTab) -> Scene:
    scene = look(tab.worker)
    assert scene is not None
    return scene


def vote(tab: CompareTab, *verdicts: int) -> None:
    labels = list(views.VOTE_LABELS)
    for verdict_number in verdicts:
        card = seen(tab).card
        assert card is not None
        tab.voting.vote(labels[verdict_number - 1], on_screen(tab, card.item_id))


def vote_for_tuned(tab: CompareTab) -> None:
    card = seen(tab).card
    assert card is not None
    vote(tab, 1 if "Next step" in card.response_a else 2)


def shown(tab: CompareTab, adapter: str | None = None, mode: Mode = Mode.HUMAN, **drawn: float) -> dict[str, Any]:
    """What the browser is sent, by elem_id."""
    updates = tab.view(None, True, adapter, mode, views.prompts_of(TABLE, ()), **drawn)
    return {part.elem_id: update for part, update in updates.items() if part is not tab.seen}


def on_screen(tab: CompareTab, item_id: str) -> str:
    """What a page sends along with a click: which comparison's which pair it showed."""
    return f"{seen(tab).name} {item_id}"


def without_name(tab: CompareTab, page: dict[str, Any]) -> dict[str, Any]:
    """The page less the comparison's name, which is the time of its start."""
    return json.loads(json.dumps(page, default=str).replace(seen(tab).name, "")) | {"compare-which": None}


class TestBlindness:
    def deal(self, monkeypatch: pytest.MonkeyPatch, change: Callable[[Item], Item]) -> None:
        real = blind.deal
        for place in ("core.compare", "core.standing"):
            monkeypatch.setattr(f"{place}.deal", lambda *asked: tuple(map(change, real(*asked))))
        monkeypatch.setattr("core.compare.draw_nonce", lambda: bytes(32))
        monkeypatch.setattr("core.compare.commit", lambda nonce, items: "0" * 64)
        monkeypatch.setattr(views, "title", lambda scene: "")

    def test_before_the_vote_the_sides_could_be_swapped_and_nothing_but_the_cards_would_differ(
        self, client: FakeTalker, adapter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pages = []
        for side in Side:
            with monkeypatch.context() as patch:
                self.deal(patch, lambda item, side=side: replace(item, tuned_side=side))
                tab = build(client)
                start(tab, adapter)
                pages.append(without_name(tab, shown(tab, adapter)))
        one, other = pages
        assert (one.pop("card-a"), one.pop("card-b")) == (other.pop("card-b"), other.pop("card-a"))
        assert one == other

    def test_where_all_say_the_same_no_page_tells_which_pair_is_the_placebo(
        self, client: FakeTalker, adapter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client.words = lambda turn: ["It", "depends."]
        pages = []
        for placebo in ("1", "2"):
            with monkeypatch.context() as patch:
                self.deal(patch, lambda item, placebo=placebo: replace(item, is_placebo=item.id == placebo))
                tab = build(client)
                tab.setup.start(adapter, Mode.HUMAN, TABLE[:1], (), placebo_share=1.0)
                tab.worker.join(SECONDS)
                pages.append(without_name(tab, shown(tab, adapter)))
                assert seen(tab).counts.total == 2
        assert pages[0] == pages[1]

    def test_the_page_holds_no_figure_no_name_and_no_verdict_before_the_vote(
        self, tab: CompareTab, adapter: str, gemini: FakeGemini
    ) -> None:
        start(tab, adapter, Mode.BOTH)
        assert len(gemini.asked) == 4
        sent = shown(tab, adapter, Mode.BOTH)
        assert all(sent.pop(name) for name in ("card-a", "card-b", "vote-prompt"))
        for name in ("result-headline", "result-bars", "result-intervals", "result-scatter", "result-sections"):
            assert not sent[name]
        assert sent["result-table"] == []
        assert sent["results"]["visible"] is False
        text = json.dumps(sent, default=str)
        for telling in ("own-1", "clearer", "sat on", str(DRIFT), "nonce"):
            assert telling not in text
        assert "`" + seen(tab).plan.commitment + "`" in sent["vote-count"]

    @pytest.mark.filterwarnings("ignore:<strong>")
    def test_a_row_cannot_be_opened_and_nothing_exported_before_all_is_revealed(
        self, tab: CompareTab, adapter: str
    ) -> None:
        start(tab, adapter)
        vote(tab, 1)
        assert seen(tab).results is None
        answer = tab.results.open_row(gr.SelectData(None, {"index": [0, 0], "value": "", "row_value": ["own-1"]}))
        assert "base hears" not in json.dumps(answer)
        assert tab.results.export("human") == gr.skip()
        assert {path.suffix for path in list_comparisons()[0].parent.iterdir()} == {".jsonl", ".log", ".lock"}

    def test_gemini_stays_hidden_until_the_person_has_voted_on_all(
        self, tab: CompareTab, adapter: str, gemini: FakeGemini
    ) -> None:
        start(tab, adapter, Mode.BOTH)
        vote(tab, 3)
        assert seen(tab).results is None
        vote(tab, 3)
        sent = shown(tab, adapter)
        assert sent["result-headline"].startswith("## No difference shown: 2 wins, 0 ties, 0 losses; win rate 1.00")
        assert "Why it won" in sent["result-sections"]
        assert "<td>2</td>" in sent["result-sections"]
        assert "Gemini (decides)" in sent["result-bars"]
        assert KEY not in json.dumps(sent, default=str)

    def test_nothing_is_looked_at_before_somebody_comes_here(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        assert tab.view(None, False, adapter, Mode.HUMAN, ()) == gr.skip()


class TestVoting:
    def test_a_vote_is_for_the_pair_that_was_on_the_screen(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        label = next(iter(views.VOTE_LABELS))
        for _ in range(2):
            tab.voting.vote(label, on_screen(tab, "1"))
        assert seen(tab).counts.voted == 1

    def test_a_page_that_shows_another_comparison_votes_on_none(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        before, label = on_screen(tab, "1"), next(iter(views.VOTE_LABELS))
        start(tab, adapter)
        for act in (lambda: tab.voting.vote(label, before), lambda: tab.voting.undo(before)):
            with pytest.raises(RequestError, match="^The pair on this page belongs to another comparison"):
                act()
        assert seen(tab).counts.voted == 0

    def test_a_half_voted_comparison_is_found_again_behind_a_newer_one(
        self, client: FakeTalker, tab: CompareTab, adapter: str
    ) -> None:
        start(tab, adapter)
        vote(tab, 1)
        waiting = seen(tab).name
        newer = Comparison.create(adapter, "smollm2", [Prompt("p", "own", "Tea?")], Decoding(), is_judge_only=True)
        newer.run(lambda turns, decoding: [Response("It depends.", 2) for _ in turns])
        assert seen(tab).name == waiting
        anew = build(client)
        assert seen(anew).name == waiting
        anew.worker.choose(newer.path.stem)
        assert seen(anew).name == newer.path.stem
        with pytest.raises(RequestError, match="^There is no comparison named '../up'"):
            anew.worker.choose("../up")

    def test_five_buttons_mean_five_votes_in_the_order_of_their_keys(self, tab: CompareTab) -> None:
        assert [button.value for button in tab.voting.buttons] == [
            "1  A is better", "2  B is better", "3  Tie", "4  Both bad", "5  Skip",
        ]  # fmt: skip

    def test_a_vote_that_no_button_stands_for_is_refused(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        for label in ("A", "", "6  Base", None, 1):
            with pytest.raises(RequestError, match=r"^There is no such vote\."):
                tab.voting.vote(label, on_screen(tab, "1"))

    def test_undo_brings_the_pair_back_until_the_sides_are_out(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        vote(tab, 1)
        for _ in range(2):
            tab.voting.undo(on_screen(tab, "2"))
        assert (seen(tab).card.item_id, seen(tab).can_undo) == ("1", False)
        vote(tab, 1, 5)
        assert seen(tab).can_undo is False
        with pytest.raises(RequestError, match="can no longer be taken back"):
            tab.worker.current().undo()


class TestTheWholeWay:
    def test_from_start_to_the_csv_without_a_key(self, tab: CompareTab, client: FakeTalker, adapter: str) -> None:
        assert "Gemini is off: there is no key. Your own blind vote needs none." in shown(tab, adapter)["compare-plan"]
        start(tab, adapter)
        assert sorted(client.asked_of) == sorted(
            (who, text) for who in ("base", adapter) for text in ("How is tea made?", "Why does it rain?")
        )
        assert ("drift", adapter, 2) in client.asked
        sent = shown(tab, adapter)
        assert sent["vote-prompt"]["label"] in ("Pair 1 of 2 · tea", "Pair 1 of 2 · rain")
        vote_for_tuned(tab)
        vote(tab, 5)
        sent = shown(tab, adapter)
        assert sent["vote-panel"]["visible"] is False
        assert sent["result-headline"].startswith("## Too little covered: 1 win, 0 ties, 0 losses, 1 without a verdict")
        assert seen(tab).results.nonce in sent["result-seal"]
        text = Path(sent["result-csv"]["value"]).read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["tuned_response"].endswith("Next step: try it.") for row in rows] == [True, True]
        assert [Path(sent[name]["value"]).suffix for name in ("result-log", "result-journal")] == [".log", ".jsonl"]

    def test_placebos_and_draws_are_dealt_as_the_sliders_say(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter, placebo_share=0.5, samples=2)
        plan = tab.worker.current().plan
        assert (plan.samples, plan.num_placebos, seen(tab).counts.total) == (2, 1, 5)

    def test_a_row_opens_its_pair_word_by_word(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        vote(tab, 3, 4)
        row = shown(tab, adapter)["result-table"][1]
        panel, asked, base, tuned, notes, diff = tab.results.open_row(
            gr.SelectData(None, {"index": [0, 3], "value": "", "row_value": row})
        )
        assert (panel["visible"], asked) == (True, "Why does it rain?")
        assert notes in ("You: both bad.", "You: tie.")
        assert base["value"] == "base hears Why does it rain?"
        assert tuned["value"].startswith(f"{adapter} hears")
        assert diff == [
            ("base ", "−"), (f"{adapter} ", "+"), ("hears Why does it rain? ", None), ("Next step: try it.", "+"),
        ]  # fmt: skip

    def test_votes_become_a_file_and_its_flags_are_said(self, tab: CompareTab, adapter: str) -> None:
        tab.setup.start(adapter, Mode.HUMAN, views.prompt_table(load_set(Given.QUICK)), (), placebo_share=0.0)
        tab.worker.join(SECONDS)
        for _ in range(5):
            vote_for_tuned(tab)
        said = tab.results.export("human")["value"]
        assert said.startswith("**Exported.** 5 pairs out of your votes: ")
        assert "must not be compared on those" in said
        assert shown(tab, adapter)["export-judge"]["visible"] is False
        (path,) = list_comparisons()[0].parent.glob("pairs/*_votes.jsonl")
        assert len(path.read_text().splitlines()) == 5

    def test_what_was_seen_is_not_sent_again(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        vote(tab, 1, 1)
        known = tab.view(None, True, adapter, Mode.HUMAN, ())[tab.seen]
        assert tab.view(known, True, adapter, Mode.HUMAN, ()) == {tab.seen: known}

    def test_a_program_started_anew_finds_the_comparison_as_it_stands(
        self, tab: CompareTab, client: FakeTalker, adapter: str
    ) -> None:
        start(tab, adapter)
        vote(tab, 1)
        fresh = build(FakeTalker())
        sent = shown(fresh, adapter)
        assert sent["vote-prompt"]["label"].startswith("Pair 2 of 2 · ")
        assert sent["vote-count"].startswith("1 of 2 pairs voted.")
        led_to = [fresh.settle(), fresh.arrive(adapter)[1], fresh.arrive()[1]]
        assert [tabs.selected for tabs in led_to] == [CURRENT, SETUP, CURRENT]

    def test_gemini_alone_asks_for_no_vote(self, tab: CompareTab, adapter: str, gemini: FakeGemini) -> None:
        start(tab, adapter, Mode.ALONE)
        sent = shown(tab, adapter, Mode.ALONE)
        assert sent["vote-panel"]["visible"] is False
        assert sent["result-headline"].startswith("## No difference shown: 2 wins, 0 ties, 0 losses")
        assert "You" not in sent["result-bars"]

    def test_that_a_fine_tune_did_nothing_is_said_in_so_many_words(
        self, tab: CompareTab, client: FakeTalker, adapter: str
    ) -> None:
        client.words = lambda turn: turn.conversation[-1].content.split()
        table = [["same", f"What is {n}?"] for n in range(10)]
        tab.setup.start(adapter, Mode.HUMAN, table, (), placebo_share=0.5)
        tab.worker.join(SECONDS)
        vote(tab, *[3] * 15)
        assert "<h4>Your fine-tune did next to nothing</h4>" in shown(tab, adapter)["result-nothing"]["value"]


class TestStarting:
    @pytest.mark.parametrize(("mode", "make", "words"), [
        (Mode.HUMAN, lambda: None, "Train an adapter first"),
        (Mode.ALONE, make_adapter, "Gemini needs a key first"),
        (Mode.BOTH, make_adapter, "Gemini needs a key first"),
    ])  # fmt: skip
    def test_the_button_says_why_not(self, tab: CompareTab, mode: Mode, make: Any, words: str) -> None:
        button = shown(tab, make(), mode)["compare-start"]
        assert (button["value"], button["interactive"]) == (words, False)

    def test_what_so_many_prompts_can_show_is_said_before(
        self, tab: CompareTab, adapter: str, gemini: FakeGemini
    ) -> None:
        prompts = load_set(Given.STANDARD)
        drawn = {"placebo_share": 0.2, "max_new_tokens": 512}
        plan = tab.view(None, True, adapter, Mode.BOTH, prompts, **drawn)[tab.setup.plan]
        assert "25 prompts: tuned must win 18 of 25 decided to count as better." in plan
        assert "5 pairs are added in which both sides are base" in plan
        assert "60 judge calls, about " in plan
        assert "**Gemini's verdicts decide**" in plan
        assert "judge call" not in shown(tab, adapter)["compare-plan"]

    def test_without_a_judge_the_run_s_held_out_pairs_are_shown_and_decide_nothing(
        self, tab: CompareTab, adapter: str
    ) -> None:
        assert shown(tab, adapter)["compare-measured"] == ""
        result = {
            "held_out": 40, "base_k": 21, "tuned_k": 33, "mcnemar_p": 0.0042, "preference_accuracy_base": 0.525,
            "preference_accuracy_tuned": 0.825,
            "margin": {"n": 40, "mean": 3.21, "low": 2.0, "high": 4.4, "positive": 34, "negative": 6, "p": 1e-5},
        }  # fmt: skip
        runs.write(runs.read_run(adapter), result=result)
        said = shown(tab, adapter)["compare-measured"]
        assert "tuned 0.82 (0.68 to 0.91), base 0.53 (0.37 to 0.67) of 40 pairs" in said
        assert "by +3.21 (+2.00 to +4.40) nats" in said
        assert "further on 34, less far on 6 of 40; exact sign test" in said

    def test_prompts_that_the_adapter_was_trained_on_are_said(
        self, tab: CompareTab, adapter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("core.ui.compare_setup.trained_on", lambda name, prompts: ["own-1"])
        assert "**Seen before:** 1 prompt" in shown(tab, adapter)["compare-plan"]

    def test_a_comparison_that_waits_is_not_left_behind_by_a_careless_start(
        self, tab: CompareTab, adapter: str
    ) -> None:
        start(tab, adapter)
        assert shown(tab, adapter)["compare-start"]["value"] == "Start a new one"
        vote(tab, 1, 1)
        assert shown(tab, adapter)["compare-start"]["value"] == "Start"

    def test_a_judge_without_a_key_says_how_to_get_one(self, tab: CompareTab, adapter: str) -> None:
        with pytest.raises(RequestError, match="^There is no Gemini key"):
            tab.setup.start(adapter, Mode.ALONE, TABLE, ())
        assert list_comparisons() == []

    def test_a_key_that_no_server_would_take_is_said_and_the_vote_goes_on(
        self, tab: CompareTab, adapter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GEMINI_API_KEY", "two words")
        assert "holds a space" in shown(tab, adapter)["compare-plan"]
        start(tab, adapter)
        assert seen(tab).card is not None

    def test_what_is_wrong_is_said_before_anything_is_asked(
        self, tab: CompareTab, client: FakeTalker, adapter: str
    ) -> None:
        for asked, kind, words in (
            ({"adapter": "../x"}, RequestError, rf"^No adapter named '\.\./x'\. There are: {adapter}\.$"),
            ({"mode": "me"}, RequestError, r"^Who decides is one of human, seconded, both, alone, not 'me'\.$"),
            ({"temperature": float("nan")}, SettingError, "^Temperature must be a number from 0 to 2, not 'nan'"),
            ({"samples": 9}, SettingError, "^Draws of each prompt must be a whole number from 1 to 5, not '9'"),
            ({"temperature": 0, "samples": 2}, RequestError, "^At temperature 0 every draw is the same"),
        ):  # fmt: skip
            with pytest.raises(kind, match=words):
                tab.setup.start(**({"adapter": adapter, "mode": Mode.HUMAN, "table": TABLE, "known": ()} | asked))
        assert (list_comparisons(), client.answered) == ([], [])

    def test_two_clicks_at_once_begin_one_comparison(self, tab: CompareTab, client: FakeTalker, adapter: str) -> None:
        go = threading.Event()
        client.on_answer = lambda: None if go.wait(SECONDS) else None
        errors: list[Exception] = []

        def click() -> None:
            try:
                tab.setup.start(adapter, Mode.HUMAN, TABLE, ())
            except BusyError as error:
                errors.append(error)

        clicks = [threading.Thread(target=click) for _ in range(8)]
        for thread in clicks:
            thread.start()
        for thread in clicks:
            thread.join(SECONDS)
        assert shown(tab, adapter)["compare-start"]["value"] == "A comparison is going on"
        go.set()
        tab.worker.join(SECONDS)
        assert len(list_comparisons()) == 1
        assert [str(error) for error in errors] == [
            "A comparison is going on already. Stop it first, or wait until it is done."
        ] * 7


class TestPrompts:
    @pytest.fixture
    def picker(self, tab: CompareTab) -> PromptPicker:
        return tab.setup.picker

    def test_the_standard_set_is_there_and_another_takes_its_place(self, picker: PromptPicker) -> None:
        assert len(picker.table.value["data"]) == 25
        _, table, known, prompts = picker.take(Given.FULL, None)
        assert (len(table), known, prompts) == (50, tuple(load_set(Given.FULL)), known)

    @pytest.mark.filterwarnings("ignore:<strong>")
    def test_where_nothing_was_held_out_the_standard_set_stays(self, picker: PromptPicker, adapter: str) -> None:
        chosen, *_, prompts = picker.take(Given.HELD_OUT, adapter)
        assert (chosen["value"], len(prompts)) == (Given.STANDARD, 25)

    def test_another_adapter_changes_no_set_but_its_own_held_out_one(self, picker: PromptPicker, adapter: str) -> None:
        assert picker.follow(Given.FULL, adapter) == [gr.skip()] * 4

    def test_a_set_is_kept_under_a_name_and_found_by_it(self, picker: PromptPicker) -> None:
        chosen, name = picker.save(" My Tea ", TABLE, ())
        assert (chosen["value"], name, list_own()) == ("my-tea", "", ["my-tea"])
        assert ("my-tea", "my-tea") in chosen["choices"]
        assert [prompt.prompt for prompt in load_set("my-tea")] == ["How is tea made?", "Why does it rain?"]
        with pytest.raises(RequestError, match=r"^Write a name for your set first\.$"):
            PromptPicker.save.__wrapped__(picker, " ", TABLE, ())

    def test_a_file_replaces_the_table_and_its_own_place_is_not_shown(
        self, picker: PromptPicker, tmp_path: Path
    ) -> None:
        path = tmp_path / "mine.json"
        path.write_text(json.dumps([{"id": "t", "category": "tea", "prompt": "How is tea made?"}]))
        _, table, known, prompts = picker.load(str(path))
        assert (table, known[0].id, len(prompts)) == ([["tea", "How is tea made?"]], "t", 1)
        path.write_text("{}")
        with pytest.raises(RequestError, match=r"^mine\.json does not hold a list"):
            PromptPicker.load.__wrapped__(picker, str(path))

    def test_only_what_asks_something_counts(self, tab: CompareTab, picker: PromptPicker, adapter: str) -> None:
        assert len(picker.read(TABLE, ())) == 2
        assert picker.read([["", ""]], ()) == ()
        button = tab.view(None, True, adapter, Mode.HUMAN, ())[tab.setup.start_button]
        assert button["value"] == "Write a prompt first"


class TestStoppingAndGoingOn:
    def test_a_failure_is_a_sentence_and_go_on_asks_nothing_twice(
        self, tab: CompareTab, client: FakeTalker, adapter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compare_run, "COMPARISON_BATCH_ITEMS", 1)

        def die() -> None:
            if len(client.answered) == 2:
                raise EngineDied("The engine ended: the system killed it.")

        client.on_answer = die
        start(tab, adapter)
        sent = shown(tab, adapter)
        assert sent["compare-sentence"]["value"].startswith("**It stopped:** The engine ended: the system killed it.")
        assert sent["compare-go-on"]["visible"] is True
        assert sent["vote-panel"]["visible"] is True
        tab.setup.go_on()
        tab.worker.join(SECONDS)
        first, *others = [text for who, text in client.asked_of if who == "base"]
        assert (len(others), first in others) == (2, False)
        assert seen(tab).can_go_on is False

    def test_stop_ends_it_and_keeps_what_is_there(
        self, tab: CompareTab, client: FakeTalker, adapter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compare_run, "COMPARISON_BATCH_ITEMS", 1)
        client.on_answer = lambda: tab.worker.stop() if len(client.answered) == 2 else None
        start(tab, adapter)
        scene = seen(tab)
        assert (scene.counts.answered, scene.failure, scene.can_go_on, scene.is_running) == (1, "", True, False)

    def test_ended_early_it_says_so_and_takes_no_further_vote(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        vote_for_tuned(tab)
        assert shown(tab, adapter)["compare-end"]["visible"] is True
        tab.end_early()
        sent = shown(tab, adapter)
        assert sent["result-headline"].startswith("## Ended early. Too little covered: 1 win,")
        assert (sent["compare-end"]["visible"], sent["vote-panel"]["visible"]) == (False, False)
        with pytest.raises(RequestError, match="would no longer be blind"):
            tab.voting.vote(next(iter(views.VOTE_LABELS)), on_screen(tab, "2"))

    def test_it_goes_on_with_the_base_and_the_adapter_of_before_or_not_at_all(
        self, tab: CompareTab, adapter: str
    ) -> None:
        Comparison.create(adapter, "mistral", views.prompts_of(TABLE, ()), Decoding())
        with pytest.raises(RequestError, match=r"begun on mistral, and smollm2-135m-instruct is loaded now"):
            tab.setup.go_on()
        (runs.adapter_dir(adapter) / "manifest.json").write_text("{}")
        with pytest.raises(Exception, match="is not the one that this comparison was begun with"):
            tab.setup.go_on()

    def test_a_judge_that_refuses_the_key_is_said_and_the_person_ends_it(
        self, tab: CompareTab, adapter: str, gemini: FakeGemini
    ) -> None:
        gemini.default = lambda asked: bad_key()
        start(tab, adapter, Mode.BOTH)
        said = shown(tab, adapter)["compare-sentence"]["value"]
        assert "stopped:**" in said
        assert KEY not in said
        vote(tab, 1, 2)
        assert seen(tab).results is None
        tab.end_early()
        assert seen(tab).results.human.tally.n == 2

    def test_the_key_is_on_no_page_and_in_no_file(
        self, tab: CompareTab, adapter: str, gemini: FakeGemini, tmp_path: Path
    ) -> None:
        gemini.default = lambda asked: bad_key(f"The key {KEY} is not valid.")
        start(tab, adapter, Mode.BOTH)
        pages = [shown(tab, adapter, Mode.BOTH)]
        assert "Gemini refuses the key" in repr(pages)
        vote(tab, 1, 2)
        Comparison.open(tab.worker.current().path).end_early()
        pages.append(shown(tab, adapter, Mode.BOTH))
        assert KEY not in repr(pages)
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        copies = [Path(pages[1][f"result-{name}"]["value"]) for name in ("csv", "log", "journal")]
        assert not [path for path in [*written, *copies] if KEY.encode() in path.read_bytes()]

    def test_what_failed_is_asked_again_by_its_reason(self, tab: CompareTab, adapter: str, gemini: FakeGemini) -> None:
        gemini.default = lambda asked: blocked()
        start(tab, adapter, Mode.ALONE)
        sent = shown(tab, adapter, Mode.ALONE)
        assert sent["retry-blocked"]["value"] == "Ask again: 2 × blocked by Gemini"
        assert [reason for reason in REASON_WORDS if sent[f"retry-{reason}"]["visible"]] == ["blocked"]
        assert "Too little covered" in sent["result-headline"]
        gemini.default = lambda asked: verdict("TIE")
        tab.retry("blocked")
        tab.worker.join(SECONDS)
        sent = shown(tab, adapter, Mode.ALONE)
        assert sent["retry-blocked"]["visible"] is False
        assert sent["result-headline"].startswith("## No difference shown: 0 wins, 2 ties")


class TestTryAPrompt:
    def ask(self, trying: TryPrompt, text: str, adapter: str | None, verb: str = "ask_both", **how: float) -> list[Any]:
        handler = getattr(trying, verb)
        return list(handler(text, adapter, SimpleNamespace(session_hash="one"), max_new_tokens=32, **how))

    def test_both_are_asked_the_same_at_once_and_stream(
        self, tab: CompareTab, client: FakeTalker, adapter: str
    ) -> None:
        trying = tab.trying
        *_, last = self.ask(trying, " Why? ", adapter)
        assert [(turn.contender, turn.conversation[-1].content) for turn in client.streamed[0]] == [
            ("base", "Why?"), (adapter, "Why?"),
        ]  # fmt: skip
        assert (last[trying.base], last[trying.tuned]) == (
            "base hears Why?",
            f"{adapter} hears Why? Next step: try it.",
        )
        assert client.decodings[0].max_new_tokens == 32

    @pytest.mark.parametrize("verb", ["ask_both", "ask_next"])
    def test_the_adapter_answers_at_the_strength_that_is_set(
        self, tab: CompareTab, client: FakeTalker, adapter: str, verb: str
    ) -> None:
        *_, last = self.ask(tab.trying, "Why?", adapter, verb, strength=0.5)
        assert [turn.strength for turn in client.streamed[0]] == [1.0, 0.5]
        assert last[tab.trying.tuned_caption].endswith(" tokens. Adapter strength 0.5.")
        assert last[tab.trying.base_caption].endswith(" tokens.")

    @pytest.mark.filterwarnings("ignore:<strong>")
    @pytest.mark.parametrize("bad", [float("nan"), 2.0, None])
    def test_a_strength_that_is_none_asks_nothing(
        self, tab: CompareTab, client: FakeTalker, adapter: str, bad: Any
    ) -> None:
        assert self.ask(tab.trying, "Why?", adapter, strength=bad) == [gr.skip()]
        assert client.streamed == []

    def test_the_next_prompt_follows_the_one_that_is_there_and_the_first_the_last(
        self, tab: CompareTab, client: FakeTalker, adapter: str
    ) -> None:
        prompts = tab.trying.prompts
        for before, after in ((prompts[0], prompts[1]), (prompts[-1], prompts[0]), ("my own", prompts[0])):
            first, *_ = self.ask(tab.trying, before, adapter, "ask_next")
            assert first[tab.trying.text] == after
            assert client.streamed[-1][0].conversation[-1].content == after


def test_a_prompt_with_turns_before_it_is_asked_whole(tab: CompareTab, client: FakeTalker, adapter: str) -> None:
    prompt = Prompt.of({
        "id": "h-1", "category": "held-out preference", "prompt": "Human: Tea?\n\nAssistant: Yes.\n\nHuman: How?",
        "messages": [
            {"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "How?"},
        ],
    })  # fmt: skip
    tab.setup.start(adapter, Mode.HUMAN, views.prompt_table([prompt]), (prompt,), placebo_share=0.0)
    tab.worker.join(SECONDS)
    turns: list[Turn] = client.answered[0]
    assert [len(turn.conversation) for turn in turns] == [3, 3]


def test_no_handler_stands_in_the_open_api(client: FakeTalker) -> None:
    tab = CompareTab(client)
    with gr.Blocks() as demo:
        tab.build()
        tab.wire(SimpleNamespace(demo=demo, tabs=gr.Tabs()))
    assert demo.get_api_info()["named_endpoints"] == {}
    assert demo.get_api_info()["unnamed_endpoints"] == {}
