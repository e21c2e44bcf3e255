"""What a comparison came to, once all is revealed: sentences, pictures, the table, each pair, the files.

Shows a comparison's `Results` in the report's words; computes none of it.
"""

import shutil
from functools import partial
from typing import Any

import gradio as gr

from core import paths
from core.errors import RequestError
from core.export import write_csv
from core.judge import BASE, TUNED
from core.report import NOTHING, arm_sentence, headline, sections
from core.results import Results
from core.standing import Decider
from core.ui import compare_plots as plots
from core.ui import compare_views as views
from core.ui.compare_scene import Scene
from core.ui.compare_worker import ComparisonWorker
from core.ui.notices import show, shows_errors
from core.ui.parts import QUIET, Made, Updates, hide, picked
from core.ui.views import as_text
from core.vote_pairs import write_pairs

PAIR_LINES = 12
EXPORTS = {
    Decider.HUMAN: "Export your votes as preference pairs",
    Decider.JUDGE: "Export Gemini's verdicts as preference pairs",
}


class ResultsPanel:
    def __init__(self, worker: ComparisonWorker) -> None:
        self.worker = worker

    def build(self) -> None:
        with gr.Column(visible=False, elem_id="results") as self.panel:
            with gr.Column(elem_classes="card"):
                self.headline = gr.Markdown("", elem_id="result-headline")
                self.nothing = gr.HTML("", elem_id="result-nothing")
                self.bars = gr.HTML("", elem_id="result-bars")
                self._build_files()
            with gr.Row(elem_classes="pictures"):
                with gr.Column(elem_classes="card", scale=3, min_width=380):
                    gr.Markdown("### Win rates, with their doubt")
                    self.intervals = gr.HTML("", elem_id="result-intervals")
                with gr.Column(elem_classes="card", scale=2, min_width=300):
                    gr.Markdown("### Lengths")
                    self.scatter = gr.HTML("", elem_id="result-scatter")
            with gr.Column(elem_classes="card"):
                self.sections = gr.HTML("", elem_id="result-sections")
            with gr.Column(elem_classes="card"):
                gr.Markdown("### Every pair\nChoose a row to read it.")
                self.table = gr.Dataframe(
                    [], headers=views.TABLE_HEADERS, datatype="str", interactive=False, wrap=True, max_height=420,
                    column_widths=views.TABLE_WIDTHS, show_label=False, buttons=[], elem_id="result-table",
                    elem_classes="words-table",
                )  # fmt: skip
                self._build_pair()
            self.sealed = gr.Markdown("", elem_id="result-seal", elem_classes="caption")
        self.outputs = list(self.view(None))

    def _build_files(self) -> None:
        with gr.Row(elem_classes="actions"):
            self.files = {
                ".csv": gr.DownloadButton("Download CSV", elem_id="result-csv", variant="primary", size="md"),
                ".log": gr.DownloadButton("Log", elem_id="result-log", size="md"),
                ".jsonl": gr.DownloadButton("Journal", elem_id="result-journal", size="md"),
            }
            self.exports = {
                by: (gr.Button(words, elem_id=f"export-{by}", size="md"), gr.State(by.value))
                for by, words in EXPORTS.items()
            }
        self.exported = gr.Markdown("", visible=False, elem_id="result-exported")

    def _build_pair(self) -> None:
        with gr.Column(visible=False, elem_id="result-pair") as self.pair:
            self.asked = gr.Textbox(label="Prompt", lines=2, max_lines=6, interactive=False, elem_classes="asked")
            with gr.Row(equal_height=True):
                self.base, self.tuned = (
                    gr.Textbox(
                        label=name, lines=PAIR_LINES, max_lines=PAIR_LINES, interactive=False, autoscroll=False,
                        elem_classes="response", elem_id=f"pair-{name}", min_width=320,
                    )
                    for name in (BASE, TUNED)
                )  # fmt: skip
            self.notes = gr.Textbox(label="Verdicts", lines=2, max_lines=10, interactive=False, elem_id="pair-notes",
                                    elem_classes="response")  # fmt: skip
            self.diff = gr.HighlightedText(
                label=f"Word by word: {views.ONLY_BASE} only base says it, {views.ONLY_TUNED} only tuned says it",
                color_map=views.DIFF_COLOURS, show_legend=False, elem_id="pair-diff",
            )  # fmt: skip

    def wire(self) -> None:
        opened = [self.pair, self.asked, self.base, self.tuned, self.notes, self.diff]
        self.table.select(self.open_row, None, opened, **QUIET)
        for button, by in self.exports.values():
            button.click(self.export, by, self.exported, **QUIET)

    def view(self, scene: Scene | None) -> Updates:
        name = scene.name if scene and scene.results else ""
        # A new comparison closes the pair that was open, and what was said of its files.
        closed = {self.pair: Made(name, hide), self.exported: Made(name, hide)}
        if scene is None or scene.results is None:
            empty = (self.headline, self.bars, self.intervals, self.scatter, self.sections, self.sealed)
            return {
                self.panel: gr.update(visible=False), self.nothing: gr.update(value="", visible=False), self.table: [],
                **dict.fromkeys(empty, ""), **dict.fromkeys(self.files.values(), gr.update(value=None)),
                **{button: gr.update(visible=False) for button, _ in self.exports.values()}, **closed,
            }  # fmt: skip
        return self._pictures(scene.results) | self._downloads(scene, scene.results) | closed

    def _pictures(self, results: Results) -> Updates:
        told = dict(sections(results))
        nothing = plots.called_nothing(told.pop(NOTHING, []))
        return {
            self.panel: gr.update(visible=True), self.headline: f"## {as_text(headline(results))}",
            self.nothing: gr.update(value=nothing, visible=bool(nothing)), self.bars: plots.outcome_bars(results),
            self.intervals: plots.interval_plot(results), self.scatter: plots.length_scatter(results),
            self.sections: plots.blocks(_unsaid(told, results), results.agreement), self.table: views.table(results),
            self.sealed: views.seal_sentence(results.plan.commitment, results.nonce),
        }  # fmt: skip

    def _downloads(self, scene: Scene, results: Results) -> Updates:
        # What may still change in them, should the judge be asked again; the journal says it in any case.
        written = (scene.name, scene.counts, tuple(scene.failed.items()))
        by = {Decider.HUMAN: results.human, Decider.JUDGE: results.judge}
        return {
            **{button: Made(written, partial(self._file, ending)) for ending, button in self.files.items()},
            **{button: gr.update(visible=by[decider] is not None) for decider, (button, _) in self.exports.items()},
        }

    @shows_errors
    def open_row(self, event: gr.SelectData) -> Any:
        results = self._results()
        chosen, rows = picked(event), results.rows if results else ()
        row = next((row for row in rows if row.prompt_id == chosen), None)
        if row is None or results is None:
            raise RequestError("This row belongs to a comparison that is no longer shown. Choose one of the table.")
        return [
            gr.update(visible=True),
            row.prompt,
            gr.update(label=views.pair_label(BASE, row, results.cut), value=row.base_response),
            gr.update(label=views.pair_label(TUNED, row, results.cut), value=row.tuned_response),
            views.pair_notes(row),
            views.word_diff(row.base_response, row.tuned_response),
        ]

    @shows_errors
    def export(self, by: str) -> Any:
        """Write what was decided as a file that Train takes, and say where it is and what to mind."""
        comparison = self.worker.current()
        if comparison is None or by not in set(Decider):
            raise RequestError("There is no result to export. Finish a comparison first.")
        exported = write_pairs(comparison.decided(Decider(by)), by, comparison.path)
        return gr.update(value=f"**Exported.** {as_text(exported.sentence)}", visible=True)

    def _results(self) -> Results | None:
        comparison = self.worker.current()
        return comparison.results() if comparison else None

    def _file(self, ending: str, _: object) -> Any:
        """The file of this ending, in a folder that Gradio hands out from."""
        comparison, results = self.worker.current(), self._results()
        if comparison is None or results is None:
            return gr.update(value=None)
        path = comparison.path.with_suffix(ending)
        try:
            copy = paths.new_page_dir() / path.name
            if ending == ".csv":
                write_csv(results.rows, copy)
            elif path.is_file():
                shutil.copy(path, copy)
        except OSError as error:  # a full disk keeps nobody from reading the result
            show(error)
            return gr.update(value=None)
        return gr.update(value=str(copy) if copy.is_file() else None)


def _unsaid(told: dict[str, list[str]], results: Results) -> list[tuple[str, list[str]]]:
    """The sections without the line that the headline has said already."""
    said = arm_sentence(results.primary) if results.primary else ""
    found = [(title, [line for line in lines if line != said]) for title, lines in told.items()]
    return [(title, lines) for title, lines in found if lines]
