"""Chat as a person meets it: each hears only what is theirs, texts stay texts, and Stop keeps what was said."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from core.client import EnginePhase, EngineState, Response, Turn
from core.errors import EngineDied, RequestError
from core.messages import Message, Role
from core.settings import Decoding
from core.ui import chat_views as views
from core.ui.chat_tab import ChatTab
from core.ui.chat_views import Shown, Talks
from core.ui.streams import Column, Streams
from tests.ui.fake_client import READY
from tests.ui.fake_talker import FakeTalker, make_adapter

HOSTILE = "<img src=x onerror=alert(1)> ![x](http://evil/a.png)\n    **b** & <script>1</script>"


@pytest.fixture
def adapter() -> str:
    return make_adapter()


@pytest.fixture
def client() -> FakeTalker:
    return FakeTalker()


@pytest.fixture
def tab(client: FakeTalker) -> ChatTab:
    tab = ChatTab(client)
    with gr.Blocks():
        tab.build()
    return tab


def browser(name: str = "one") -> Any:
    return SimpleNamespace(session_hash=name)


def say(
    tab: ChatTab, text: str, talks: Talks, adapter: str | None = None, shown: str = Shown.BOTH, system: str = "",
    session: str = "one", **how: float,
) -> Talks:  # fmt: skip
    """What the session's state is after the whole response."""
    *_, last = tab.say(text, talks, shown, adapter, system, browser(session), temperature=0.5, **how)
    return last[tab.talks]


def texts(talks: Talks, contender: str) -> list[str]:
    return [message.content for message in talks.of(contender)]


