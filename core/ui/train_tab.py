"""The Train tab: what to train, how it goes, and what was trained before.

Puts its three parts together. The page's one view, made from disk and the engine's state, feeds the
buttons, the timer and a fresh page alike; nothing about a run is kept in the page.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from core import runs
from core.client import EngineClient, EngineState
from core.runs import Run
from core.ui import run_views, views
from core.ui.bases import Bases
from core.ui.configure_panel import ConfigurePanel
from core.ui.notices import empty, shows_errors
from core.ui.parts import Part
from core.ui.run_panel import RunPanel

if TYPE_CHECKING:
    from core.ui.page import Page


QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
NO_HISTORY = empty("Nothing trained yet.", "Every run is listed here, with its figures, as soon as it begins.")
HISTORY_NOTE = "Choose a row to look at the run again, or to resume it."


class TrainTab:
    def __init__(self, client: EngineClient) -> None:
        self.client = client
        self.bases = Bases(client)
        self.configure = ConfigurePanel(client, self.bases)
        self.run = RunPanel(client)

    def build(self) -> None:
        with gr.Tabs(selected="configure", elem_id="train-tabs") as self.inner:
            with gr.Tab("Configure", id="configure"):
                self.configure.build()
            with gr.Tab("Current run", id="run"):
                self.run.build()
            with gr.Tab("History", id="history"):
                self._build_history()
        # The run that this session looks at; empty for the newest.
        self.chosen = gr.State("")
        self.world = gr.State("")
        self.parts = [
            Part(self.configure.model, lambda value: gr.update(choices=value[0], value=value[1])),
            Part(self.history_note, lambda value: value),
            Part(self.history, lambda value: value),
            *self.run.parts,
            # Last, so that whoever follows the world finds everything else in place.
            Part(self.world, lambda value: value),
        ]

    def _build_history(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.Markdown("### History")
            self.history_note = gr.Markdown(NO_HISTORY)
            self.history = gr.Dataframe(
                [], headers=list(run_views.HISTORY), datatype="str", interactive=False, wrap=True, max_height=560,
                elem_id="history", elem_classes="words-table", buttons=[], show_label=False,
            )  # fmt: skip

    def wire(self, app: "Page") -> None:
        self.configure.wire(self.world)
        self.run.wire(app.look)
        app.demo.load(self.land, None, self.inner, **QUIET)
        leads = [self.inner, self.chosen]
        self.configure.start.click(self.start, inputs_kwargs=self.configure.fields, outputs=leads, **QUIET).then(
            **app.look
        )
        self.history.select(self.open_run, None, leads, **QUIET).then(**app.look)
        app.chip.click(self.show_run, None, [app.tabs, *leads], **QUIET).then(**app.look)
        jumps = ((self.run.compare, app.open_compare, app.compare), (self.run.chat, app.open_chat, app.chat))
        for button, jump, tab in jumps:
            button.click(jump, None, app.tabs, **QUIET).then(tab.arrive, self.run.shown, tab.arrivals, **QUIET)

    # --- handlers -----------------------------------------------------------------------------------------

    def values(
        self, state: EngineState, bases: tuple[list[tuple[str, str]], str], past: Sequence[Run], chosen: str
    ) -> list[Any]:
        """What the parts are to show, of the run `chosen` or of the newest of the `past` ones."""
        run = runs.read_run(chosen) if chosen else views.newest(past)
        alive = next((run.name for run in past if run.is_alive), "")
        return [
            bases, HISTORY_NOTE if past else NO_HISTORY, run_views.history_rows(past), *self.run.values(run),
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

    @shows_errors
    def open_run(self, event: gr.SelectData) -> Any:
        return [gr.Tabs(selected="run"), str(event.row_value[0])]

    def show_run(self) -> Any:
        """Lead here, to the newest run."""
        return [gr.Tabs(selected="train"), gr.Tabs(selected="run"), ""]
