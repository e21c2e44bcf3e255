"""What the page may show of a comparison at this moment, as plain values that can be told apart.

Reads a comparison and the worker; no component. Nothing that tells who is who leaves here before its
time: the pair to vote on is two texts by side, and rows come only once the sides are out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.compare import Card, Comparison, Row, Tally
from core.ui.compare_worker import Progress


class Worker(Protocol):
    failure: str

    @property
    def is_running(self) -> bool: ...
    @property
    def is_stopping(self) -> bool: ...
    @property
    def progress(self) -> Progress: ...
    def current(self) -> Comparison | None: ...


@dataclass(frozen=True)
class Pair:
    """The pair to vote on: its place from 1 on, and the card."""

    number: int
    total: int
    card: Card


@dataclass(frozen=True)
class Results:
    """All of it, once the sides are out. `human` is None where only the judge decides, `judge` where none does."""

    path: Path
    adapter: str
    base_model: str
    human: Tally | None
    judge: Tally | None
    rows: tuple[Row, ...]
    summary: tuple[str, ...]
    nonce: str


@dataclass(frozen=True)
class Scene:
    """A moment of a comparison; `pair` and `results` are None where there is none to show."""

    is_running: bool = False
    is_stopping: bool = False
    progress: Progress | None = None
    num_answered: int = 0
    num_judged: int = 0
    num_voted: int = 0
    num_prompts: int = 0
    has_judge: bool = False
    can_go_on: bool = False
    can_undo: bool = False
    commitment: str = ""
    pair: Pair | None = None
    results: Results | None = None
    failure: str = ""
    judge_stopped: str = ""

    @property
    def is_unfinished(self) -> bool:
        """Something of it still waits, for the person or for Go on."""
        return self.pair is not None or self.can_go_on


def look(worker: Worker) -> Scene | None:
    """The scene now; None before the first comparison."""
    is_running = worker.is_running
    comparison = worker.current()
    if comparison is None:
        return None
    plan, is_complete = comparison.plan, comparison.is_complete
    answered, judged, voted, total = comparison.progress()
    is_shown = is_complete or (plan.is_judge_only and not is_running and judged > 0)
    is_lacking = answered < total or (bool(plan.judge_model) and judged < total)
    return Scene(
        is_running=is_running,
        is_stopping=worker.is_stopping,
        progress=worker.progress if is_running else None,
        num_answered=answered,
        num_judged=judged,
        num_voted=voted,
        num_prompts=total,
        has_judge=bool(plan.judge_model),
        can_go_on=is_lacking and not is_running,
        can_undo=voted > 0 and not is_complete,
        commitment=plan.commitment,
        pair=_pair(comparison),
        results=_results(comparison) if is_shown else None,
        failure=worker.failure,
        judge_stopped=comparison.judge_stopped,
    )


def _pair(comparison: Comparison) -> Pair | None:
    waiting = comparison.pending()
    if not waiting:
        return None
    ids = [prompt.id for prompt in comparison.plan.prompts]
    index = ids.index(waiting[0])
    return Pair(index + 1, len(ids), comparison.cards(index))


def _results(comparison: Comparison) -> Results:
    plan = comparison.plan
    return Results(
        path=comparison.path,
        adapter=plan.adapter,
        base_model=plan.base_model,
        human=None if plan.is_judge_only else comparison.results("human"),
        judge=comparison.results("judge") if plan.judge_model else None,
        rows=tuple(comparison.rows()),
        summary=tuple(comparison.summary().sentences()),
        nonce=comparison.nonce,
    )
