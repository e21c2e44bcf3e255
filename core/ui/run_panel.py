"""Train, second part: one run, live or done, and what can be done with it.

Shows what stands on disk, so that a reload, a second tab or another day shows the same.
"""

from typing import Any

import gradio as gr
import pandas as pd

from core import runs
from core.client import EngineClient
from core.runs import Phase, Run, RunStatus
from core.ui import run_views
from core.ui.notices import empty, shows_errors
from core.ui.parts import Part

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
NO_RUN = empty("No run yet.", "Choose data under Configure and press Start training: on the starter data it takes "
               "a few minutes.")  # fmt: skip
STOPPING = "It stops after this step, and what is trained is kept."


class RunPanel:
    """`parts` show a run's `values`, in the same order."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client

    def build(self) -> None:
        with gr.Row(elem_classes="running"):
            with gr.Column(scale=3, min_width=340, elem_classes="card", elem_id="run"):
                self.title = gr.Markdown(NO_RUN, elem_id="run-title")
                self.phases = gr.HTML("", elem_id="run-phases", padding=False)
                self.line = gr.Markdown("", elem_id="run-line")
                self.bar = gr.HTML(run_views.bar(0), elem_id="run-bar", padding=False)
                self._build_buttons()
            with gr.Column(scale=2, min_width=320, elem_classes="card", elem_id="outcome"):
                self._build_outcome()
        with gr.Row(elem_classes="plots"):
            self.plots = [self._build_plot(*curve) for curve in run_views.CURVES]
        self.shown = gr.State("")
        self.parts = self._parts()

    def _build_buttons(self) -> None:
        with gr.Row(elem_classes="actions"):
            self.pause = gr.Button("Pause", visible=False, elem_id="pause")
            self.go_on = gr.Button("Go on", variant="primary", visible=False, elem_id="go-on")
            self.stop = gr.Button("Stop and keep", variant="stop", visible=False, elem_id="stop")
            self.skip = gr.Button("Skip the trait count", visible=False, elem_id="skip-trait")

    def _build_outcome(self) -> None:
        gr.Markdown("### Result")
        self.outcome = gr.Markdown("", elem_id="outcome-words")
        with gr.Row(elem_classes="actions"):
            self.compare = gr.Button("Compare now", variant="primary", visible=False, elem_id="compare-now")
            self.chat = gr.Button("Chat now", visible=False, elem_id="chat-now")
            self.resume = gr.Button("Resume", variant="primary", visible=False, elem_id="resume")

    def _build_plot(self, name: str, title: str, _: tuple[str, ...]) -> gr.LinePlot:
        lim = [0.0, 1.0] if name == "rewards/accuracies" else None
        return gr.LinePlot(
            frame([]), x="step", y="value", title=title, x_title="step", y_title=" ", height=220, y_lim=lim,
            buttons=[], elem_classes="plot",
        )  # fmt: skip

    def _parts(self) -> list[Part]:
        buttons = (self.pause, self.go_on, self.stop, self.skip, self.compare, self.chat, self.resume)
        words = (self.shown, self.title, self.line, self.phases, self.bar, self.outcome)
        return [
            *(Part(component, _as_is) for component in words),
            *(Part(button, _visible) for button in buttons),
            *(Part(plot, _plotted) for plot in self.plots),
        ]

    def values(self, run: Run | None) -> list[Any]:
        """What the parts are to show of the run."""
        if run is None:
            return ["", NO_RUN, "", "", run_views.bar(0), "", *[False] * 7, *[(True, [])] * len(self.plots)]
        words = [run.name, run_views.run_title(run), run_views.run_line(run), run_views.phase_chips(run),
                 run_views.bar(run_views.run_share(run)), run_views.outcome_words(run)]  # fmt: skip
        return [*words, *offered(run, runs.list_adapters()), *curves(run)]

    def wire(self, look: dict[str, Any]) -> None:
        """Every button is followed by the same view that the timer shows."""
        acts = ((self.pause, self.pause_run), (self.go_on, self.go_on_run), (self.stop, self.stop_run),
                (self.skip, self.skip_trait_count))  # fmt: skip
        for button, act in acts:
            button.click(act, None, None, **QUIET).then(**look)
        self.resume.click(self.resume_run, self.shown, None, **QUIET).then(**look)

    # --- handlers -----------------------------------------------------------------------------------------

    @shows_errors
    def pause_run(self) -> None:
        self.client.pause_run()

    @shows_errors
    def go_on_run(self) -> None:
        self.client.go_on_run()

    @shows_errors
    def stop_run(self) -> None:
        self.client.stop_run()
        gr.Info(STOPPING, title="Stopping")

    @shows_errors
    def skip_trait_count(self) -> None:
        self.client.skip_trait_count()

    @shows_errors
    def resume_run(self, name: str) -> None:
        self.client.resume_run(name)


def offered(run: Run, adapters: list[str]) -> list[bool]:
    """Whether each button is there: pause, go on, stop, skip, compare, chat, resume."""
    usable = run_views.is_usable(run, adapters)
    is_training = run.status is RunStatus.RUNNING and run.phase == Phase.TRAINING
    is_counting = run.is_alive and run.phase == Phase.TRAIT
    return [
        is_training, run.status is RunStatus.PAUSED, run.is_alive and not is_counting, is_counting,
        usable, usable, run_views.is_resumable(run),
    ]  # fmt: skip


def curves(run: Run) -> list[tuple[bool, list[tuple[int, float]]]]:
    """Of each plot: whether the method has it, and its points."""
    rows = runs.read_metrics(run.name)
    return [
        (run.method in methods or not run.method, run_views.curve(rows, name)) for name, _, methods in run_views.CURVES
    ]


def frame(points: list[tuple[int, float]]) -> pd.DataFrame:
    # Without a type an empty frame makes categories of the numbers that come later.
    return pd.DataFrame(points, columns=["step", "value"]).astype({"step": float, "value": float})


def _as_is(value: Any) -> Any:
    return value


def _visible(is_there: bool) -> Any:
    return gr.update(visible=is_there)


def _plotted(value: tuple[bool, list[tuple[int, float]]]) -> Any:
    return gr.update(visible=value[0], value=frame(value[1]))
