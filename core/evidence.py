"""What is known of a run while it goes on and after it: the evidence that the coach's rules judge, and their cards.

Figures that are missing, damaged or not finite are left out here, so that no rule meets one. Knows no rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from core import paths, runs, timeline
from core.settings import Method
from core.timeline import Timeline

# Under so many steps past the start, a batch or two would decide.
LEAST_STEPS = 8
# Margins, losses and gradients of the warm-up say nothing yet, and no run is judged before a tenth of it is done.
START_SHARE = 0.1
# No figure of a run comes near it, and sums of what is beyond are no numbers.
LARGEST = 1e30


@dataclass(frozen=True)
class Evidence:
    """A run as far as it has come. `rows` are its metrics in TRL's names, `facts` what is known of its data, `result`
    its held-out figures once they are there; `steps` is how many there will be."""

    method: str
    steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    timeline: Timeline = Timeline()
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_dpo(self) -> bool:
        return self.method != Method.SFT

    @property
    def share_done(self) -> float:
        """0 where nothing is known."""
        return max(self.every("step"), default=0.0) / self.steps if self.steps > 0 else 0.0

    @property
    def held_out(self) -> tuple[float, int] | None:
        """The last look's reward accuracy, and of how many held-out pairs; None before the first."""
        for row in reversed(self.rows):
            accuracy, pairs = number(row, "eval_reward_accuracy"), number(row, "eval_n")
            if accuracy is not None and 0 <= accuracy <= 1 and pairs is not None and pairs >= 1:
                return accuracy, int(pairs)
        return None

    def every(self, name: str, after: float = 0.0) -> list[float]:
        """The figure of every step after the one that is named."""
        rows = (row for row in self.rows if (step := number(row, "step")) is not None and step > after)
        return [value for row in rows if (value := number(row, name)) is not None]

    def since_start(self, name: str) -> list[float]:
        """The figure of every step after the warm-up and the first tenth."""
        return self.every(name, after=max(START_SHARE, number(self.settings, "warmup") or 0.0) * self.steps)

    def recent(self, name: str) -> list[float]:
        """The later half of `since_start`, and LEAST_STEPS at least; nothing where there are fewer."""
        values = self.since_start(name)
        return values[-max(LEAST_STEPS, len(values) // 2) :] if len(values) >= LEAST_STEPS else []

    def mean(self, name: str) -> float | None:
        """The mean of `recent`, None where there is none."""
        values = self.recent(name)
        return fmean(values) if values else None


@dataclass(frozen=True)
class Card:
    """One piece of advice. `change` holds the settings that its button sets for the next run (`method` may be among
    them), and is empty where there is nothing to set. `source` says where the rule comes from."""

    rule: str
    title: str
    seen: str
    means: str
    do: str
    change: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


def number(values: Mapping[str, Any], name: str) -> float | None:
    """A finite number of that name; None where there is anything else."""
    value = values.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not -LARGEST < value < LARGEST:
        return None
    return float(value)


def evidence_of(name: str) -> Evidence:
    """The run of that name, as it stands on disk."""
    run = runs.read_run(name)
    config = paths.run_dir(name) / "run.yaml"
    settings = runs.read_config(config).get("settings") if config.is_file() else None
    settings = settings if isinstance(settings, dict) else {}
    return Evidence(
        run.method, run.steps, settings, runs.read_metrics(name), run.facts, timeline.read(name), run.result
    )
