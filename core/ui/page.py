"""The page: a header that is on every tab, and the three tabs.

Knows the tabs only as things that build themselves, are led to with an adapter, and may lead to each other.
"""

from typing import Any, Protocol

import gradio as gr
from gradio.components import Component

from core import runs
from core.client import EngineClient, EnginePhase
from core.ui import views
from core.ui.announcer import Announcer
from core.ui.chat_tab import ChatTab
from core.ui.compare_tab import CompareTab
from core.ui.notices import CheckedBlocks, shows_errors
from core.ui.parts import BUSY_S, IDLE_S, QUIET, TICK, changes
from core.ui.train_tab import TrainTab

# Uploads are looked through once an hour, and dropped after a day.
LOOKED_AT_AND_KEPT_S = (3600, 24 * 3600)
TITLE = "Preference Playground"

# The choice of light or dark is this browser's own, and is in force before anything is painted.
HEAD = """
<meta name="color-scheme" content="light dark">
<script>
  const wish = localStorage.getItem("playground-theme");
  const isDark = wish ? wish === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  addEventListener("DOMContentLoaded", () => document.body.classList.toggle("dark", isDark));
</script>
"""
# Gradio sets its own choice when it has mounted: a remembered one is set again after it.
REMEMBERED = """() => {
  const wish = localStorage.getItem("playground-theme");
  if (wish) document.body.classList.toggle("dark", wish === "dark");
}"""
TOGGLE = """() => {
  const isDark = document.body.classList.toggle("dark");
  localStorage.setItem("playground-theme", isDark ? "dark" : "light");
}"""


class Tab(Protocol):
    """`arrivals` are the components that `arrive` updates when the tab is opened; with an adapter's name it
    is to be chosen there, with an empty one what is chosen stays and the choices are fresh."""

    arrivals: list[Component]

    def build(self) -> None: ...
    def wire(self, app: "Page") -> None: ...
    def arrive(self, adapter: str = "") -> Any: ...


class Page:
    """Header and Train are one view, of which `look` makes an event; the other tabs look for themselves.

    `tabs` and `demo` are for the tabs to hang their events on, in `wire`.
    """

    demo: gr.Blocks
    tabs: gr.Tabs
    look: dict[str, Any]

    def __init__(self, client: EngineClient) -> None:
        self.client = client
        self.announcer = Announcer()
        self.train = TrainTab(client)
        self.compare = CompareTab(client)
        self.chat = ChatTab(client)

    def build(self) -> gr.Blocks:
        with CheckedBlocks(
            title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=LOOKED_AT_AND_KEPT_S
        ) as self.demo:
            self._build_header()
            self.timer = gr.Timer(BUSY_S)
            with gr.Tabs(selected="train", elem_id="tabs") as self.tabs:
                with gr.Tab("Train", id="train"):
                    self.train.build()
                self._opened = [
                    self._build_tab("Compare", "compare", self.compare),
                    self._build_tab("Chat", "chat", self.chat),
                ]
            self._wire()
        return self.demo

    def _build_tab(self, title: str, tab_id: str, tab: Tab) -> gr.Tab:
        with gr.Tab(title, id=tab_id) as opened:
            tab.build()
        return opened

    def _build_header(self) -> None:
        with gr.Row(elem_id="header", equal_height=True):
            gr.Markdown(f"# {TITLE}", elem_id="title")
            self.model = gr.Dropdown(
                label="Model", show_label=False, container=False, allow_custom_value=True, elem_id="model",
                min_width=240, scale=2, filterable=True,
            )  # fmt: skip
            self.chip = gr.Button(views.NO_RUN, size="sm", elem_id="chip", interactive=False, min_width=260, scale=2)
            self.toggle = gr.Button("◐ Light or dark", size="sm", elem_id="toggle", min_width=120, scale=0)
        self.engine = gr.Markdown(views.STARTING, elem_id="engine")
        self.announcer.build()
        self.seen = gr.State(None)

    def _wire(self) -> None:
        header = [self.model, self.engine, self.chip, self.announcer.said, self.timer]
        self.look = {
            "fn": self.view, "inputs": [self.seen, self.train.chosen],
            "outputs": [self.seen, *header, *self.train.outputs], **QUIET, "concurrency_limit": 1,
        }  # fmt: skip
        self.demo.load(None, js=REMEMBERED, **QUIET)
        self.demo.load(**self.look)
        self.timer.tick(**(self.look | TICK))
        chosen = self.model.input(shows_errors(self.client.load_base), self.model, None, **QUIET)
        chosen.then(self.resident, None, self.model, **QUIET).then(**self.look)
        self.toggle.click(None, js=TOGGLE, **QUIET)
        self.train.wire(self)
        recipes = [recipe.start_button for recipe in self.train.configure.recipes]
        self.announcer.wire(self.demo, [self.train.configure.start, *recipes])
        led_to: tuple[Tab, ...] = (self.compare, self.chat)
        for opened, tab in zip(self._opened, led_to, strict=True):
            opened.select(tab.arrive, None, tab.arrivals, **QUIET)
            tab.wire(self)

    @shows_errors
    def view(self, seen: dict[int, Any] | None, chosen: str) -> Any:
        """Header and Train as things stand; only what this session has not seen."""
        state, past = self.client.state(), runs.list_runs()
        choices, resident = views.base_choices(self.train.bases.known(), state)
        bases, newest = gr.update(choices=choices, value=resident), views.newest(past)
        chip, leads_on = views.run_chip(newest)
        is_busy = state.phase is not EnginePhase.READY or (newest is not None and newest.is_alive)
        view = {
            self.model: bases, self.engine: views.engine_line(state),
            self.chip: gr.update(value=chip, interactive=leads_on), self.announcer.said: self.announcer.words(past),
            self.timer: gr.update(value=BUSY_S if is_busy else IDLE_S),
            **self.train.view(state, bases, past, chosen),
        }  # fmt: skip
        return changes(self.seen, view, seen)

    def resident(self) -> str:
        """The base that is in force, whatever was asked for."""
        return self.client.state().base

    def open_tab(self, name: str) -> Any:
        return gr.Tabs(selected=name)
