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
from core.ui.parts import QUIET, Part
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
        self.parts = [
            Part(self.configure.model, lambda value: gr.update(choices=value[0], value=value[1])),
            *self.history.parts,
            *self.run.parts,
            # Last, so that whoever follows the world finds everything else in place.
            Part(self.world, lambda value: value),
        ]

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
            button.click(_Lead(self.configure, asked).fill, self.run.lead_inputs, filled, **QUIET).then(
                **self.configure.planned
            )
        jumps = ((self.run.compare, app.open_compare, app.compare), (self.run.chat, app.open_chat, app.chat))
        for button, jump, tab in jumps:
            button.click(jump, None, app.tabs, **QUIET).then(tab.arrive, self.run.shown, tab.arrivals, **QUIET)

    # --- handlers -----------------------------------------------------------------------------------------

    def values(
        self, state: EngineState, bases: tuple[list[tuple[str, str]], str], past: Sequence[Run], chosen: str
    ) -> list[Any]:
        """What the parts are to show, of the run `chosen` or of the newest of the `past` ones."""
        # One that was deleted since it was chosen is no longer there to be shown.
        run = next((run for run in past if run.name == chosen), None) or views.newest(past)
        alive = next((run.name for run in past if run.is_alive), "")
        return [
            bases, *self.history.values(past), *self.run.values(run),
            f"{state.phase} {state.base} {alive}",
        ]  # fmt: skip

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


class _Lead:
    """A button of a run that fills in the form for the next one and leads to it."""

    def __init__(self, configure: ConfigurePanel, asked: Callable[[str, list[str]], RunRequest]) -> None:
        self.configure = configure
        self.asked = asked

    @shows_errors
    def fill(self, shown: str, advised: list[str]) -> Any:
        return [gr.Tabs(selected="configure"), *self.configure.filled_from(self.asked(shown, advised))]
