"""What the page may show of a comparison at this moment, as plain values that can be told apart.

Reads a comparison and the worker; no component. Nothing that tells who is who leaves here before its
time: the pair to vote on is two texts by side, and there are no results until all is revealed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.compare import Card, Counts
from core.results import Results
from core.standing import Plan
from core.ui.compare_worker import ComparisonWorker, Progress


@dataclass(frozen=True)
class Scene:
    """A moment of a comparison; `card` and `results` are None where there is none to show.

    `failed`: why pairs lack a verdict of the judge, with how many each.
    """

    plan: Plan
    counts: Counts
    name: str = ""
    is_running: bool = False
    is_stopping: bool = False
    progress: Progress | None = None
    can_go_on: bool = False
    can_undo: bool = False
    can_end: bool = False
    card: Card | None = None
    results: Results | None = None
    failed: Mapping[str, int] = field(default_factory=dict)
    failure: str = ""
    judge_stopped: str = ""

    @property
    def is_unfinished(self) -> bool:
        """It is on its way, or something of it waits for the person."""
        return self.results is None


def look(worker: ComparisonWorker) -> Scene | None:
    """The scene now; None before the first comparison."""
    is_running = worker.is_running
    comparison = worker.current()
    if comparison is None:
        return None
    plan, counts, results = comparison.plan, comparison.counts(), comparison.results()
    is_judged = not plan.judge_model or counts.judged == counts.total
    is_lacking = counts.answered < counts.total or not is_judged
    # What was ended early stays as it is, and a judge that gave up is asked again by its reason.
    is_over = results is not None and (results.is_early or bool(comparison.judge_stopped))
    waiting = comparison.pending()
    return Scene(
        plan=plan,
        counts=counts,
        name=comparison.path.stem,
        is_running=is_running,
        is_stopping=worker.is_stopping,
        progress=worker.progress if is_running else None,
        can_go_on=is_lacking and not is_running and not is_over,
        can_undo=counts.voted > 0 and results is None,
        can_end=counts.answered > 0 and results is None and not is_running,
        card=comparison.card(waiting[0]) if waiting else None,
        results=results,
        failed={} if is_running else comparison.failed(),
        failure=worker.failure,
        judge_stopped=comparison.judge_stopped,
    )
