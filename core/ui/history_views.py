"""The history in words, rows and numbers: a row a run, one run's headline, several runs on one plot.

Pure: no gradio, no disk.
"""

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any

from core.history import sparkline
from core.runs import DAMAGED, Run, RunStatus
from core.ui.curves import Mark, logged, smooth, thin
from core.ui.plan_views import METHOD_NAMES
from core.ui.run_views import data_name
from core.ui.views import MARKS, as_text

HISTORY = ("Run", "Status", "Curve", "Held-out accuracy", "One next step", "Note", "Trained", "Started")
WIDTHS = ["13%", "11%", "19%", "12%", "8%", "11%", "18%", "8%"]
MAX_NOTE = 60
# What several runs can be laid over each other in, by the name under which it is logged, and how much it is smoothed.
OVERLAID = {
    "Loss": ("loss", 0.6), "Reward margin": ("rewards/margins", 0.6), "Reward accuracy": ("rewards/accuracies", 0.6),
    "Held-out accuracy": ("eval_preference_accuracy", 0.0),
}  # fmt: skip
# What each of the runs laid over each other is called in plot and table.
LETTERS = "ABCDE"

Rows = Sequence[Mapping[str, Any]]


def history_row(run: Run, note: str, curve: str) -> list[str]:
    """Of a run that goes on nothing that changes at every step: the table must hold still while it is read."""
    try:
        figures = [_accuracy(run.result), _trait(run.result)]
    except (TypeError, ValueError, KeyError, AttributeError):  # one damaged run must not hide the others
        return history_row(replace(run, status=RunStatus.FAILED, result={}, reason=DAMAGED), note, curve)
    return [
        run.name, status_words(run), curve, *figures, shorten(note, MAX_NOTE, placeholder=" …"), trained_words(run),
        when(run.created_at),
    ]  # fmt: skip


def trained_words(run: Run) -> str:
    """How, on what data and what base."""
    parts = (METHOD_NAMES.get(run.method, run.method), data_name(run.dataset), data_name(run.base))
    return " · ".join(filter(None, parts))


def status_words(run: Run) -> str:
    """The status, with what a person would ask next."""
    mark = MARKS[run.status]
    if run.reason == DAMAGED:
        return f"{mark} damaged"
    if run.is_alive or run.status is RunStatus.FINISHED or not run.steps:
        return f"{mark} {run.status}"
    return f"{mark} {run.status} at {run.step} of {run.steps}"


def curve_words(run: Run, rows: Rows) -> str:
    """The margin of a DPO run, else the loss: its first and last tenth, and its shape in between."""
    name, words = ("rewards/margins", "margin") if run.method == "dpo" else ("loss", "loss")
    values = [value for _, value in logged(rows, name)]
    shape = sparkline(values)
    if not shape:
        return ""
    tenth = max(1, len(values) // 10)
    first, last = (math.fsum(part) / tenth for part in (values[:tenth], values[-tenth:]))
    return f"{shape} {words} {first:.2f} → {last:.2f}"


def _accuracy(result: Mapping[str, Any]) -> str:
    base, tuned = result.get("preference_accuracy_base"), result.get("preference_accuracy_tuned")
    return "" if base is None or tuned is None else f"{base:.2f} → {tuned:.2f} (n={result.get('held_out')})"


def _trait(result: Mapping[str, Any]) -> str:
    trait = result.get("trait") or {}
    return "" if trait.get("skipped", True) else f"{trait['base']} → {trait['tuned']} of {trait['n']}"


def when(iso: str) -> str:
    try:
        return datetime.datetime.fromisoformat(iso).strftime("%d %b %H:%M")
    except ValueError:
        return ""


def headline(run: Run) -> str:
    """One run's name and state, in Markdown."""
    reason = f"\n\n{as_text(run.reason)}" if run.reason else ""
    return f"### {as_text(run.name)}\n{status_words(run)} · {as_text(trained_words(run))}{reason}"


def losses_words(name: str, losses: Sequence[str]) -> str:
    """What is asked before a run is deleted, in Markdown."""
    said = " ".join(as_text(sentence) for sentence in losses)
    return f"**Delete {as_text(name)}?** Its adapter, its curves and its checkpoints are gone then. {said}".strip()


def overlay(runs: Sequence[Rows], curve: str) -> list[Mark]:
    """The chosen curve of each run as a line, under its letter."""
    name, weight = OVERLAID[curve]
    return [
        (step, float(f"{value:.4g}"), letter)
        for letter, rows in zip(LETTERS, runs, strict=False)
        for step, value in thin(smooth(logged(rows, name), weight))
    ]


def difference_heads(names: Sequence[str]) -> list[str]:
    return ["Setting", *(f"{letter}: {name}" for letter, name in zip(LETTERS, names, strict=False))]


def legend(names: Sequence[str]) -> str:
    """Which letter is which run, in Markdown."""
    return " · ".join(f"**{letter}** {as_text(name)}" for letter, name in zip(LETTERS, names, strict=False))
