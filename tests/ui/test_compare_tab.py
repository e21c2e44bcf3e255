"""The Compare tab as a person meets it: nothing shows before its time, and nothing is lost with the page."""

import csv
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from core import blind, compare
from core.compare import Comparison, list_comparisons
from core.errors import BusyError, EngineDied, RequestError, SettingError
from core.settings import Decoding
from core.ui import compare_views as views
from core.ui.compare_scene import look
from core.ui.compare_setup import JUDGE_ONLY, VOTE, CompareSetup
from core.ui.compare_tab import CompareTab
from core.ui.try_prompt import TryPrompt
from tests.fake_gemini import FakeGemini, bad_key, prefers
from tests.ui.fake_talker import FakeTalker, make_adapter

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


def start(tab: CompareTab, adapter: str, mode: str = VOTE) -> None:
    tab.setup.start(adapter, mode, TABLE, (), max_new_tokens=64)
    tab.worker.join(SECONDS)


def vote(tab: CompareTab, *verdicts: int) -> None:
    labels = list(views.VOTE_LABELS)
    for verdict in verdicts:
        scene = look(tab.worker)
        assert scene is not None
        assert scene.pair is not None
        tab.voting.vote(labels[verdict - 1], scene.pair.card.prompt_id)


def shown(tab: CompareTab, adapter: str | None = None, mode: str = VOTE) -> dict[str, Any]:
    """What the browser is sent, by elem_id."""
    first, *updates = tab.view(None, adapter, mode, 2)
    return {part.component.elem_id: update for part, update in zip(tab.parts, updates, strict=True)}


