"""A run's rows as lines to draw: which plots there are, smoothed, and no more points than can be seen.

Pure: no gradio, no disk.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.settings import Method
from core.stats import wilson
from core.ui.views import count

# Twice as many points are sent for a line at most: the lowest and the highest of each stretch of steps.
MAX_STRETCHES = 75
EACH_STEP, SMOOTHED = "each step", "smoothed"
ALL = (Method.DPO, Method.SFT)

Point = tuple[int, float]
# Step, value, and which line it belongs to.
Mark = tuple[int, float, str]


@dataclass(frozen=True)
class Curve:
    """One plot. `lines` are the names under which its values are logged, and what each is called."""

    id: str
    title: str
    lines: tuple[tuple[str, str], ...]
    methods: tuple[Method, ...] = (Method.DPO,)
    is_first: bool = True
    is_smoothed: bool = True
    is_share: bool = False
    y_format: str | None = None


LOGPS = (("logps/chosen", "chosen"), ("logps/rejected", "rejected (dashed)"))
# Those that are seen first come first.
CURVES = (
    Curve("loss", "Loss", (("loss", ""),), ALL),
    Curve("margin", "Reward margin", (("rewards/margins", ""),)),
    Curve("accuracy", "Reward accuracy", (("rewards/accuracies", ""),), is_share=True),
    Curve("logps", "Log-probability of the replies", LOGPS),
    Curve("grad-norm", "Gradient norm", (("grad_norm", ""),), ALL, is_first=False),
    Curve("rate", "Learning rate", (("learning_rate", ""),), ALL, is_first=False, is_smoothed=False, y_format=".0e"),
    Curve("held-out-reward", "Held-out reward accuracy at looks", (("eval_reward_accuracy", ""),),
          is_first=False, is_smoothed=False, is_share=True),
    Curve("held-out-preference", "Held-out preference accuracy at looks", (("eval_preference_accuracy", ""),),
          (Method.SFT,), is_first=False, is_smoothed=False, is_share=True),
)  # fmt: skip


def held_out_words(rows: Sequence[Mapping[str, Any]], method: str) -> str:
    """The newest look's figure with its doubt, in Markdown; empty before the first one."""
    kind = "reward" if method == Method.DPO else "preference"
    name = f"eval_{kind}_accuracy"
    look = next((row for row in reversed(rows) if row.get("eval_n") and row.get(name) is not None), None)
    if look is None:
        return ""
    n, share = look["eval_n"], look[name]
    low, high = wilson(round(share * n), n)
    return (
        f"Held-out {kind} accuracy after step {look['step']}: **{share:.2f} ({low:.2f} to {high:.2f})**, on "
        f"{count(n, 'pair')}. A look measures no more of them than that; at the end all are measured."
    )


def marks(curve: Curve, rows: Sequence[Mapping[str, Any]], smoothing: float) -> list[Mark]:
    """The plot's points. A smoothed line keeps its unsmoothed one beneath it; where there are two, there is no room."""
    is_smoothed = curve.is_smoothed and smoothing > 0
    found: list[Mark] = []
    for name, called in curve.lines:
        points = logged(rows, name)
        if not is_smoothed or not called:
            found += _marked(points, called or EACH_STEP)
        if is_smoothed:
            found += _marked(smooth(points, smoothing), called or SMOOTHED)
    return found


def _marked(points: Sequence[Point], line: str) -> list[Mark]:
    # Four digits are what a plot and its tooltip can show.
    return [(step, float(f"{value:.4g}"), line) for step, value in thin(points)]


def logged(rows: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    """(step, value) of every row that logs a finite value under `name`."""
    points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
    return [(int(step), float(value)) for step, value in points if math.isfinite(value)]


def smooth(points: Sequence[Point], weight: float) -> list[Point]:
    """An exponential mean, in which the value before counts `weight` and every step counts alike at the start."""
    mean, total, found = 0.0, 0.0, []
    for step, value in points:
        mean = weight * mean + (1 - weight) * value
        total = weight * total + (1 - weight)
        found.append((step, mean / total))
    return found


def thin(points: Sequence[Point]) -> list[Point]:
    """Of each stretch of steps its lowest and its highest point, so that no spike is lost, and the last point of all.

    Stretches double as a run goes on, so that what is drawn already stays where it is.
    """
    width = 1
    while len(points) > MAX_STRETCHES * width:
        width *= 2
    if width == 1:
        return list(points)
    stretches = (points[k : k + width] for k in range(0, len(points), width))
    kept = {point for stretch in stretches for point in (min(stretch, key=_value), max(stretch, key=_value))}
    return sorted(kept | {points[-1]})


def _value(point: Point) -> float:
    return point[1]
