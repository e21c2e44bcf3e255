"""Train, third part: every run there is, what can be done with one of them, and several laid over each other."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from core import history, paths
from core.client import EngineClient
from core.errors import RequestError
from core.runs import Run, read_run
from core.ui import history_views as views
from core.ui import run_files
from core.ui.curve_plots import frame
from core.ui.notices import shows_errors
from core.ui.parts import LOOK, QUIET, Updates, hide, picked
from core.ui.run_views import is_resumable
from core.ui.takeaway_panel import TakeawayPanel

NO_HISTORY = "**Nothing trained yet.** Every run is listed here, with its figures, as soon as it begins."
HISTORY_NOTE = "Choose a row to open the run, to note something, to rename, resume or delete it, or to take it along."
OLD_NAME = "Comparisons and merged models made before keep the old name."
CHOOSE = "Choose two to five runs."
NOT_LOGGED = "None of these runs has logged that."
COLOURS = dict(zip(views.LETTERS, ("#1f8a76", "#b5701f", "#6a6fc8", "#b24a6e", "#7d7a70"), strict=True))
# A plot keeps the letters that it was first drawn with, and a line with another would not be there.
EVERY_LETTER = [(float("nan"), float("nan"), letter) for letter in views.LETTERS]


class HistoryPanel:
    """`outputs` are what a `view` fills. `opened` is the button that leads to the run whose name is in `picked`."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client
        self.takeaway = TakeawayPanel(client)
        # A finished run's rows stay as they are: one reading of them is enough.
        self._curves: dict[str, tuple[run_files.Stamp, str]] = {}

    def build(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.Markdown("### History")
            self.note = gr.Markdown(NO_HISTORY)
            self.table = gr.Dataframe(
                [], headers=list(views.HISTORY), datatype="str", interactive=False, wrap=True, max_height=520,
                elem_id="history", elem_classes="words-table", buttons=[], show_label=False, show_search="search",
                column_widths=views.WIDTHS,
            )  # fmt: skip
        self._build_picked()
        self._build_overlay()
        self.outputs = list(self.view(()))

    def _build_picked(self) -> None:
        self.picked = gr.State("")
        with gr.Column(visible=False, elem_classes="card", elem_id="picked") as self.card:
            self.headline = gr.Markdown("", elem_id="picked-headline")
            with gr.Row(elem_classes="actions"):
                self.opened = gr.Button("Open", variant="primary", elem_id="open-run")
                self.resume = gr.Button("Resume", elem_id="resume-picked")
                self.delete = gr.Button("Delete", variant="stop", elem_id="delete-run")
            with gr.Column(visible=False, elem_id="deleting", elem_classes="asking") as self.asking:
                self.question = gr.Markdown("")
                with gr.Row(elem_classes="actions"):
                    self.really = gr.Button("Really delete", variant="stop", elem_id="really-delete")
                    self.keep = gr.Button("Keep it")
            with gr.Row(elem_classes="edit"):
                self.said = gr.Textbox(label="Note", lines=1, max_lines=6, scale=3, elem_id="run-note",
                                       max_length=history.MAX_NOTE_CHARS)  # fmt: skip
                self.save = gr.Button("Save the note", scale=0, min_width=130, size="md", elem_id="save-note")
                self.name = gr.Textbox(label="Name", max_lines=1, scale=2, elem_id="run-name")
                self.rename = gr.Button("Rename", scale=0, min_width=100, size="md", elem_id="rename-run")
            self.takeaway.build()

    def _build_overlay(self) -> None:
        with gr.Column(elem_classes="card", elem_id="overlay"):
            gr.Markdown("### Side by side")
            with gr.Row():
                self.runs = gr.Dropdown(
                    [], value=[], multiselect=True, max_choices=len(views.LETTERS), label="Runs", info=CHOOSE, scale=2,
                    elem_id="overlay-runs",
                )  # fmt: skip
                self.curve = gr.Radio(
                    list(views.OVERLAID), value="Loss", label="Curve", elem_id="overlay-curve", scale=2
                )
            self.legend = gr.Markdown("", elem_id="overlay-legend")
            self.plot = gr.LinePlot(
                frame(EVERY_LETTER), x="step", y="value",
                color="line", color_map=COLOURS, color_title=" ", x_title="step", y_title=" ", height=300, buttons=[],
                visible=False, elem_id="overlay-plot", elem_classes="overlaid",
            )  # fmt: skip
            self.differences = gr.Dataframe(
                [], datatype="str", interactive=False, wrap=True, max_height=420, elem_id="differences", visible=False,
                elem_classes="words-table", buttons=[], label="What they differ in",
            )  # fmt: skip

    def wire(self, look: dict[str, Any], leads: Sequence[Any]) -> None:
        """`look` shows the page anew; `leads` are the outputs that lead to a run: the inner tabs, and its name."""
        shown = [self.picked, self.card, self.headline, self.resume, self.said, self.name, self.asking,
                 *self.takeaway.outputs]  # fmt: skip
        self.table.select(self.pick, None, shown, **QUIET)
        # The table changes when a run ends, and what can be done with the picked one may have too.
        self.table.change(self.follow, self.picked, [self.headline, self.resume], **QUIET)
        self.opened.click(self.open_run, self.picked, list(leads), **QUIET).then(**look)
        self.resume.click(self.resume_run, self.picked, list(leads), **QUIET).then(**look)
        self.save.click(self.save_note, [self.picked, self.said], None, **QUIET).then(**look)
        named = gr.on([self.rename.click, self.name.submit], self.rename_run, [self.picked, self.name], shown, **QUIET)
        named.then(**look)
        self.delete.click(self.ask, self.picked, [self.asking, self.question], **QUIET)
        self.keep.click(hide, None, self.asking, **QUIET)
        self.really.click(self.delete_run, self.picked, self.card, **QUIET).then(**look)
        drawn = [self.plot, self.legend, self.differences]
        gr.on([self.runs.input, self.curve.input], self.lay_over, [self.runs, self.curve], drawn, **LOOK)
        self.takeaway.wire(self.picked)

    # --- what is shown ------------------------------------------------------------------------------------

    def view(self, past: Sequence[Run]) -> Updates:
        return {
            self.note: HISTORY_NOTE if past else NO_HISTORY,
            self.table: [views.history_row(run, history.read_note(run.name), self._curve(run)) for run in past],
            self.runs: gr.update(choices=[run.name for run in past]),
        }

    def _curve(self, run: Run) -> str:
        if run.is_alive:
            return ""
        stamp = run_files.stamp(run.name, run_files.METRICS)
        if self._curves.get(run.name, (None, ""))[0] != stamp:
            self._curves[run.name] = stamp, views.curve_words(run, run_files.rows(run.name))
        return self._curves[run.name][1]

    def _shown(self, name: str) -> list[Any]:
        run = read_run(name)
        return [
            name, gr.update(visible=True), views.headline(run), gr.update(visible=is_resumable(run)),
            history.read_note(name), name, gr.update(visible=False), *self.takeaway.reset(name),
        ]  # fmt: skip

    # --- handlers -----------------------------------------------------------------------------------------

    @shows_errors
    def pick(self, event: gr.SelectData) -> Any:
        return self._shown(picked(event))

    @shows_errors
    def follow(self, name: str) -> Any:
        """The picked run as it stands now."""
        if not name or not paths.run_dir(name).is_dir():
            return [gr.skip(), gr.skip()]
        run = read_run(name)
        return [views.headline(run), gr.update(visible=is_resumable(run))]

    @shows_errors
    def open_run(self, name: str) -> Any:
        read_run(name)
        return [gr.Tabs(selected="run"), name]

    @shows_errors
    def resume_run(self, name: str) -> Any:
        self.client.resume_run(name)
        return [gr.Tabs(selected="run"), name]

    @shows_errors
    def save_note(self, name: str, text: str | None) -> None:
        history.note(name, text or "")
        gr.Info("The note is kept in the run's folder.", title="Saved")

    @shows_errors
    def rename_run(self, name: str, new: str | None) -> Any:
        history.rename(name, (new or "").strip())
        gr.Info(OLD_NAME, title="Renamed")
        return self._shown((new or "").strip())

    @shows_errors
    def ask(self, name: str) -> Any:
        return [gr.update(visible=True), views.losses_words(name, history.losses(name))]

    @shows_errors
    def delete_run(self, name: str) -> Any:
        history.delete(name)
        return gr.update(visible=False)

    @shows_errors
    def lay_over(self, names: list[str] | None, curve: str) -> Any:
        """One line a run, and only the settings in which they differ."""
        names = names or []
        if len(names) > len(views.LETTERS) or curve not in views.OVERLAID:
            raise RequestError(CHOOSE)
        if len(names) < 2:
            return [gr.update(visible=False), CHOOSE if names else "", gr.update(visible=False)]
        differences = history.differences(names) or [["nothing", *[""] * len(names)]]
        marks = views.overlay([run_files.rows(name) for name in names], curve)
        return [
            # Its title stays as it is: changed together with the lines, it may stand over those of before.
            gr.update(value=frame([*EVERY_LETTER, *marks]), visible=bool(marks)),
            views.legend(names) if marks else NOT_LOGGED,
            gr.update(headers=views.difference_heads(names), value=differences, visible=True),
        ]