class TestTalking:
    def test_base_and_tuned_are_asked_side_by_side_each_with_its_own_history(
        self, tab: ChatTab, client: FakeTalker, adapter: str
    ) -> None:
        talks = say(tab, " Hello ", Talks(), adapter)
        talks = say(tab, "And rain?", talks, adapter)
        assert [turn.contender for turn in client.streamed[1]] == ["base", adapter]
        assert texts(talks, "base") == ["Hello", "base hears Hello", "And rain?", "base hears And rain?"]
        assert [m.content for m in client.streamed[1][1].conversation] == texts(talks, adapter)[:-1]
        assert f"{adapter} hears Hello Next step: try it." in texts(talks, adapter)

    def test_another_adapter_starts_its_own_conversation_and_the_first_is_kept(
        self, tab: ChatTab, adapter: str
    ) -> None:
        other = make_adapter("sft-1122-1500")
        talks = say(tab, "Hello", say(tab, "Hi", Talks(), adapter, Shown.TUNED), other, Shown.TUNED)
        assert [len(talks.of(name)) for name in (adapter, other, "base")] == [2, 2, 0]

    def test_the_system_prompt_stands_before_the_history_and_never_in_it(
        self, tab: ChatTab, client: FakeTalker
    ) -> None:
        talks = say(tab, "Hello", Talks(), shown=Shown.BASE, system=" Be brief. ")
        assert client.streamed[0][0].conversation[0] == Message(Role.SYSTEM, "Be brief.")
        say(tab, "Again", talks, shown=Shown.BASE, system="")
        assert [message.role for message in client.streamed[1][0].conversation] == ["user", "assistant", "user"]

    def test_the_words_appear_as_they_come_and_the_question_at_once(self, tab: ChatTab, adapter: str) -> None:
        first, *_ = tab.say("Hello", Talks(), Shown.BOTH, adapter, "", browser())
        assert [block["content"][0]["text"] for block in first[tab.base_pane]] == ["Hello", views.WAITS]
        assert first[tab.message] == ""
        assert first[tab.stop]["interactive"] is True

    def test_retry_asks_the_same_again_with_another_seed(self, tab: ChatTab, client: FakeTalker, adapter: str) -> None:
        talks = say(tab, "Hello", Talks(), adapter)
        *_, last = tab.say_again(talks, Shown.BOTH, adapter, "", browser())
        assert client.streamed[0] == client.streamed[1]
        assert client.decodings[0].seed != client.decodings[1].seed
        assert last[tab.talks] == talks

    def test_clear_forgets_what_is_on_the_screen_and_nothing_else(self, tab: ChatTab, adapter: str) -> None:
        talks = say(tab, "Hello", Talks(), adapter)
        cleared, base_pane, tuned_pane, *_ = tab.forget(talks, Shown.BASE, adapter, browser())
        assert (cleared.of("base"), base_pane) == ((), [])
        assert cleared.of(adapter) == talks.of(adapter)
        assert len(tuned_pane) == 2

    def test_twenty_sessions_at_once_never_hear_one_another(
        self, tab: ChatTab, client: FakeTalker, adapter: str
    ) -> None:
        told: dict[int, Talks] = {}

        def chat(number: int) -> None:
            talks = Talks()
            for turn in range(3):
                talks = say(tab, f"s{number} t{turn}", talks, adapter, session=str(number))
            told[number] = talks

        threads = [threading.Thread(target=chat, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        for number, talks in told.items():
            heard = " ".join(texts(talks, "base") + texts(talks, adapter)).split()
            assert {word for word in heard if word[0] == "s" and word[1:].isdigit()} == {f"s{number}"}
            assert len(talks.of("base")) == 6
        assert len(told) == 20


class TestStrength:
    def test_the_adapter_answers_at_the_strength_that_is_set_and_the_caption_says_so(
        self, tab: ChatTab, client: FakeTalker, adapter: str
    ) -> None:
        talks = say(tab, "Hello", Talks(), adapter, strength=0.5)
        assert [(turn.contender, turn.strength) for turn in client.streamed[0]] == [("base", 1.0), (adapter, 0.5)]
        assert talks.endings == {"base": "3 tokens.", adapter: "7 tokens. Adapter strength 0.5."}

    def test_another_strength_goes_on_in_the_same_conversation(
        self, tab: ChatTab, client: FakeTalker, adapter: str
    ) -> None:
        talks = say(tab, "Hello", Talks(), adapter, strength=0)
        talks = say(tab, "And rain?", talks, adapter, strength=1)
        tuned = client.streamed[1][1]
        assert (tuned.strength, len(tuned.conversation), talks.endings[adapter]) == (1.0, 3, "8 tokens.")
        *_, last = tab.say_again(talks, Shown.BOTH, adapter, "", browser(), strength=1.25)
        assert client.streamed[2][1].conversation == tuned.conversation
        assert last[tab.tuned_caption] == "8 tokens. Adapter strength 1.25."

    def test_a_stopped_response_says_its_strength_too(self) -> None:
        caption = views.caption(Column("x", is_stopped=True), Turn("mine", (), 1.5))
        assert caption == "Stopped. It keeps what was said so far. Adapter strength 1.5."

    @pytest.mark.filterwarnings("ignore:<strong>")
    @pytest.mark.parametrize("bad", [float("nan"), 2.0, -0.05, None, "much"])
    def test_a_strength_that_is_none_asks_nothing(
        self, tab: ChatTab, client: FakeTalker, adapter: str, bad: Any
    ) -> None:
        assert list(tab.say("Hi", Talks(), Shown.BOTH, adapter, "", browser(), strength=bad)) == [gr.skip()]
        assert client.streamed == []

    def test_the_slider_is_the_setting_s(self, tab: ChatTab) -> None:
        slider = tab.strength
        assert (slider.label, slider.minimum, slider.maximum, slider.step, slider.value) == (
            "Adapter strength", 0.0, 1.5, 0.05, 1.0,
        )  # fmt: skip


class TestStopping:
    def stream(self, tab: ChatTab, session: str = "one") -> Iterator[dict[Any, Any]]:
        tab.streams._clock = iter(range(10_000)).__next__
        return tab.say("Hello there", Talks(), Shown.BASE, None, "", browser(session))

    def test_stop_keeps_what_was_said_and_closes_the_engine_s_stream(self, tab: ChatTab, client: FakeTalker) -> None:
        answer = self.stream(tab)
        next(answer), next(answer)
        tab.halt(browser())
        *_, last = answer
        assert texts(last[tab.talks], "base") == ["Hello there", "base hears "]
        assert last[tab.base_caption] == "Stopped. It keeps what was said so far."
        assert client.num_closed == 1

    def test_another_session_s_stop_stops_nothing_here(self, tab: ChatTab) -> None:
        answer = self.stream(tab)
        next(answer), next(answer)
        tab.halt(browser("two"))
        *_, last = answer
        assert texts(last[tab.talks], "base")[-1] == "base hears Hello there"

    def test_a_closed_page_closes_the_engine_s_stream(self, tab: ChatTab, client: FakeTalker) -> None:
        answer = self.stream(tab)
        next(answer), next(answer)
        answer.close()
        assert client.num_closed == 1
        assert tab.streams._live == {}

    def test_turning_to_somebody_else_ends_the_stream(self, tab: ChatTab, adapter: str) -> None:
        answer = self.stream(tab)
        next(answer), next(answer)
        tab.turn_to(Talks(), Shown.TUNED, adapter, browser())
        *_, last = answer
        assert last[tab.base_caption].startswith("Stopped.")

    def test_a_message_that_overtakes_the_turn_before_it_is_not_cut_off(self, tab: ChatTab) -> None:
        answer = self.stream(tab)
        next(answer), next(answer)
        tab.turn_to(Talks(), Shown.BASE, None, browser())
        *_, last = answer
        assert last[tab.base_caption] == "4 tokens."

    def test_how_a_response_ended_is_still_there_when_one_turns_back(self, tab: ChatTab, adapter: str) -> None:
        talks = say(tab, "Hello", Talks(), adapter)
        _, _, base_caption, tuned_caption, *_ = tab.turn_to(talks, Shown.BOTH, adapter, browser())
        assert (base_caption, tuned_caption) == ("3 tokens.", "7 tokens.")

    @pytest.mark.filterwarnings("ignore:<strong>")
    def test_an_engine_that_dies_mid_way_leaves_what_was_said_and_the_next_message_works(
        self, tab: ChatTab, client: FakeTalker
    ) -> None:
        def die() -> None:
            raise EngineDied("The engine ended.")

        answer = self.stream(tab)
        kept = [next(answer), next(answer)][-1][tab.talks]
        client.on_word = die
        assert list(answer) == [gr.skip()]
        stop, base_pane, *_ = tab.rest(kept, None, browser())
        assert (stop["interactive"], base_pane[-1]["content"][0]["text"]) == (False, "base ")
        client.on_word = lambda: None
        talks = say(tab, "Again", kept, shown=Shown.BASE)
        assert texts(talks, "base")[-1] == "base hears Again"


class TestRefusals:
    def test_without_an_adapter_the_way_to_one_is_said(self) -> None:
        with pytest.raises(RequestError) as error:
            views.contenders(Shown.TUNED, None, [])
        assert str(error.value) == "No adapter yet. Train one on the starter data first: it takes a few minutes."

    def test_a_first_visit_can_chat_with_base_at_once(self, tab: ChatTab) -> None:
        assert views.contenders(Shown.BASE, None, []) == views.contenders(Shown.BOTH, None, []) == ["base"]
        assert texts(say(tab, "Hello", Talks()), "base") == ["Hello", "base hears Hello"]

    @pytest.mark.parametrize(("shown", "adapter"), [("both", "gone"), ("both", None), ("all", "a"), (None, "a")])
    def test_whoever_is_not_there_is_not_asked(self, shown: Any, adapter: str | None) -> None:
        with pytest.raises(RequestError):
            views.contenders(shown, adapter, ["a"])

    @pytest.mark.filterwarnings("ignore:<strong>")
    @pytest.mark.parametrize("bad", [float("nan"), "hot", -1, None, 1e309])
    def test_a_sampling_value_that_is_none_asks_nothing(self, tab: ChatTab, client: FakeTalker, bad: Any) -> None:
        assert list(tab.say("Hi", Talks(), Shown.BASE, None, "", browser(), temperature=bad)) == [gr.skip()]
        assert client.streamed == []

    def test_nothing_to_retry_is_said(self) -> None:
        with pytest.raises(RequestError, match=r"^There is nothing to retry yet\. Write a message first\.$"):
            Talks().without_last_response(["base"])

    @pytest.mark.parametrize(("state", "words"), [
        (EngineState(phase=EnginePhase.LOADING), "The model is loading"),
        (EngineState(phase=EnginePhase.DEAD), "The engine has stopped"),
        (READY, "Train an adapter first"),
    ])  # fmt: skip
    def test_the_send_button_says_why_it_is_off(self, client: FakeTalker, state: EngineState, words: str) -> None:
        assert views.why_not_send(state, Shown.TUNED, []) == words
        assert views.why_not_send(READY, Shown.BOTH, []) == ""

    def test_during_a_run_the_page_says_that_training_waits(self, tab: ChatTab, client: FakeTalker) -> None:
        client.now = EngineState(phase=EnginePhase.READY, run="dpo-1122-1405")
        assert tab.view(None, Shown.BOTH, None)[tab.notice] == views.STANDS_STILL


class TestTexts:
    def test_a_text_reaches_the_chatbot_letter_by_letter(self, tab: ChatTab) -> None:
        blocks = views.as_blocks((Message(Role.USER, HOSTILE), Message(Role.ASSISTANT, f"  {HOSTILE}")))
        sent = tab.base_pane.postprocess(blocks).model_dump()
        said = [message["content"][0]["text"] for message in sent]
        assert all("<" not in text and "![x]" in text for text in said)
        assert said[1].startswith("  &lt;img src=x onerror=alert(1)&gt; ![x](http://evil/a.png)\n    **b** &amp; ")

    def test_the_chatbot_renders_no_markdown(self, tab: ChatTab) -> None:
        for pane in (tab.base_pane, tab.tuned_pane):
            assert (pane.render_markdown, pane.sanitize_html, pane.latex_delimiters) == (False, True, [])

    def test_an_unanswered_message_is_continued_rather_than_followed_by_another(self) -> None:
        talks = Talks().said(["base"], "One")
        talks = talks.answered(talks.turns(["base"], "", 1.0), [Column()]).said(["base"], "Two")
        assert texts(talks, "base") == ["One\n\nTwo"]

    def test_a_response_that_was_cut_is_marked(self) -> None:
        turn = Turn("base", ())
        assert views.caption(Column("x", Response("x", 512, is_cut=True)), turn) == (
            "512 tokens, cut at the longest response allowed."
        )


def test_a_new_stream_of_a_session_ends_its_old_one(client: FakeTalker) -> None:
    streams = Streams(client, iter(range(10_000)).__next__)
    turns = Talks().said(["base"], "One two three").turns(["base"], "", 1.0)
    old = streams.run("one", turns, Decoding())
    next(old)
    new = streams.run("one", turns, Decoding())
    next(new)
    *_, (column,) = old
    assert column.is_stopped
    *_, (column,) = new
    assert column.response is not None


def test_no_handler_stands_in_the_open_api(client: FakeTalker) -> None:
    tab = ChatTab(client)
    with gr.Blocks() as demo:
        tab.build()
        tab.wire(SimpleNamespace(demo=demo, tabs=gr.Tabs()))
    assert demo.get_api_info() == {"named_endpoints": {}, "unnamed_endpoints": {}}
