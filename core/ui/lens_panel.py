"""The lens: a look into the data before a run, row by row and in figures.

Knows what is shown of a DataView; what the data holds and what the model sees of it is the client's to say.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr
import pandas as pd

from core.client import EngineClient, RunRequest
from core.errors import RequestError
from core.ui import lens_views as views
from core.ui.chat_views import as_blocks
from core.ui.compare_views import DIFF_COLOURS, ONLY_BASE, ONLY_TUNED
from core.ui.notices import shows_errors
from core.ui.parts import LOOK, QUIET, Updates, picked
from core.wire import DataView, SpanKind

DIFF_LABEL = f"Word by word: {ONLY_BASE} only rejected says it, {ONLY_TUNED} only chosen says it"
# Gradio writes them as JSON, whose keys are plain strings.
SPAN_COLOURS = {SpanKind.TRAINED.value: "#1f6f60", SpanKind.CUT.value: "#757269"}


@dataclass(frozen=True)
class Looked:
    """What the lens is open on: what was asked, and what was found."""

    request: RunRequest
    view: DataView


class LensPanel:
    """`looked` holds what it is open on, None while it is closed; `outputs` is all that opening and closing fill."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client

    def build(self) -> None:
        self.looked = gr.State(None)
        with gr.Column(visible=False, elem_classes="card", elem_id="lens") as self.panel:
            gr.Markdown("### What is in the data")
            self.summary = gr.Markdown("", elem_id="lens-summary")
            self._build_steps()
            self._build_row()
            self._build_figures()
            self._build_left_out()
            self.sha = gr.Textbox(label="SHA-256 of the snapshot that goes with the run", max_lines=1,
                                  interactive=False, buttons=["copy"], elem_id="lens-sha")  # fmt: skip
        self.row: list[Any] = [self.number, self.title, self.pair, self.chat, self.diff, *self.seen, self.raw]
        self.outputs: list[Any] = [self.looked, self.panel, self.summary, self.which, self.figures, *self.plots,
                                   self.left_out, self.reasons, self.table, self.sha, *self.row]  # fmt: skip

    def _build_steps(self) -> None:
        with gr.Row(elem_id="lens-steps"):
            self.which = gr.Dropdown([], label="Leaf through", interactive=True, elem_id="lens-which", min_width=220)
            self.back = gr.Button("Previous", elem_id="lens-back", min_width=100, scale=0)
            self.number = gr.Number(label="Row number, then Enter", precision=0, elem_id="lens-row", min_width=120)
            self.forward = gr.Button("Next", elem_id="lens-forward", min_width=100, scale=0)

    def _build_row(self) -> None:
        self.title = gr.Markdown("", elem_id="lens-title")
        with gr.Column() as self.pair:
            with gr.Row():
                self.chat = gr.Chatbot(
                    label="Prompt", render_markdown=False, latex_delimiters=[], buttons=[], feedback_options=None,
                    height=None, max_height=420, min_height=120, elem_id="lens-chat", min_width=320,
                )  # fmt: skip
                self.diff = gr.HighlightedText(label=DIFF_LABEL, color_map=DIFF_COLOURS, elem_id="lens-diff",
                                               elem_classes="lens-text", min_width=320)  # fmt: skip
            with gr.Row():
                self.seen = [
                    gr.HighlightedText(label=f"{side}, as the model will see it", color_map=SPAN_COLOURS,
                                       elem_id=f"lens-{side.lower()}", elem_classes="lens-text", min_width=320)
                    for side in ("Chosen", "Rejected")
                ]  # fmt: skip
        self.raw = gr.Textbox(label="What stands there", lines=4, max_lines=16, interactive=False, visible=False,
                              elem_id="lens-raw", elem_classes="response")  # fmt: skip

    def _build_figures(self) -> None:
        gr.Markdown("### In figures")
        self.figures = gr.Markdown("", elem_id="lens-figures")
        with gr.Row():
            self.plots = [
                gr.BarPlot(x="tokens", y="pairs", title=title, x_title="tokens", y_title="pairs", height=200,
                           buttons=[], elem_classes="plot", min_width=220)
                for title in ("Prompt", "Chosen reply", "Rejected reply")
            ]  # fmt: skip

    def _build_left_out(self) -> None:
        with gr.Column(visible=False) as self.left_out:
            gr.Markdown("### Left out\nChoose a row to see it.")
            self.reasons = gr.HTML("", elem_id="lens-reasons")
            self.table = gr.Dataframe(
                [], headers=views.LEFT_OUT_HEADERS, datatype="str", interactive=False, wrap=True, max_height=320,
                column_widths=["10%", "45%", "45%"], show_label=False, buttons=[], elem_id="lens-left-out",
                elem_classes="words-table",
            )  # fmt: skip

    def wire(self) -> None:
        where = [self.looked, self.which, self.number]
        self.forward.click(self.go_on, where, self.row, **QUIET)
        self.back.click(self.go_back, where, self.row, **QUIET)
        self.which.input(self.go_to_first, where[:2], self.row, **LOOK)
        self.number.submit(self.show_row, [self.looked, self.number], self.row, **QUIET)
        # The row appears above the table that it was chosen from.
        self.table.select(self.show_left_out, self.looked, self.row, scroll_to_output=True, **QUIET)

    # --- handlers -----------------------------------------------------------------------------------------

    @shows_errors
    def go_on(self, looked: Looked | None, which: str, row: int | None) -> Any:
        return self._step(looked, which, row, 1)

    @shows_errors
    def go_back(self, looked: Looked | None, which: str, row: int | None) -> Any:
        return self._step(looked, which, row, -1)

    @shows_errors
    def go_to_first(self, looked: Looked | None, which: str) -> Any:
        return self._step(looked, which, None, 0)

    @shows_errors
    def show_row(self, looked: Looked | None, row: int | None) -> Any:
        return self._look(looked, row)

    @shows_errors
    def show_left_out(self, looked: Looked | None, event: gr.SelectData) -> Any:
        number = picked(event)
        if not number.isdecimal():
            raise RequestError("Click a row that has a number.")
        return self._look(looked, int(number))

    def _step(self, looked: Looked | None, which: str, row: int | None, step: int) -> Updates:
        rows = views.rows_of(looked.view, which) if looked else ()
        return self._look(looked, views.neighbour(rows, row, step))

    def _look(self, looked: Looked | None, row: int | None) -> Updates:
        if looked is None or row is None:
            raise RequestError("There is no row to show. Press 'Look at the data', or type a row's number.")
        return self._shown(self.client.look_at_data(looked.request, row), row)

    # --- what is shown ------------------------------------------------------------------------------------

    def closed(self) -> Updates:
        return {self.looked: None, self.panel: gr.update(visible=False)}

    def opened(self, request: RunRequest, view: DataView) -> Updates:
        choices = views.row_choices(view)
        row = self._shown(view, view.pair.row) if view.pair else {}
        return {
            self.looked: Looked(request, view), self.panel: gr.update(visible=True), self.summary: views.summary(view),
            self.which: gr.update(choices=choices, value=choices[0][1] if choices else None),
            self.figures: views.figures(view), self.left_out: gr.update(visible=bool(view.left_out)),
            self.reasons: views.reason_bars(view), self.table: views.left_out_table(view), self.sha: view.sha256,
        } | self._plotted(view) | row  # fmt: skip

    def _plotted(self, view: DataView) -> Updates:
        width, sides = views.histograms(view)
        return {
            plot: gr.update(value=pd.DataFrame(sides.get(side, []), columns=["tokens", "pairs"]), x_bin=width,
                            visible=side in sides)
            for plot, side in zip(self.plots, views.SIDES, strict=True)
        }  # fmt: skip

    def _shown(self, view: DataView, row: int) -> Updates:
        """What stands in a row: the pair, or the row as it is where it makes none."""
        updates: Updates = {self.number: row, self.title: views.row_title(view, row),
                            self.pair: gr.update(visible=view.pair is not None),
                            self.raw: gr.update(value=view.raw, visible=bool(view.raw))}  # fmt: skip
        if view.pair is None:
            return updates
        chosen, rejected = self.seen
        return updates | {
            self.chat: as_blocks(view.pair.prompt), self.diff: views.diff(view.pair),
            chosen: views.seen(view.pair.chosen_spans),
            rejected: gr.update(value=views.seen(view.pair.rejected_spans), visible=bool(view.pair.rejected)),
        }  # fmt: skip
