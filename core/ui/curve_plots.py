"""A run's curves on the page: the plots, how smooth they are, and the further ones behind a click.

Drawn when the run has logged something new, and then only those that changed; what is folded away is not sent at all.
"""

import math
from collections.abc import Sequence
from typing import Any

import gradio as gr
import pandas as pd

from core import runs
from core.runs import Run
from core.ui import run_files
from core.ui.curves import CURVES, EACH_STEP, SMOOTHED, Curve, Mark, held_out_words, marks
from core.ui.notices import shows_errors
from core.ui.parts import LOOK, QUIET, Made, Updates, changes

SMOOTHING = 0.6
MORE = "More curves: gradient norm, learning rate, held-out accuracy"
# A plot is drawn once and keeps its colours; names of colours follow light and dark.
COLOURS = {
    EACH_STEP: "var(--color-accent)", SMOOTHED: "var(--color-accent)", "chosen": "var(--color-accent)",
    "rejected (dashed)": "var(--playground-loss)",
}  # fmt: skip


class CurvePlots:
    """`news` is a part of the run's view; whenever it changes, each session draws for itself."""

    def build(self) -> None:
        with gr.Column(elem_classes="card", elem_id="curves"):
            with gr.Row(elem_classes="curves-head"):
                gr.Markdown("### Curves")
                self.smoothing = gr.Slider(
                    0, 0.95, SMOOTHING, step=0.05, label="Smoothing", elem_id="smoothing", min_width=220, scale=0
                )
            with gr.Row(elem_classes="plots"):
                first = [_plot(curve) for curve in CURVES if curve.is_first]
            with gr.Accordion(MORE, open=False, elem_id="more-curves") as self.more:
                with gr.Row(elem_classes="plots"):
                    folded = [_plot(curve) for curve in CURVES if not curve.is_first]
                self.held_out = gr.Markdown("", elem_id="held-out-words", elem_classes="note")
        self.plots = [*first, *folded]
        self.is_open = gr.State(False)
        self.drawn = gr.State(None)
        self.news = gr.State(None)

    def news_of(self, run: Run) -> list[Any]:
        return [run.name, run.method, *run_files.stamp(run.name, run_files.METRICS)]

    def wire(self, shown: gr.State) -> None:
        view: dict[str, Any] = {
            "fn": self.draw, "inputs": [shown, self.smoothing, self.is_open, self.drawn],
            "outputs": [self.drawn, *self.plots, self.held_out],
        }  # fmt: skip
        gr.on([self.news.change, self.smoothing.input], **(view | LOOK))
        self.more.expand(self.unfold, None, self.is_open, **QUIET).then(**(view | LOOK))
        self.more.collapse(self.fold, None, self.is_open, **QUIET)

    # --- handlers -----------------------------------------------------------------------------------------

    @shows_errors
    def draw(self, name: str, smoothing: float, is_open: bool, drawn: dict[int, Any] | None) -> Any:
        """The plots of the run that is looked at; only those that this session has not seen so."""
        return changes(self.drawn, self.view(name, smoothing, is_open), drawn) if name else gr.skip()

    def view(self, name: str, smoothing: float, is_open: bool) -> Updates:
        run, rows = runs.read_run(name), run_files.rows(name)
        view: Updates = {self.held_out: held_out_words(rows, run.method)}
        for plot, curve in zip(self.plots, CURVES, strict=True):
            if is_open or curve.is_first:
                is_there = run.method in curve.methods or not run.method
                view[plot] = Made((is_there, marks(curve, rows, smoothing)), _drawn)
        return view

    def unfold(self) -> bool:
        return True

    def fold(self) -> bool:
        return False


def _plot(curve: Curve) -> gr.LinePlot:
    # A plot learns at first which lines there may be.
    lines = [called for _, called in curve.lines if called] or [EACH_STEP, SMOOTHED]
    return gr.LinePlot(
        frame([(math.nan, math.nan, line) for line in lines]), x="step", y="value", color="line", color_map=COLOURS,
        title=curve.title, x_title="step", y_title=" ", y_axis_format=curve.y_format, height=220, min_width=270,
        buttons=[], y_lim=[0.0, 1.0] if curve.is_share else None, color_title=" ",
        colors_in_legend=None if curve.lines[0][1] else [], elem_id=f"curve-{curve.id}",
        elem_classes=["plot", "several"] if curve.lines[0][1] else "plot",
    )  # fmt: skip


def frame(found: Sequence[tuple[float, float, str]]) -> pd.DataFrame:
    # Without a type an empty frame makes categories of the numbers that come later.
    return pd.DataFrame(found, columns=["step", "value", "line"]).astype({"step": float, "value": float, "line": str})


def _drawn(of: tuple[bool, list[Mark]]) -> Any:
    is_there, found = of
    # Nothing but points: a plot whose title or colours change with them draws itself anew from those it had.
    return gr.update(visible=True, value=frame(found)) if is_there else gr.update(visible=False)
