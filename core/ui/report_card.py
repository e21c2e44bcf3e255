"""What a run was made of, and how to make it again: the report's small print.

Shown once the run is over; its verdict, curves, advice and timeline stand above it.
"""

import shutil
from collections.abc import Mapping
from typing import Any

import gradio as gr

from core import history, paths
from core.runs import Run
from core.settings import TRAINING
from core.ui import run_files
from core.ui.parts import Made, Updates
from core.ui.plan_views import METHOD_NAMES, shown_value
from core.ui.run_views import data_name
from core.ui.views import as_text, count, duration, size

SHORT = 12
HOW = "The same command gives the same adapter, bit for bit on the same machine. Type it in the project's folder."

SEVERAL = (
    "On two GPUs, one process each. A step learns from processes × batch size × accumulation pairs: divide the batch "
    "size by the number of processes, and every step sees the pairs that it saw here; where only the accumulation can "
    "be divided, it sees as many, though not the same ones together."
)


class ReportCard:
    def build(self) -> None:
        with gr.Column(visible=False, elem_classes="card", elem_id="report") as self.card:
            gr.Markdown("### What it was made of")
            with gr.Row():
                self.made_of = gr.Markdown("", elem_id="report-facts", elem_classes="report-table", min_width=320)
                self.settings = gr.Markdown("", elem_id="report-settings", elem_classes="report-table", min_width=320)
            gr.Markdown(f"### Reproduce\n{HOW}", elem_classes="note")
            self.command = _command("reproduce")
            with gr.Column(visible=False) as self.several:
                gr.Markdown(SEVERAL, elem_classes="note")
                self.launch = _command("launch")
            with gr.Row(elem_classes="actions"):
                self.download = gr.DownloadButton("run.yaml", size="sm", elem_id="run-yaml")

    def view(self, run: Run | None) -> Updates:
        config = run_files.config(run.name) if run and not run.is_alive else {}
        if run is None or not config:
            return {
                self.card: gr.update(visible=False), self.made_of: "", self.settings: "", self.command: "",
                self.several: gr.update(visible=False), self.launch: "", self.download: gr.update(value=None),
            }  # fmt: skip
        launch = history.launch_command(run.name)
        return {
            self.card: gr.update(visible=True), self.made_of: table(facts_of(run, config)),
            self.settings: table(settings_of(config)), self.command: history.reproduce_command(run.name),
            self.several: gr.update(visible=bool(launch)), self.launch: launch,
            self.download: Made((run.name, run_files.stamp(run.name, run_files.CONFIG)), _copied),
        }  # fmt: skip


def _command(elem_id: str) -> gr.Code:
    return gr.Code("", language="shell", interactive=False, show_label=False, lines=1, wrap_lines=True,
                   show_line_numbers=False, buttons=["copy"], elem_id=elem_id)  # fmt: skip


def facts_of(run: Run, config: Mapping[str, Any]) -> dict[str, str]:
    """What was trained on what, at what cost; only what is known."""
    facts, digest = run.facts, str(config.get("data_sha256") or "")
    pairs = facts.get("pairs", run.result.get("pairs"))
    known = {
        "Method": METHOD_NAMES.get(run.method, run.method),
        "Base": run.base,
        "Starts from": str(config.get("from_adapter") or ""),
        "Data": data_name(run.dataset),
        "SHA-256 of the data": digest[:SHORT] + "…" if digest else "",
        "Trained on": count(pairs, "pair") if pairs else "",
        "Held out": count(run.result["held_out"], "pair") if run.result.get("held_out") else "",
        "Cut at max length": _cut(facts),
        "Steps": f"{run.step} of {run.steps}" if run.steps else "",
        "Time": duration(run.train_s) if run.train_s else "",
        "Memory at most": size(run.peak_memory_bytes) if run.peak_memory_bytes else "",
    }
    return {name: value for name, value in known.items() if value}


def _cut(facts: Mapping[str, Any]) -> str:
    cut, replies = facts.get("cut_replies"), facts.get("replies")
    return f"{cut:,} of {count(replies, 'reply', 'replies')}" if cut is not None and replies else ""


def settings_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings that the run heeded, by their labels, as their fields show them."""
    settings = config["settings"]
    heeds_noise = str(settings.get("loss", "")).startswith("robust")
    return {_label(name): _shown(name, value) for name, value in settings.items()
            if name != "label_smoothing" or heeds_noise}  # fmt: skip


def _label(name: str) -> str:
    known = TRAINING.get(name)
    return str(name) if known is None else f"{known.label} ({known.unit})" if known.unit else known.label


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(shown_value(TRAINING[name], value) if name in TRAINING else value)


def table(rows: Mapping[str, str]) -> str:
    """Two columns in Markdown, whose cells are text."""
    lines = [f"| {as_text(name)} | {as_text(value)} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _copied(of: tuple[str, run_files.Stamp]) -> Any:
    return gr.update(value=str(shutil.copy(paths.run_dir(of[0]) / run_files.CONFIG, paths.new_page_dir())))
