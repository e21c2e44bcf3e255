"""The Train tab: what to train, how it goes, and what was trained before.

Puts its three parts together. The page's one view, made from disk and the engine's state, feeds the
buttons, the timer and a fresh page alike; nothing about a run is kept in the page.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from core import runs
from core.client import EngineClient, EngineState, RunRequest
from core.runs import Run
from core.ui import views
from core.ui.bases import Bases
from core.ui.configure_panel import ConfigurePanel
from core.ui.history_panel import HistoryPanel
from core.ui.notices import shows_errors
from core.ui.parts import QUIET, Updates
from core.ui.run_panel import RunPanel

if TYPE_CHECKING:
    from core.ui.page import Page


class TrainTab:
    def __init__(self, client: EngineClient) -> None:
        self.client = client
        self.bases = Bases(client)
        self.configure = ConfigurePanel(client, self.bases)
        self.run = RunPanel(client)
        self.history = HistoryPanel(client)

    def build(self) -> None:
        with gr.Tabs(selected="configure", elem_id="train-tabs") as self.inner:
            with gr.Tab("Configure", id="configure"):
                self.configure.build()
            with gr.Tab("Current run", id="run"):
                self.run.build()
            with gr.Tab("History", id="history"):
                self.history.build()
        # The run that this session looks at; empty for the newest.
        self.chosen = gr.State("")
        self.world = gr.State("")
        # The world last, so that whoever follows it finds everything else in place.
        self.outputs = [self.configure.model, *self.history.outputs, *self.run.outputs, self.world]

    def wire(self, app: "Page") -> None:
        self.configure.wire(self.world)
        self.run.wire(app.look)
        app.demo.load(self.land, None, self.inner, **QUIET)
        leads = [self.inner, self.chosen]
        self.configure.start.click(self.start, inputs_kwargs=self.configure.fields, outputs=leads, **QUIET).then(
            **app.look
        )
        for recipe in self.configure.recipes:
            recipe.start_button.click(recipe.start, None, leads, **QUIET).then(**app.look)
        self.history.wire(app.look, leads)
        app.chip.click(self.show_run, None, [app.tabs, *leads], **QUIET).then(**app.look)
        for button, asked in self.run.leads:
            filled = [self.inner, *self.configure.filled_outputs]
            button.click(self.lead(asked), self.run.lead_inputs, filled, **QUIET).then(**self.configure.planned)
        for button, opened, tab in ((self.run.compare, "compare", app.compare), (self.run.chat, "chat", app.chat)):
            button.click(app.open_tab, gr.State(opened), app.tabs, **QUIET).then(
                tab.arrive, self.run.shown, tab.arrivals, **QUIET
            )

    # --- handlers -----------------------------------------------------------------------------------------

    def view(self, state: EngineState, bases: Any, past: Sequence[Run], chosen: str) -> Updates:
        """With the run `chosen`, or else the newest of the `past` ones; `bases` is the model's update."""
        # One that was deleted since it was chosen is no longer there to be shown.
        run = next((run for run in past if run.name == chosen), None) or views.newest(past)
        alive = next((run.name for run in past if run.is_alive), "")
        world = f"{state.phase} {state.base} {alive}"
        return {self.configure.model: bases, **self.history.view(past), **self.run.view(run), self.world: world}

    @shows_errors
    def land(self) -> Any:
        """A page that is opened during a run shows it."""
        return gr.Tabs(selected="run") if runs.current_run() else gr.skip()

    @shows_errors
    def start(self, **form: Any) -> Any:
        """Start the run and lead to it."""
        self.configure.begin(**form)
        return [gr.Tabs(selected="run"), ""]

    def show_run(self) -> Any:
        """Lead here, to the newest run."""
        return [gr.Tabs(selected="train"), gr.Tabs(selected="run"), ""]

    def lead(self, asked: Callable[[str, list[str]], RunRequest]) -> Callable[[str, list[str]], Any]:
        """A handler that fills in the form with what is `asked` for the next run, and leads to it."""

        @shows_errors
        def fill(shown: str, advised: list[str]) -> Any:
            return [gr.Tabs(selected="configure"), *self.configure.filled_from(asked(shown, advised))]

        return fill
