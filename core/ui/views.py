"""What is known, as words and rows: the engine, the bases, a run and its numbers.

Pure: no gradio, no clock, no disk. Texts that came from elsewhere (names, reasons) are passed through
`as_text` by whoever puts them into Markdown, and that is here.
"""

import re
from collections.abc import Iterable, Sequence

from core.client import BaseCard, EnginePhase, EngineState
from core.paths import STARTER_NAME
from core.redact import redact
from core.runs import Phase, Run, RunStatus

NO_RUN = "No training yet"
STARTING = "Starting the engine. The page is ready already."
GB = 1e9


_LIVE = re.compile(r"[&<>\"'\\`*_\[\]!#|~$]")


def as_text(text: str) -> str:
    """`text`, without keys, such that a place that renders HTML and Markdown shows it letter by letter, on one line."""
    return _LIVE.sub(lambda m: f"&#{ord(m[0])};", " ".join(redact(text).encode(errors="replace").decode().split()))


def size(num_bytes: float) -> str:
    """14.5 GB, 270 MB: in powers of ten, as shops and disks say it."""
    return f"{num_bytes / GB:.1f} GB" if num_bytes >= 0.95 * GB else f"{num_bytes / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """A rough time for people: 40 s, 3 min, 1 h 20 min."""
    seconds = max(0, round(seconds))
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# --- the engine and the bases ---------------------------------------------------------------------------


def engine_line(state: EngineState) -> str:
    """The header's second line, in Markdown: what the engine does, on what, and why there."""
    if state.phase is EnginePhase.READY:
        where = " · ".join(as_text(part) for part in (state.device, state.dtype) if part)
        memory = f" · {size(state.memory_bytes)} in memory" if state.memory_bytes else ""
        reason = f" · {as_text(state.reason)}" if state.reason else ""
        return f"● **{as_text(state.base) or 'Ready'}** on {where}{memory}{reason}"
    if state.phase in (EnginePhase.FAILED, EnginePhase.DEAD):
        return f"✕ {as_text(state.message)}"
    share = "" if state.progress is None else f" · {state.progress:.0%}"
    return f"◌ {as_text(state.message)}{share}"


def base_label(label: str, size_bytes: int, fit: str) -> str:
    parts = [label, size(size_bytes) if size_bytes else "", fit if fit != "unknown" else ""]
    return " · ".join(part for part in parts if part)


def base_choices(bases: Iterable[BaseCard], state: EngineState) -> tuple[list[tuple[str, str]], str]:
    """(label, name) of every base, and the one that is resident; one that is not in the list is added."""
    # Before the engine has told, or where it cannot, the starter is a way to begin (again).
    choices = [(base_label(b.label, b.size_bytes, b.fit), b.name) for b in bases] or [("Starter model", STARTER_NAME)]
    if state.base and state.base not in [name for _, name in choices]:
        choices.append((state.base, state.base))
    return choices, state.base


# --- a run ----------------------------------------------------------------------------------------------

MARKS = {
    RunStatus.QUEUED: "○", RunStatus.RUNNING: "●", RunStatus.PAUSED: "Ⅱ", RunStatus.FINISHED: "✓",
    RunStatus.STOPPED: "■", RunStatus.INTERRUPTED: "✕", RunStatus.FAILED: "✕",
}  # fmt: skip


def newest(past: Sequence[Run]) -> Run | None:
    """The run that goes on, or else the first of the list, which is the last that did."""
    return next((run for run in past if run.is_alive), past[0] if past else None)


def run_chip(run: Run | None) -> tuple[str, bool]:
    """The header's chip for the newest run, and whether it leads anywhere."""
    if run is None:
        return NO_RUN, False
    said = [f"{MARKS[run.status]} {run.name}", progress_words(run) if run.is_alive else run.status.value]
    if run.is_alive and run.eta_s is not None:
        said.append(f"{duration(run.eta_s)} left")
    return " · ".join(said), True


def progress_words(run: Run) -> str:
    if run.status is RunStatus.QUEUED:
        return "waiting to start"
    if run.phase == Phase.TRAINING and run.steps:
        return f"step {run.step} of {run.steps}"
    if run.phase_total and run.phase in (Phase.PINNED, Phase.TRAIT):
        # Counted in what nobody counts in.
        return f"{run.phase}, {run.phase_done / run.phase_total:.0%}"
    if run.phase_total:
        return f"{run.phase} {run.phase_done} of {run.phase_total}"
    return run.phase or run.status.value
