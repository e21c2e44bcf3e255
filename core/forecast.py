"""What the phases of a run come to in seconds, and what is left of them at the pace that the run itself shows.

Knows neither the model nor the machine: it is told what a pass through the model costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.runs import Phase


@dataclass(frozen=True)
class Line:
    """Seconds of one pass: of any pass at all, of each token in it, and of each whose log-probability is asked for."""

    call_s: float
    token_s: float
    scored_s: float = 0.0

    @classmethod
    def through(cls, points: Sequence[tuple[int, float]], scored_s: float = 0.0) -> "Line":
        """Through the last two of (tokens, seconds), as far as a timing that shook lets it rise."""
        (few, little_s), (many, much_s) = points[-2:]
        token_s = max(much_s - little_s, 0.0) / (many - few)
        return cls(max(much_s - many * token_s, 0.0), token_s, scored_s)

    def of(self, tokens: int, scored: int = 0) -> float:
        return self.call_s + self.token_s * tokens + self.scored_s * scored


@dataclass(frozen=True)
class Costs:
    """What a pass forward costs, and one forward and back, as a step of training takes it."""

    forward: Line
    step: Line


# Where only what phases cost beside each other counts; in tokens of a pass forward, as the starter model took them.
TYPICAL = Costs(forward=Line(25.0, 1.0), step=Line(70.0, 2.6))


@dataclass(frozen=True)
class Forecast:
    """Seconds by phase, in the order of the phases; `steps_s` are training's, each with the look that follows it."""

    phases: Mapping[Phase, float] = field(default_factory=dict)
    steps_s: Sequence[float] = ()

    @property
    def total_s(self) -> float:
        return sum(self.phases.values())

    def left_s(self, phase: Phase, began: int, done: int, total: int, elapsed_s: float) -> float | None:
        """Seconds to the run's end, where `elapsed_s` brought the phase from `began` to `done` of `total`.

        What is left of the phase and the phases after it all go on at the pace so far; None before there is one.
        """
        gone = self._work(phase, done, total) - self._work(phase, began, total)
        if gone <= 0:
            return None
        order = list(self.phases)
        later = order[order.index(phase) + 1 :] if phase in order else []
        left = self._work(phase, total, total) - self._work(phase, done, total)
        return elapsed_s / gone * (left + sum(self.phases[name] for name in later))

    def _work(self, phase: Phase, done: int, total: int) -> float:
        if phase is Phase.TRAINING and len(self.steps_s) == total:
            return sum(self.steps_s[:done])
        return self.phases.get(phase, 1.0) * done / total if total else 0.0
