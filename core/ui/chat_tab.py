"""The Chat tab: talk to base, to an adapter, or to both side by side, while a run goes on if you like.

Parses, asks the engine through `Streams`, shows. What was said lives in the session's state alone.
"""

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from core import runs
from core.client import Turn
from core.errors import RequestError
from core.settings import STRENGTH, Decoding
from core.ui import chat_views as views
from core.ui import fields
from core.ui.chat_views import BASE, Shown, Talks
from core.ui.notices import shows_errors
from core.ui.parts import IDLE_S, LOOK, QUIET, TICK, changes
from core.ui.streams import Column, Streams

if TYPE_CHECKING:
    from core.client import EngineClient
    from core.ui.page import Page

PANE_HEIGHT = "max(260px, calc(100vh - 484px))"


class ChatTab:
    def __init__(self, client: "EngineClient") -> None:
        self.client = client
        self.streams = Streams(client)

    def build(self) -> None:
        self.talks = gr.State(Talks())
        self.seen = gr.State(None)
        self.timer = gr.Timer(IDLE_S)
        with gr.Row(equal_height=True):
            self.shown = gr.Radio(
                [("Base", Shown.BASE), ("Tuned", Shown.TUNED), ("Both, side by side", Shown.BOTH)],
                value=Shown.BOTH, label="Talk to", elem_id="chat-shown", scale=3,
            )  # fmt: skip
            self.adapter = gr.Dropdown(
                [], label="Adapter", elem_id="chat-adapter", scale=2, min_width=200, interactive=True
            )
            self.strength = fields.slider("chat", STRENGTH, scale=2, min_width=240)
        with gr.Row(equal_height=True):
            self.base_column, self.base_pane, self.base_caption = self._build_pane(BASE, "chat-base")
            self.tuned_column, self.tuned_pane, self.tuned_caption = self._build_pane("tuned", "chat-tuned")
        self.notice = gr.Markdown("", elem_id="chat-notice")
        self._build_input()
        with gr.Row():
            with gr.Accordion("System prompt", open=False):
                self.system = gr.Textbox(
                    "", lines=3, max_lines=8, show_label=False, container=False, elem_id="chat-system",
                    placeholder="Who the model is to be, and how it is to answer. Empty for none.",
                )  # fmt: skip
            with gr.Accordion("Sampling", open=False, elem_id="chat-sampling"):
                self.sampling = fields.sliders("chat")
        self.arrivals: list[Component] = [self.adapter]
        self.around: list[Component] = [self.seen, self.adapter, self.tuned_pane, self.send, self.notice]

    def _build_pane(self, label: str, elem_id: str) -> tuple[gr.Column, gr.Chatbot, gr.Markdown]:
        with gr.Column(min_width=320) as column:
            pane = gr.Chatbot(
                label=label, elem_id=elem_id, height=PANE_HEIGHT, render_markdown=False, latex_delimiters=[],
                buttons=[], feedback_options=None, layout="bubble", placeholder="Nothing said yet. Ask below.",
            )  # fmt: skip
            caption = gr.Markdown("", elem_id=f"{elem_id}-caption", elem_classes="caption")
        return column, pane, caption

    def _build_input(self) -> None:
        with gr.Row(equal_height=True):
            # Gradio sends on Enter only where a box begins with one line.
            self.message = gr.Textbox(
                lines=1, max_lines=6, show_label=False, label="Message", container=False, elem_id="chat-message",
                placeholder="Write a message. Enter sends it, Shift and Enter starts a new line.", scale=8,
            )  # fmt: skip
            self.send = gr.Button("Send", variant="primary", elem_id="chat-send", scale=2, min_width=110)
            self.stop = gr.Button("Stop", variant="stop", elem_id="chat-stop", scale=1, min_width=80, interactive=False)
        with gr.Row():
            self.retry = gr.Button("Retry the last answer", size="sm", elem_id="chat-retry", scale=0, min_width=180)
            self.clear = gr.Button("Clear", size="sm", elem_id="chat-clear", scale=0, min_width=100)

    def wire(self, app: "Page") -> None:
        chosen: list[Component] = [self.shown, self.adapter]
        panes = [self.base_pane, self.tuned_pane, self.base_caption, self.tuned_caption]
        spoken = [self.talks, *panes, self.message, self.stop]
        how = {"strength": self.strength, **self.sampling}
        said = gr.on(
            [self.send.click, self.message.submit], self.say, [self.message, self.talks, *chosen, self.system],
            spoken, inputs_kwargs=how, concurrency_limit=8, **QUIET,
        )  # fmt: skip
        again = self.retry.click(
            self.say_again, [self.talks, *chosen, self.system], spoken, inputs_kwargs=how, concurrency_limit=8, **QUIET,
        )  # fmt: skip
        for spoke in (said, again):
            spoke.then(self.rest, [self.talks, self.adapter], [self.stop, *panes], **QUIET)
        self.stop.click(self.halt, None, self.stop, **QUIET)
        gr.on(
            [self.clear.click, self.base_pane.clear, self.tuned_pane.clear], self.forget, [self.talks, *chosen],
            [self.talks, *panes], **QUIET,
        )  # fmt: skip
        gr.on(
            [self.shown.input, self.adapter.input], self.turn_to, [self.talks, *chosen],
            [*panes, self.base_column, self.tuned_column], **LOOK,
        )  # fmt: skip
        looked = [self.seen, *chosen]
        app.demo.load(self.view, looked, self.around, **LOOK)
        gr.on(
            [app.tabs.change, self.shown.input, self.adapter.input], self.view, looked, self.around, **LOOK,
        )  # fmt: skip
        self.timer.tick(self.view, looked, self.around, **TICK)

    def arrive(self, adapter: str = "") -> Any:
        """The adapters as they are now, with `adapter` chosen where one is named; the rest follows by itself."""
        return gr.update(choices=runs.list_adapters(), **({"value": adapter} if adapter else {}))

    @shows_errors
    def view(self, seen: dict[int, Any] | None, shown: str, adapter: str | None) -> Any:
        """Everything outside the panes as things stand."""
        state, adapters = self.client.state(), runs.list_adapters()
        chosen = adapter if adapter in adapters else next(iter(adapters), None)
        reason = views.why_not_send(state, shown, adapters)
        view = {
            self.adapter: gr.update(choices=adapters, value=chosen),
            self.tuned_pane: gr.update(label=chosen or "tuned"),
            self.send: gr.update(value=reason or "Send", interactive=not reason),
            self.notice: views.STANDS_STILL if state.run else "" if adapters else views.NO_ADAPTER,
        }
        return changes(self.seen, view, seen)

    @shows_errors
    def say(
        self, text: str, talks: Talks, shown: str, adapter: str | None, system: str, request: gr.Request,
        strength: float = STRENGTH.default, **sampling: float,
    ) -> Iterator[Any]:  # fmt: skip
        names = views.contenders(shown, adapter, runs.list_adapters())
        if not text.strip():
            raise RequestError("Write a message first.")
        talks = talks.said(names, text.strip())
        yield from self._answer(talks, talks.turns(names, system, strength), sampling, request)

    @shows_errors
    def say_again(
        self, talks: Talks, shown: str, adapter: str | None, system: str, request: gr.Request,
        strength: float = STRENGTH.default, **sampling: float,
    ) -> Iterator[Any]:  # fmt: skip
        names = views.contenders(shown, adapter, runs.list_adapters())
        talks, asked = talks.without_last_response(names)
        yield from self._answer(talks, talks.turns(asked, system, strength), sampling, request)

    def _answer(self, talks: Talks, turns: list[Turn], sampling: dict[str, Any], request: gr.Request) -> Iterator[Any]:
        decoding = Decoding.of(seed=secrets.randbelow(2**31), **sampling)
        names = [turn.contender for turn in turns]
        can_stop = {self.stop: gr.update(value="Stop", interactive=True)}
        yield self._painted(talks.answered(turns, [Column()] * len(turns)), names) | {self.message: ""} | can_stop
        session = request.session_hash or ""
        for columns in self.streams.run(session, turns, decoding):
            # Of two updates that reach a browser together it may show the second alone: so each says it again.
            updates = self._painted(talks.answered(turns, columns), names)
            yield updates | (can_stop if self.streams.is_live(session) else {})

    def _painted(self, talks: Talks, names: list[str]) -> dict[Component, Any]:
        """The panes of those who answer; the state with them, so that what was said outlives a Stop."""
        updates: dict[Component, Any] = {self.talks: talks}
        for name in names:
            pane, caption = self._pane(name)
            ending = talks.endings[name]
            updates |= {pane: views.as_blocks(talks.of(name), is_waiting=not ending), caption: ending}
        return updates

    def _pane(self, name: str) -> tuple[Component, Component]:
        return (self.base_pane, self.base_caption) if name == BASE else (self.tuned_pane, self.tuned_caption)

    def halt(self, request: gr.Request) -> Any:
        self.streams.stop(request.session_hash or "")
        return gr.update(value="Stopping", interactive=False)

    def rest(self, talks: Talks, adapter: str | None, request: gr.Request) -> Any:
        """After a response, or what became of it: nothing waits any more, unless the next is under way."""
        is_live = self.streams.is_live(request.session_hash or "")
        return [gr.update(value="Stop", interactive=is_live), *self._panes(talks, adapter)]

    @shows_errors
    def forget(self, talks: Talks, shown: str, adapter: str | None, request: gr.Request) -> Any:
        """Only what is on the screen is cleared."""
        self.streams.stop(request.session_hash or "")
        talks = talks.without(views.contenders(shown, adapter, runs.list_adapters()))
        return [talks, *self._panes(talks, adapter)]

    @shows_errors
    def turn_to(self, talks: Talks, shown: str, adapter: str | None, request: gr.Request) -> Any:
        """Other panes, each with its own conversation; whoever is no longer looked at stops talking.

        A message that was sent right after turning may overtake this, and is not to be cut off.
        """
        adapters = runs.list_adapters()
        names = views.contenders(shown, adapter, adapters) if adapters else [BASE]
        self.streams.stop(request.session_hash or "", but=names)
        is_base, is_tuned = shown != Shown.TUNED, shown != Shown.BASE
        return [*self._panes(talks, adapter), gr.update(visible=is_base), gr.update(visible=is_tuned)]

    def _panes(self, talks: Talks, adapter: str | None) -> list[Any]:
        names = (BASE, adapter or "")
        return [*(views.as_blocks(talks.of(name)) for name in names), *(talks.endings.get(n, "") for n in names)]
