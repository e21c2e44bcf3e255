"""Try a prompt: type or pick one, and base and tuned stream their responses at once. Nothing is blind here.

Keeps nothing: no journal, no vote.
"""

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from core import runs
from core.client import Turn
from core.errors import RequestError
from core.messages import ask
from core.prompt_sets import Given, load_set
from core.settings import STRENGTH, Decoding
from core.ui import fields, keys
from core.ui.chat_views import BASE, Shown, as_turns, caption, contenders, why_not_send
from core.ui.notices import shows_errors
from core.ui.parts import IDLE_S, LOOK, QUIET, TICK, changes
from core.ui.streams import Column, Streams

if TYPE_CHECKING:
    from core.client import EngineClient
    from core.ui.page import Page

LINES = 14


class TryPrompt:
    def __init__(self, client: "EngineClient") -> None:
        self.client = client
        self.streams = Streams(client)

    def build(self) -> None:
        prompts = [(prompt.category, prompt.prompt) for prompt in load_set(Given.QUICK)]
        self.prompts = [text for _, text in prompts]
        with gr.Column(elem_classes="card"):
            with gr.Row():
                self.adapter = gr.Dropdown([], label="Adapter", elem_id="try-adapter", interactive=True, scale=2)
                self.strength = fields.slider("try", STRENGTH, scale=3, min_width=240)
                self.pick = gr.Dropdown(
                    prompts, value=self.prompts[0], label="Pick a prompt", elem_id="try-pick", interactive=True, scale=4
                )
            self.text = gr.Textbox(
                self.prompts[0], label="Or write one", lines=2, max_lines=8, elem_id="try-text",
                placeholder="Anything you like to ask both.",
            )  # fmt: skip
            with gr.Row():
                self.ask = gr.Button("Ask both", variant="primary", elem_id="try-ask", scale=3)
                self.next = gr.Button("Next prompt", elem_id="try-next", scale=2)
                self.stop = gr.Button(
                    "Stop", variant="stop", elem_id="try-stop", interactive=False, scale=1, min_width=80
                )
        keys.listener("try", {"n": "try-next"}, "Key: <kbd>n</kbd> asks the next prompt. It rests while you type.")
        with gr.Row(equal_height=True):
            self.base, self.base_caption = self._build_card(BASE)
            self.tuned, self.tuned_caption = self._build_card("tuned")
        with gr.Accordion("Sampling", open=False, elem_id="try-sampling"):
            self.sampling = fields.sliders("try")
        self.seen = gr.State(None)
        self.timer = gr.Timer(IDLE_S)

    def _build_card(self, name: str) -> tuple[gr.Textbox, gr.Markdown]:
        with gr.Column(min_width=320):
            card = gr.Textbox(
                label=name, lines=LINES, max_lines=LINES, interactive=False, autoscroll=True, elem_id=f"try-{name}",
                elem_classes="response",
            )  # fmt: skip
            return card, gr.Markdown("", elem_classes="caption")

    def wire(self, app: "Page") -> None:
        answers: list[Component] = [self.base, self.tuned, self.base_caption, self.tuned_caption, self.stop]
        asked: list[Component] = [self.text, self.adapter]
        how = {"strength": self.strength, **self.sampling}
        streaming: dict[str, Any] = {"inputs_kwargs": how, "concurrency_limit": 8, **QUIET}
        self.pick.input(self.take, self.pick, self.text, **QUIET)
        for event in (
            self.ask.click(self.ask_both, asked, answers, **streaming),
            self.next.click(self.ask_next, asked, [self.pick, self.text, *answers], **streaming),
        ):
            event.then(self.rest, None, self.stop, **QUIET)
        self.stop.click(self.halt, None, self.stop, **QUIET)
        around = [self.seen, self.adapter, self.tuned, self.ask, self.next]
        look_again: dict[str, Any] = {"inputs": [self.seen, self.adapter], "outputs": around, **LOOK}
        app.demo.load(self.view, **look_again)
        gr.on([app.tabs.change, self.adapter.input], self.view, **look_again)
        self.timer.tick(self.view, **(look_again | TICK))

    @shows_errors
    def view(self, seen: dict[int, Any] | None, adapter: str | None) -> Any:
        """The choices, and why nothing can be asked if it cannot."""
        adapters = runs.list_adapters()
        chosen = adapter if adapter in adapters else next(iter(adapters), None)
        reason = why_not_send(self.client.state(), Shown.TUNED, adapters)
        view = {
            self.adapter: gr.update(choices=adapters, value=chosen),
            self.tuned: gr.update(label=chosen or "tuned"),
            self.ask: gr.update(value=reason or "Ask both", interactive=not reason),
            self.next: gr.update(interactive=not reason),
        }
        return changes(self.seen, view, seen)

    def take(self, prompt: str) -> str:
        return prompt

    @shows_errors
    def ask_both(
        self, text: str, adapter: str | None, request: gr.Request, strength: float = STRENGTH.default, **sampling: float
    ) -> Iterator[dict[Component, Any]]:
        yield from self._ask(text, adapter, strength, request, sampling)

    @shows_errors
    def ask_next(
        self, text: str, adapter: str | None, request: gr.Request, strength: float = STRENGTH.default, **sampling: float
    ) -> Iterator[dict[Component, Any]]:
        """The prompt after `text`, or the first where that is none of ours."""
        place = self.prompts.index(text) + 1 if text in self.prompts else 0
        prompt = self.prompts[place % len(self.prompts)]
        yield {self.pick: prompt, self.text: prompt}
        yield from self._ask(prompt, adapter, strength, request, sampling)

    def _ask(
        self, text: str, adapter: str | None, strength: float, request: gr.Request, sampling: dict[str, Any]
    ) -> Iterator[dict[Component, Any]]:
        names = [BASE, *contenders(Shown.TUNED, adapter, runs.list_adapters())]
        if not text.strip():
            raise RequestError("Write a prompt first, or pick one.")
        decoding = Decoding.of(seed=secrets.randbelow(2**31), **sampling)
        turns = as_turns(dict.fromkeys(names, ask(text.strip())), strength)
        can_stop = {self.stop: gr.update(value="Stop", interactive=True)}
        yield self._painted(turns, (Column(), Column())) | can_stop
        session = request.session_hash or ""
        for columns in self.streams.run(session, turns, decoding):
            # Of two updates that reach a browser together it may show the second alone: so each says it again.
            yield self._painted(turns, columns) | (can_stop if self.streams.is_live(session) else {})

    def _painted(self, turns: list[Turn], columns: tuple[Column, ...]) -> dict[Component, Any]:
        base, tuned = columns
        base_caption, tuned_caption = map(caption, columns, turns)
        return {
            self.base: base.text, self.base_caption: base_caption,
            self.tuned: tuned.text, self.tuned_caption: tuned_caption,
        }  # fmt: skip

    def halt(self, request: gr.Request) -> Any:
        self.streams.stop(request.session_hash or "")
        return gr.update(value="Stopping", interactive=False)

    def rest(self) -> Any:
        return gr.update(value="Stop", interactive=False)
