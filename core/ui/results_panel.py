"""What a comparison came to, once the sides are out: sentences, bars, the table, each pair, the files.

Shows a `Results`; computes none of it.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from core.compare import Comparison
from core.errors import RequestError
from core.export import write_csv
from core.judge import BASE, TUNED
from core.ui import compare_views as views
from core.ui.compare_scene import Results, look
from core.ui.compare_worker import ComparisonWorker
from core.ui.notices import shows_errors
from core.ui.parts import QUIET, Part

PAIR_LINES = 12


class ResultsPanel:
    def __init__(self, worker: ComparisonWorker) -> None:
        self.worker = worker

    def build(self) -> None:
        with gr.Column(visible=False, elem_id="results") as self.panel:
            gr.Markdown("### Results")
            self.sentences = gr.Markdown("", elem_id="result-sentences")
            self.bars = gr.HTML("", elem_id="result-bars")
            self.table = gr.Dataframe(
                [], headers=views.TABLE_HEADERS, datatype="str", interactive=False, wrap=True, max_height=420,
                show_label=False, buttons=[], elem_id="result-table", elem_classes="words-table",
            )  # fmt: skip
            gr.Markdown("Choose a row to read its pair.", elem_classes="caption")
            self._build_pair()
            self.summary = gr.Textbox(
                label="Strengths and weaknesses, by Gemini", lines=4, max_lines=16, interactive=False,
                autoscroll=False, elem_id="result-summary", elem_classes="response",
            )  # fmt: skip
            with gr.Row():
                self.csv = gr.DownloadButton("Download CSV", elem_id="result-csv", variant="primary")
                self.log = gr.DownloadButton("Download the log", elem_id="result-log")
            self.sealed = gr.Markdown("", elem_id="result-seal", elem_classes="caption")
        self.parts = [
            Part(self.panel, lambda value: gr.update(visible=value)),
            Part(self.sentences, lambda value: value),
            Part(self.bars, lambda value: value),
            Part(self.table, lambda value: value),
            Part(self.summary, lambda value: gr.update(value=value, visible=bool(value))),
            Part(self.sealed, lambda value: value),
            Part(self.csv, self._csv_update),
            Part(self.log, self._log_update),
            # A new comparison closes the pair that was open.
            Part(self.pair, lambda value: gr.update(visible=False)),
        ]

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
            self.notes = gr.Textbox(label="Verdicts", lines=2, max_lines=10, interactive=False, elem_classes="response")

    def wire(self) -> None:
        self.table.select(self.open_row, None, [self.pair, self.asked, self.base, self.tuned, self.notes], **QUIET)

    def values(self, results: Results | None) -> list[Any]:
        """What the parts show, in their order."""
        if results is None:
            return [False, "", "", [], "", "", None, None, None]
        files = (str(results.path), results.human, results.judge)
        return [
            True, views.sentences(results.human, results.judge), views.bars(results.human, results.judge),
            views.table(results.rows), "\n".join(results.summary), views.seal_sentence(results.nonce),
            files, files, str(results.path),
        ]  # fmt: skip

    @shows_errors
    def open_row(self, event: gr.SelectData) -> Any:
        scene = look(self.worker)
        rows = scene.results.rows if scene and scene.results else ()
        row = next((row for row in rows if event.row_value and row.prompt_id == event.row_value[0]), None)
        if row is None:
            raise RequestError("This row belongs to a comparison that is no longer shown. Choose one of the table.")
        return [
            gr.update(visible=True),
            row.prompt,
            gr.update(label=views.pair_label(BASE, row), value=row.base_response),
            gr.update(label=views.pair_label(TUNED, row), value=row.tuned_response),
            views.pair_notes(row),
        ]

    def _csv_update(self, files: object) -> Any:
        comparison = self.worker.current()
        if files is None or comparison is None:
            return gr.update(value=None)
        path = _own_folder() / comparison.path.with_suffix(".csv").name
        write_csv(comparison.rows(), path)
        return gr.update(value=str(path))

    def _log_update(self, files: object) -> Any:
        comparison = self.worker.current()
        if files is None or comparison is None or not comparison.log_path.is_file():
            return gr.update(value=None)
        return gr.update(value=str(_copy(comparison)))


def _copy(comparison: Comparison) -> Path:
    return Path(shutil.copy(comparison.log_path, _own_folder()))


def _own_folder() -> Path:
    """Gradio hands out only what lies in a temporary folder; models/ stays closed to it."""
    return Path(tempfile.mkdtemp(prefix="playground-"))