class TestBlindness:
    def test_before_the_vote_the_sides_could_be_swapped_and_nothing_but_the_cards_would_differ(
        self, client: FakeTalker, adapter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pages = []
        for side in blind.Side:
            monkeypatch.setattr(compare, "draw_sides", lambda nonce, ids, side=side: dict.fromkeys(ids, side))
            monkeypatch.setattr("core.standing.draw_sides", lambda nonce, ids, side=side: dict.fromkeys(ids, side))
            monkeypatch.setattr(compare, "commit", lambda nonce, sides: "0" * 64)
            tab = build(client)
            start(tab, adapter)
            pages.append(shown(tab, adapter))
        one, other = pages
        assert (one.pop("card-a"), one.pop("card-b")) == (other.pop("card-b"), other.pop("card-a"))
        assert one == other

    def test_the_page_holds_no_side_no_count_and_no_verdict_before_the_vote(
        self, tab: CompareTab, adapter: str, gemini: FakeGemini
    ) -> None:
        start(tab, adapter)
        assert len(gemini.asked) == 4
        sent = shown(tab, adapter)
        cards = [sent.pop(name) for name in ("card-a", "card-b", "vote-prompt")]
        assert all(cards)
        for name in ("result-sentences", "result-bars", "result-summary", "result-seal"):
            assert not (sent[name]["value"] if isinstance(sent[name], dict) else sent[name])
        assert sent["result-table"] == []
        assert sent["results"]["visible"] is False
        text = json.dumps(sent, default=str)
        assert "tuned" not in text
        assert "clearer" not in text

    @pytest.mark.filterwarnings("ignore:<strong>")
    def test_a_row_cannot_be_opened_before_the_sides_are_out(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        vote(tab, 1)
        scene = look(tab.worker)
        assert scene is not None
        assert scene.results is None
        answer = tab.results.open_row(gr.SelectData(None, {"index": [0, 0], "value": "", "row_value": ["own-1"]}))
        assert "base hears" not in json.dumps(answer)

    def test_gemini_stays_hidden_until_the_person_has_voted_on_all(
        self, tab: CompareTab, adapter: str, gemini: FakeGemini
    ) -> None:
        start(tab, adapter)
        vote(tab, 3)
        assert look(tab.worker).results is None
        vote(tab, 3)
        sent = shown(tab, adapter)
        assert "**Gemini: leaning better, too few to be sure.** 2 wins" in sent["result-sentences"]
        assert "Why it won" in sent["result-summary"]["value"]
        assert KEY not in json.dumps(sent, default=str)


class TestVoting:
    def test_a_vote_is_for_the_pair_that_was_on_the_screen(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        label = next(iter(views.VOTE_LABELS))
        tab.voting.vote(label, "own-1")
        with pytest.raises(RequestError, match="^The prompt 'own-1' already has its vote"):
            tab.voting.vote(label, "own-1")
        assert look(tab.worker).num_voted == 1

    def test_five_buttons_mean_five_votes_in_the_order_of_their_keys(self, tab: CompareTab) -> None:
        assert [button.value for button in tab.voting.buttons] == [
            "1  A is better", "2  B is better", "3  Tie", "4  Both bad", "5  Skip",
        ]  # fmt: skip

    def test_a_vote_that_no_button_stands_for_is_refused(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        for label in ("A", "", "6  Base", None, 1):
            with pytest.raises(RequestError, match=r"^There is no such vote\."):
                tab.voting.vote(label, "own-1")

    def test_undo_brings_the_pair_back_until_the_sides_are_out(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        vote(tab, 1)
        tab.voting.undo()
        scene = look(tab.worker)
        assert (scene.pair.card.prompt_id, scene.can_undo) == ("own-1", False)
        vote(tab, 1, 5)
        assert look(tab.worker).can_undo is False
        with pytest.raises(RequestError, match="can no longer be taken back"):
            tab.voting.undo()


class TestTheWholeWay:
    def test_from_start_to_the_csv_without_a_key(self, tab: CompareTab, client: FakeTalker, adapter: str) -> None:
        assert "**Gemini is off:** there is no key." in shown(tab, adapter)["compare-plan"]
        start(tab, adapter)
        assert client.asked_of == [
            ("base", "How is tea made?"), (adapter, "How is tea made?"),
            ("base", "Why does it rain?"), (adapter, "Why does it rain?"),
        ]  # fmt: skip
        sent = shown(tab, adapter)
        assert sent["vote-prompt"] == gr.update(label="Prompt 1 of 2 · tea", value="How is tea made?")
        vote(tab, 1, 2)
        sent = shown(tab, adapter)
        assert sent["vote-panel"]["visible"] is False
        assert "on 2 prompts" in sent["result-sentences"]
        text = Path(sent["result-csv"]["value"]).read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["tuned_response"].endswith("Next step: try it.") for row in rows] == [True, True]
        assert Path(sent["result-log"]["value"]).suffix == ".log"

    def test_a_row_opens_its_pair(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        vote(tab, 3, 4)
        row = shown(tab, adapter)["result-table"][1]
        panel, asked, base, tuned, notes = tab.results.open_row(
            gr.SelectData(None, {"index": [0, 3], "value": "", "row_value": row})
        )
        assert (panel["visible"], asked, notes) == (True, "Why does it rain?", "You: both bad.")
        assert base["value"] == "base hears Why does it rain?"
        assert tuned["value"].startswith(f"{adapter} hears")

    def test_what_was_seen_is_not_sent_again(self, tab: CompareTab, adapter: str) -> None:
        start(tab, adapter)
        seen, *_ = tab.view(None, adapter, VOTE, 2)
        assert all(update == gr.skip() for update in tab.view(seen, adapter, VOTE, 2)[1:])

    def test_a_program_started_anew_finds_the_comparison_as_it_stands(
        self, tab: CompareTab, client: FakeTalker, adapter: str
    ) -> None:
        start(tab, adapter)
        vote(tab, 1)
        sent = shown(build(FakeTalker()), adapter)
        assert sent["vote-prompt"]["label"] == "Prompt 2 of 2 · rain"
        assert sent["vote-count"].startswith("1 of 2 prompts voted.")

    def test_judge_only_asks_for_no_vote(self, tab: CompareTab, adapter: str, gemini: FakeGemini) -> None:
        start(tab, adapter, JUDGE_ONLY)
        sent = shown(tab, adapter, JUDGE_ONLY)
        assert sent["vote-panel"]["visible"] is False
        assert sent["result-sentences"].startswith("**Gemini: leaning better, too few to be sure.** 2 wins")
        assert "**You" not in sent["result-sentences"]


class TestStarting:
    @pytest.mark.parametrize(("mode", "make", "words"), [
        (VOTE, lambda: None, "Train an adapter first"),
        (JUDGE_ONLY, make_adapter, "Judge only needs a Gemini key"),
    ])  # fmt: skip
    def test_the_button_says_why_not(self, tab: CompareTab, mode: str, make: Any, words: str) -> None:
        button = shown(tab, make(), mode)["compare-start"]
        assert (button["value"], button["interactive"]) == (words, False)

    def test_a_comparison_that_waits_is_not_left_behind_by_a_careless_start(
        self, tab: CompareTab, adapter: str
    ) -> None:
        start(tab, adapter)
        assert shown(tab, adapter)["compare-start"]["value"] == "Start a new one"
        vote(tab, 1, 1)
        assert shown(tab, adapter)["compare-start"]["value"] == "Start"

    def test_judge_only_without_a_key_says_how_to_get_one(self, tab: CompareTab, adapter: str) -> None:
        with pytest.raises(RequestError, match="^There is no Gemini key"):
            tab.setup.start(adapter, JUDGE_ONLY, TABLE, ())
        assert list_comparisons() == []

    def test_a_key_that_no_server_would_take_is_said_and_the_vote_goes_on(
        self, tab: CompareTab, adapter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GEMINI_API_KEY", "two words")
        assert "holds a space" in shown(tab, adapter)["compare-plan"]
        start(tab, adapter)
        assert look(tab.worker).pair is not None

    def test_what_is_wrong_is_said_before_anything_is_asked(
        self, tab: CompareTab, client: FakeTalker, adapter: str
    ) -> None:
        with pytest.raises(RequestError, match=rf"^No adapter named '\.\./x'\. There are: {adapter}\.$"):
            tab.setup.start("../x", VOTE, TABLE, ())
        with pytest.raises(SettingError, match="^Temperature must be a number from 0 to 2, not 'nan'"):
            tab.setup.start(adapter, VOTE, TABLE, (), temperature=float("nan"))
        assert (list_comparisons(), client.answered) == ([], [])

    def test_two_clicks_at_once_begin_one_comparison(self, tab: CompareTab, client: FakeTalker, adapter: str) -> None:
        go = threading.Event()
        client.on_answer = lambda: None if go.wait(SECONDS) else None
        errors: list[Exception] = []

        def click() -> None:
            try:
                tab.setup.start(adapter, VOTE, TABLE, ())
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

    def test_a_prompts_file_replaces_the_table_and_its_own_place_is_not_shown(
        self, tab: CompareTab, tmp_path: Path
    ) -> None:
        path = tmp_path / "mine.json"
        path.write_text(json.dumps([{"id": "t", "category": "tea", "prompt": "How is tea made?"}]))
        table, known, number = tab.setup.load(str(path))
        assert (table, known[0].id, number) == ([["tea", "How is tea made?"]], "t", 1)
        path.write_text("{}")
        with pytest.raises(RequestError, match=r"^mine\.json does not hold a list"):
            type(tab.setup).load.__wrapped__(tab.setup, str(path))


class TestStoppingAndGoingOn:
    def test_a_failure_is_a_sentence_and_go_on_asks_nothing_twice(
        self, tab: CompareTab, client: FakeTalker, adapter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compare, "COMPARISON_BATCH_PROMPTS", 1)

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
        assert [text for who, text in client.asked_of if who == "base"] == [
            "How is tea made?", "Why does it rain?", "Why does it rain?",
        ]  # fmt: skip
        assert look(tab.worker).can_go_on is False

    def test_stop_ends_it_and_keeps_what_is_there(
        self, tab: CompareTab, client: FakeTalker, adapter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compare, "COMPARISON_BATCH_PROMPTS", 1)
        client.on_answer = lambda: tab.worker.stop() if len(client.answered) == 2 else None
        start(tab, adapter)
        scene = look(tab.worker)
        assert (scene.num_answered, scene.failure, scene.can_go_on, scene.is_running) == (1, "", True, False)

    def test_it_goes_on_with_the_base_that_it_was_begun_on_or_not_at_all(self, tab: CompareTab, adapter: str) -> None:
        Comparison.create(adapter, "mistral", views.prompts_of(TABLE, ()), Decoding())
        with pytest.raises(RequestError, match=r"begun on mistral, and smollm2-135m-instruct is loaded now"):
            tab.setup.go_on()

    def test_a_judge_that_refuses_the_key_is_said_and_the_vote_goes_on(
        self, tab: CompareTab, adapter: str, gemini: FakeGemini
    ) -> None:
        gemini.default = lambda asked: bad_key()
        start(tab, adapter)
        said = shown(tab, adapter)["compare-sentence"]["value"]
        assert "stopped:**" in said
        assert KEY not in said
        vote(tab, 1, 2)
        assert look(tab.worker).results.human.n == 2


class TestTryAPrompt:
    def ask(self, trying: TryPrompt, text: str, adapter: str | None, verb: str = "ask_both") -> list[Any]:
        handler = getattr(trying, verb)
        return list(handler(text, adapter, SimpleNamespace(session_hash="one"), max_new_tokens=32))

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

    def test_the_next_prompt_follows_the_one_that_is_there_and_the_first_the_last(
        self, tab: CompareTab, client: FakeTalker, adapter: str
    ) -> None:
        prompts = tab.trying.prompts
        for before, after in ((prompts[0], prompts[1]), (prompts[-1], prompts[0]), ("my own", prompts[0])):
            first, *_ = self.ask(tab.trying, before, adapter, "ask_next")
            assert first[tab.trying.text] == after
            assert client.streamed[-1][0].conversation[-1].content == after


def test_no_handler_stands_in_the_open_api(client: FakeTalker) -> None:
    tab = CompareTab(client)
    with gr.Blocks() as demo:
        tab.build()
        tab.wire(SimpleNamespace(demo=demo, tabs=gr.Tabs()))
    assert demo.get_api_info()["named_endpoints"] == {}
    assert demo.get_api_info()["unnamed_endpoints"] == {}


def test_setup_counts_only_prompts_that_ask_something(tab: CompareTab) -> None:
    assert CompareSetup.count(tab.setup, TABLE) == 2
